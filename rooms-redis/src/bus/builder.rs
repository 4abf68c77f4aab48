//! Putting a bus together.

use std::{error::Error, fmt, sync::Arc};

use redis::RedisError;
use tokio::{runtime::Handle, time::timeout};

use super::RedisBus;
use crate::{
    access::{Access, address_of, lacks_tls, times},
    channels::{Names, is_plain},
    cluster::Nodes,
    fault::Fault,
    health::Counters,
    limits::RedisLimits,
    pubsub::PubSub,
    random,
    routes::Routes,
    sentinel::Sentinels,
    server::{Place, Server},
    shared::Shared,
    status::Status,
    subscriptions::Subscriptions,
};

/// What a [`RedisBus`] is made of. Nothing is checked, and nothing is connected, before [`connect`](Self::connect).
#[must_use]
pub struct RedisBusBuilder {
    url: String,
    sentinels: Vec<String>,
    cluster: Option<(Vec<String>, PubSub)>,
    tls_root: Option<Vec<u8>>,
    names: Names,
    client_name: Option<String>,
    limits: RedisLimits,
}

/// Why a bus can't be made. No variant repeats the URL, which has the password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A URL is none of Redis.
    #[error("a URL of Redis can't be read")]
    Url(#[source] Box<dyn Error + Send + Sync>),
    /// A URL asks for TLS, and TLS is not compiled in.
    #[error("`rediss://` needs TLS: enable the feature `redis-tls` of ws-rooms, or `tls` of rooms-redis")]
    NoTls,
    /// A prefix, or the name of the client, has a space, a control character or something beyond ASCII in it.
    #[error("{name:?} can't be a prefix or a client's name: visible ASCII characters only, and no spaces")]
    Name {
        /// Which it is.
        name: String,
    },
    /// A room could have the channel of something else.
    #[error("the prefix of rooms and the prefix of nodes must not begin with one another")]
    Prefixes,
    /// Sentinels were named, and a cluster too.
    #[error("a server is watched by sentinels or is part of a cluster, not both")]
    SentinelsAndCluster,
    /// There is no tokio runtime here.
    #[error("a bus is made inside a tokio runtime, and there is none here")]
    NoRuntime,
    /// There is no answer.
    #[error("Redis can't be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// Redis is there and refuses: the password, or the rights of the user, as a rule.
    #[error("Redis refused")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The server speaks only the older protocol.
    #[error("the server knows no `HELLO 3`: Redis 6 or newer is needed, with `HELLO` not disabled")]
    Resp2,
    /// Both connections are up, and what is published does not come back.
    #[error("Redis takes messages and does not deliver them")]
    ProbeLost(#[source] Box<dyn Error + Send + Sync>),
}

impl RedisBusBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            sentinels: Vec::new(),
            cluster: None,
            tls_root: None,
            names: Names::default(),
            client_name: None,
            limits: RedisLimits::default(),
        }
    }

    /// Asks these sentinels where the server is, at every connection. The host of the bus' own URL is then the name of
    /// the service that they watch, and the rest of it is for the server:
    ///
    /// ```
    /// use rooms_redis::RedisBus;
    ///
    /// let builder = RedisBus::builder("redis://node:its-password@mymaster")
    ///     .sentinels(["redis://:password-of-sentinels@sentinel-1", "redis://sentinel-2:26380", "redis://sentinel-3"]);
    /// # _ = builder;
    /// ```
    ///
    /// A sentinel's port is 26379 where its URL names none. `rediss://` is TLS, for each of them and for the server by
    /// their own URLs.
    pub fn sentinels(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.sentinels = urls.into_iter().map(Into::into).collect();
        self
    }

    /// Says that the URL is one node of a Redis Cluster, and which other nodes may be asked at first.
    ///
    /// Of these only the host and the port count: all nodes have the user, the password and the TLS of the bus' own URL.
    /// The nodes that are not named here are found, and followed wherever slots and roles move.
    ///
    /// ```
    /// use rooms_redis::{PubSub, RedisBus};
    ///
    /// let builder = RedisBus::builder("redis://:password@redis-1:6379")
    ///     .cluster(["redis://redis-2:6379", "redis://redis-3:6379"], PubSub::Sharded);
    /// # _ = builder;
    /// ```
    pub fn cluster(mut self, others: impl IntoIterator<Item = impl Into<String>>, pubsub: PubSub) -> Self {
        self.cluster = Some((others.into_iter().map(Into::into).collect(), pubsub));
        self
    }

    /// Sets what the channels of rooms begin with; `ws:` without it.
    ///
    /// Applications that share a Redis need different ones, here and in [`node_prefix`](Self::node_prefix). With the same
    /// ones each gets the messages of the other's rooms of the same name, and their processes take each other for nodes of
    /// one application, with one count of viewers. A database number in the URL (`redis://host/3`) keeps nothing apart, as
    /// pub/sub is the same in all databases: it is not used, and a warning says so.
    pub fn room_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.rooms = prefix.into();
        self
    }

    /// Sets what the channels begin with on which nodes talk to each other; `rooms-` without it.
    ///
    /// Nodes with the same prefix are nodes of one application; see [`room_prefix`](Self::room_prefix).
    ///
    /// ```
    /// use rooms_redis::RedisBus;
    ///
    /// let blog = RedisBus::builder("redis://127.0.0.1").room_prefix("blog:ws:").node_prefix("blog:rooms-");
    /// let shop = RedisBus::builder("redis://127.0.0.1").room_prefix("shop:ws:").node_prefix("shop:rooms-");
    /// # _ = (blog, shop);
    /// ```
    pub fn node_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.nodes = prefix.into();
        self
    }

    /// Sets what the connections are called in `CLIENT LIST`, before `:sub` and `:pub`; `rooms:` and a random number
    /// without it. Visible ASCII characters, no spaces.
    pub fn client_name(self, name: impl Into<String>) -> Self {
        Self { client_name: Some(name.into()), ..self }
    }

    /// Trusts an authority of one's own, given in PEM, in place of those of the operating system.
    #[cfg(feature = "tls")]
    pub fn tls_root(self, certificate: impl Into<Vec<u8>>) -> Self {
        Self { tls_root: Some(certificate.into()), ..self }
    }

    /// Changes bounds and times.
    pub fn limits(mut self, change: impl FnOnce(&mut RedisLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Connects, and resolves when a message has made its way through Redis and back.
    ///
    /// From then on the bus keeps itself up, whatever happens to Redis. Dropping the future makes no bus.
    ///
    /// # Errors
    /// [`ConnectError`], from the first attempt: a service with a wrong password should say so when it starts.
    pub async fn connect(self) -> Result<RedisBus, ConnectError> {
        let RedisLimits { connect_timeout, response_timeout, probe_timeout, .. } = self.limits;
        let bus = self.start()?;
        // The two connections are made at the same time, and then a probe is sent.
        let steps = u32::try_from(bus.all_links().steps() + 1).unwrap_or(u32::MAX);
        let patience =
            connect_timeout.saturating_add(response_timeout).saturating_mul(steps).saturating_add(probe_timeout);
        let mut progress = bus.shared().status.progress();
        let first = timeout(patience, progress.wait_for(|progress| progress.up || progress.fault.is_some())).await;
        match first {
            Ok(Ok(progress)) => match &progress.fault {
                None => {}
                Some(fault) => return Err(ConnectError::from(fault)),
            },
            Ok(Err(error)) => return Err(ConnectError::Unreachable(error.into())),
            Err(elapsed) => return Err(ConnectError::ProbeLost(elapsed.into())),
        }
        Ok(bus)
    }

    /// Makes the bus without waiting for Redis: until it is there, the bus is down.
    ///
    /// For a service that should start, and serve its own members, while Redis is away.
    ///
    /// # Errors
    /// [`ConnectError`], where Redis need not be asked: the URL, the prefixes, the runtime.
    pub fn start(self) -> Result<RedisBus, ConnectError> {
        let Self { url, sentinels, cluster, tls_root, names, client_name, limits } = self;
        let client = client_name.as_deref().filter(|name| !is_plain(name));
        if let Some(name) = names.unfit().or(client) {
            return Err(ConnectError::Name { name: name.to_owned() });
        }
        if !names.are_apart() {
            return Err(ConnectError::Prefixes);
        }
        let runtime = Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let others = cluster.iter().flat_map(|(others, _)| others);
        if [&url].into_iter().chain(&sentinels).chain(others).any(|url| lacks_tls(url)) {
            return Err(ConnectError::NoTls);
        }
        let access = Access::new(&url, tls_root).map_err(unread)?;
        if access.names_database() {
            tracing::warn!(
                "the database number in the URL of Redis is not used: pub/sub is the same in all databases. Applications \
                 that share a Redis are kept apart by room_prefix and node_prefix"
            );
        }
        let (server, nodes, pubsub) = match cluster {
            Some(_) if !sentinels.is_empty() => return Err(ConnectError::SentinelsAndCluster),
            Some((others, pubsub)) => {
                let seeds = [access.address()].into_iter().chain(others.iter().map(|other| address_of(other)));
                let seeds = seeds.collect::<Result<_, _>>().map_err(unread)?;
                (None, Some(Arc::new(Nodes::new(access, seeds, &limits))), pubsub)
            }
            None => (Some(single(access, &sentinels, &limits).map_err(unread)?), None, PubSub::Classic),
        };
        let server = server.map(|place| Server::new(place, &limits));
        let routes = Arc::new(match &server {
            Some(_) => Routes::One(0),
            None => Routes::Slots(Vec::new()),
        });
        let id = format!("{:016x}", random::bits());
        let status = Arc::new(Status::new());
        let shared = Shared {
            runtime,
            client_name: client_name.unwrap_or_else(|| format!("rooms:{id}")),
            id,
            names,
            limits,
            pubsub,
            nodes,
            counters: Counters::new(),
            subscriptions: Subscriptions::new(Arc::clone(&routes), pubsub, Arc::clone(&status)),
            status,
        };
        Ok(RedisBus::run(Arc::new(shared), routes, server))
    }
}

fn single(access: Access, sentinels: &[String], limits: &RedisLimits) -> Result<Place, RedisError> {
    if sentinels.is_empty() {
        return access.client().map(Place::Fixed);
    }
    let (service, _) = access.address()?;
    let clients = sentinels.iter().map(|url| access.sentinel(url)).collect::<Result<_, _>>()?;
    Ok(Place::Watched { sentinels: Sentinels::new(clients, service, times(limits)), access: Box::new(access) })
}

fn unread(error: RedisError) -> ConnectError {
    ConnectError::Url(error.into())
}

impl From<&Arc<Fault>> for ConnectError {
    fn from(fault: &Arc<Fault>) -> Self {
        match &**fault {
            Fault::Resp2 => Self::Resp2,
            Fault::Refused(cause) => Self::Refused(Box::new(cause.clone())),
            Fault::MayNotPublish(cause) => Self::Refused(cause.to_string().into()),
            Fault::Denied { .. } => Self::Refused(fault.line().into()),
            Fault::Unreachable(cause) | Fault::Broken(cause) => Self::Unreachable(Box::new(cause.clone())),
            Fault::NoMaster(Some(cause)) => Self::Unreachable(Box::new(cause.clone())),
            Fault::NoMaster(None) => Self::Unreachable("no sentinel knows a service of that name".into()),
            Fault::Replica | Fault::NoRole | Fault::NoNode | Fault::ClusterDown | Fault::NoSlots | Fault::OutOfStep => {
                Self::Unreachable(fault.to_string().into())
            }
            Fault::Closed => Self::Unreachable("Redis closed the connection".into()),
            Fault::ProbeLost | Fault::SubscriptionGone => Self::ProbeLost("a probe did not come back".into()),
        }
    }
}

impl fmt::Debug for RedisBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBusBuilder")
            .field("names", &self.names)
            .field("client_name", &self.client_name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
