//! The handle.

mod builder;
mod follow;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus,
    bus::{
        Appended, BusError, BusReceiver, Excerpt, History, IdempotencyKey, KeptState, NewState, Outcome, Position,
        ReadFrom, Retention, States, Topic,
    },
    reports::LinkReport,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

pub use self::builder::{ConnectError, RedisBusBuilder};
use crate::{
    channels::Channel,
    health::Health,
    history::{self, Append, Call},
    link::Link,
    links::Links,
    publisher,
    queue::Bound,
    routes::Routes,
    server::Server,
    shared::Shared,
    states, subscriber,
};

/// The bus over Redis: a cheap handle, of which the manager gets one and a health page another.
///
/// Two connections to Redis, one that publishes and one that subscribes, are each kept up by a task; in a cluster two to
/// each node that has slots. They end with the last handle, or with [`close`](Bus::close). One bus belongs to one manager.
#[derive(Clone)]
pub struct RedisBus {
    inner: Arc<Inner>,
}

struct Inner {
    links: Arc<Links>,
    /// What follows the cluster, if it is one.
    cluster: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn stop(&self) {
        if let Some(task) = &self.cluster {
            task.abort();
        }
        self.links.stop();
    }
}

/// Starts the tasks of a link's two connections.
fn run(links: &Arc<Links>, link: &Arc<Link>, generation: u64) -> [AbortHandle; 2] {
    let runtime = &links.shared.runtime;
    let publisher = runtime.spawn(publisher::supervise(Arc::clone(links), Arc::clone(link)));
    let subscriber = runtime.spawn(subscriber::supervise(Arc::clone(links), Arc::clone(link), generation));
    [publisher.abort_handle(), subscriber.abort_handle()]
}

impl RedisBus {
    /// Connects to a Redis, such as `redis://:password@host:6379`, with all defaults.
    ///
    /// # Errors
    /// As [`RedisBusBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// Begins a bus for a URL: `redis://`, or `rediss://` with the feature `tls`, or `redis+unix://`.
    ///
    /// A database number in it is not used; see [`room_prefix`](RedisBusBuilder::room_prefix).
    pub fn builder(url: impl Into<String>) -> RedisBusBuilder {
        RedisBusBuilder::new(url.into())
    }

    /// Starts the tasks: for the one server, or for a cluster that is to be followed.
    fn run(shared: Arc<Shared>, routes: Arc<Routes>, server: Option<Server>) -> Self {
        let links = Links::new(shared, routes, run);
        let cluster = match (server, links.shared.nodes.clone()) {
            (Some(server), _) => {
                links.start_one(server);
                None
            }
            (None, nodes) => nodes.map(|nodes| links.shared.runtime.spawn(follow::follow(Arc::clone(&links), nodes))),
        };
        Self { inner: Arc::new(Inner { cluster: cluster.map(|task| task.abort_handle()), links }) }
    }

    fn all_links(&self) -> &Links {
        &self.inner.links
    }

    fn shared(&self) -> &Shared {
        &self.all_links().shared
    }

    /// How the bus is, for a health page. Asks nobody: it reads what is known.
    #[must_use]
    pub fn health(&self) -> Health {
        let Shared { status, counters, subscriptions, .. } = self.shared();
        let depths = self.all_links().all().into_iter().map(|link| link.queue.depth());
        let (queued_messages, queued_bytes) = depths.fold((0, 0), |sum, depth| (sum.0 + depth.0, sum.1 + depth.1));
        let (wanted, subscribed) = subscriptions.counts();
        Health {
            connected: status.is_up(),
            generation: status.generation(),
            round_trip: status.round_trip(),
            last_fault: status.last_fault(),
            queued_messages,
            queued_bytes,
            wanted,
            subscribed,
            refused: subscriptions.all_refusals(),
            published: counters.published.get(),
            unknown: counters.unknown.get(),
            overloaded: counters.overloaded.get(),
            received: counters.received.get(),
            unwanted: counters.unwanted.get(),
            oversized: counters.oversized.get(),
            unreceived: counters.unreceived.get(),
            subscriber_losses: counters.subscriber_losses.get(),
            publisher_losses: counters.publisher_losses.get(),
        }
    }

