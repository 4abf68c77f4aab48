//! One server, and the two connections to it.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    access::Address,
    channels::Channel,
    health::Counter,
    lock::lock,
    queue::Queue,
    routes::{LinkId, Routes},
    server::Server,
    shared::Shared,
};

/// A server's part of a bus: all of it, but in a cluster with sharded channels.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// Where the server is, as far as that is fixed.
    host: String,
    /// What it is called for whoever operates the node.
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) queue: Queue,
    /// The last probe that arrived: on which connection, and its number there.
    pub(crate) probe_arrived: watch::Sender<(u64, u64)>,
    /// Something changed that only a probe can settle.
    pub(crate) probe_now: Notify,
    /// The number of the last connection that was found to receive nothing.
    pub(crate) forced_reconnect: watch::Sender<u64>,
    /// There may be something to subscribe or to unsubscribe.
    pub(crate) news: Arc<Notify>,
    pub(crate) received: Counter,
    pub(crate) published: Counter,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Link {
    /// With the address of the server, where that is fixed.
    pub(crate) fn new(shared: &Shared, id: LinkId, address: Option<&Address>, server: Server) -> Self {
        Self {
            id,
            host: address.map(|(host, _)| host.clone()).unwrap_or_default(),
            name: address.map_or_else(|| "Redis".to_owned(), |(host, port)| format!("Redis at {host}:{port}")),
            server,
            queue: Queue::new(&shared.limits),
            probe_arrived: watch::Sender::default(),
            probe_now: Notify::new(),
            forced_reconnect: watch::Sender::default(),
            news: shared.subscriptions.open_link(id),
            received: Counter::default(),
            published: Counter::default(),
            tasks: Mutex::default(),
        }
    }

    /// Keeps the tasks of its connections, to end them.
    pub(crate) fn keep(&self, tasks: [AbortHandle; 2]) {
        lock(&self.tasks).extend(tasks);
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Ends both connections, and says no more.
    pub(crate) fn stop(&self) {
        for task in &*lock(&self.tasks) {
            task.abort();
        }
        self.queue.end();
    }

    /// A channel that goes by this link, on which the bus hears itself; `None` if no channel does any more.
    pub(crate) fn probe(&self, shared: &Shared, routes: &Routes) -> Option<Channel> {
        // A link has at least one slot in 16,384; so many tries find it with all but certainty. No two links ever have the
        // same, or one could be heard by the other.
        let mut names = (0..200_000_u32).map(|number| shared.names.probe(&shared.id, self.id, number));
        names.find(|channel| routes.link(channel) == Some(self.id))
    }
}
