//! The nodes of a cluster, and which of them has which slots.

mod view;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

pub(crate) use self::view::View;
use crate::{
    access::{Access, Address, times},
    fault::Fault,
    limits::RedisLimits,
    lock::lock,
    random,
};

/// Whom to ask about a cluster.
pub(crate) struct Nodes {
    access: Access,
    /// As the builder was given them.
    seeds: Vec<Address>,
    /// As the cluster said last.
    known: Mutex<Vec<Address>>,
    /// Who is asked first.
    first: AtomicUsize,
    limits: RedisLimits,
    /// Somebody has seen that the slots are not as they were.
    doubt: Notify,
}

impl Nodes {
    pub(crate) fn new(access: Access, seeds: Vec<Address>, limits: &RedisLimits) -> Self {
        // At random, so that the nodes of a service do not all go to the same server.
        let first = AtomicUsize::new(usize::try_from(random::bits() >> 48).unwrap_or_default());
        Self { access, seeds, known: Mutex::default(), first, limits: limits.clone(), doubt: Notify::new() }
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn count(&self) -> usize {
        self.seeds.len()
    }

    /// The slots are not as they were.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Resolves when somebody has seen that the slots are not as they were. May be dropped at any time.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// All nodes, each time beginning with another; the seeds last, as they may be long gone.
    pub(crate) fn in_turn(&self) -> Vec<Address> {
        let mut nodes = lock(&self.known).clone();
        let seeds = self.seeds.iter().filter(|seed| !nodes.contains(seed)).cloned().collect::<Vec<_>>();
        let turn = self.first.fetch_add(1, Ordering::Relaxed);
        if nodes.is_empty() {
            nodes = seeds;
            let count = nodes.len().max(1);
            nodes.rotate_left(turn % count);
        } else {
            let count = nodes.len();
            nodes.rotate_left(turn % count);
            nodes.extend(seeds);
        }
        nodes
    }

    /// How the slots are, by the first node that answers and is well.
    pub(crate) async fn ask(&self) -> Result<View, Fault> {
        let mut fault = Fault::NoNode;
        for node in self.in_turn() {
            let client = self.access.client_at(node.clone())?;
            let connection = client.get_multiplexed_async_connection_with_config(&times(&self.limits)).await;
            let view = match connection {
                Ok(mut connection) => view::ask(&mut connection, &node.0).await,
                Err(error) => Err(Fault::connecting(error)),
            };
            match view {
                Ok(view) => {
                    lock(&self.known).clone_from(&view.nodes);
                    return Ok(view);
                }
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}