    /// The link of a topic's channel.
    fn link(&self, topic: &Topic) -> Result<(Channel, Arc<Link>), BusError> {
        let channel = self.channel(topic)?;
        // A slot that nobody serves is as a server that is away.
        let link = self.all_links().by_channel(&channel).ok_or(BusError::Down)?;
        Ok((channel, link))
    }

    fn check_length(&self, payload: &Bytes) -> Result<(), BusError> {
        let (length, most) = (payload.len(), self.shared().limits.max_payload_bytes);
        if length > most {
            let text = format!("the payload has {length} bytes, and at most {most} are allowed");
            return Err(BusError::Refused(text.into()));
        }
        Ok(())
    }

    fn count<T>(&self, outcome: Result<T, BusError>) -> Result<T, BusError> {
        match &outcome {
            Err(BusError::Unknown(_)) => self.shared().counters.unknown.count(),
            Err(BusError::Overloaded) => self.shared().counters.overloaded.count(),
            _ => {}
        }
        outcome
    }

    fn channel(&self, topic: &Topic) -> Result<Channel, BusError> {
        let channel = self.shared().names.channel(topic);
        channel.ok_or_else(|| BusError::Refused("this version knows no channel for such a topic".into()))
    }
}

#[async_trait]
impl Bus for RedisBus {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        if !self.shared().status.attach(receiver) {
            tracing::error!("a bus belongs to one manager, and this one has one already or is closed");
        }
    }

    fn subscribe(&self, topics: &[Topic]) {
        let mut named = Vec::with_capacity(topics.len());
        for topic in topics {
            match self.channel(topic) {
                Ok(channel) => named.push((channel, topic.clone())),
                Err(error) => self.shared().status.refused(topic.clone(), error),
            }
        }
        self.shared().subscriptions.subscribe(named);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        let channels = topics.iter().filter_map(|topic| self.shared().names.channel(topic)).collect();
        self.shared().subscriptions.unsubscribe(channels);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.check_length(&payload)?;
        let (channel, link) = self.link(topic)?;
        self.count(link.queue.publish(channel, payload, Bound::Bounded).await).map(drop)
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn states(&self) -> Option<&dyn States> {
        Some(self)
    }

    fn links(&self) -> Vec<LinkReport> {
        let Shared { status, subscriptions, .. } = self.shared();
        let mut links = self.all_links().all();
        links.sort_by_key(|link| link.id);
        let report = |link: Arc<Link>| {
            let mut report = status.link_report(link.id, &link.name)?;
            (report.queued_messages, report.queued_bytes) = link.queue.depth();
            report.subscribed = subscriptions.live(link.id);
            Some(report)
        };
        links.into_iter().filter_map(report).collect()
    }

    async fn close(&self) {
        let Shared { limits, status, .. } = self.shared();
        let begun = Instant::now();
        while !self.all_links().all().iter().all(|link| link.queue.is_idle())
            && begun.elapsed() < limits.response_timeout
        {
            sleep(Duration::from_millis(1)).await;
        }
        self.inner.stop();
        status.close();
    }
}

#[async_trait]
impl History for RedisBus {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        self.check_length(&payload)?;
        let (channel, link) = self.link(topic)?;
        let append = Append::new(payload, retention, None);
        self.count(link.queue.append(channel, append).await).map(|appended| appended.position())
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        self.check_length(&payload)?;
        let (channel, link) = self.link(topic)?;
        let append = Append::new(payload, retention, Some(key));
        self.count(link.queue.append(channel, append).await)
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        let (channel, link) = self.link(topic)?;
        let call = Call::read(&channel, from, retention);
        history::read(link.queue.call(channel, call).await?, retention)
    }
}

#[async_trait]
impl States for RedisBus {
    async fn set_state(&self, topic: &Topic, new: NewState) -> Result<Outcome, BusError> {
        self.check_length(&new.state)?;
        let (channel, link) = self.link(topic)?;
        let call = states::set(&channel, new, self.shared().pubsub);
        states::outcome(&self.count(link.queue.call(channel, call).await)?)
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        let (channel, link) = self.link(topic)?;
        let call = states::read(&channel, keep);
        states::kept(link.queue.call(channel, call).await?)
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { client_name, status, .. } = self.shared();
        f.debug_struct("RedisBus")
            .field("client_name", client_name)
            .field("up", &status.is_up())
            .finish_non_exhaustive()
    }
}
