//! Asking the other nodes for what whoever operates them wants to know.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Presence, wire::NodeMessage};
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    node::NodeId,
    reports::{Found, PeerReport, Search},
};

/// Searches that are open at once. 16: a few people at their pages; each may be given a report of every node.
const OPEN: usize = 16;

/// Nodes that a search waits for. 256: with answers of the usual kilobytes, some megabytes.
const ASKED: usize = 256;

/// The searches of this node that wait for answers, by a number that nobody guesses.
#[derive(Debug, Default)]
pub(super) struct Searches(Mutex<HashMap<u64, Open>>);

#[derive(Debug)]
struct Open {
    waiting: Vec<NodeId>,
    answers: mpsc::UnboundedSender<Found>,
}

impl Searches {
    /// Takes an answer of a node that is waited for, once.
    pub(super) fn found(&self, node: NodeId, id: u64, found: Found) {
        let mut open = lock(&self.0);
        let Some(search) = open.get_mut(&id) else { return };
        let Some(at) = search.waiting.iter().position(|waiting| *waiting == node) else { return };
        search.waiting.swap_remove(at);
        _ = search.answers.send(found);
        if search.waiting.is_empty() {
            // Whoever waits sees that no more comes.
            open.remove(&id);
        }
    }
}

impl Presence {
    /// Asks all other nodes; returns what they found, and who gave no answer in time.
    ///
    /// May be dropped at any time.
    pub(crate) async fn search(&self, search: Search, within: Duration) -> (Vec<Found>, Vec<NodeId>) {
        let (me, id, mut all) = self.with_node(|node| {
            let all: Vec<_> = node.peers().map(|(peer, _)| peer.id()).collect();
            (node.me(), node.next_order(), all)
        });
        let mut silent = all.split_off(all.len().min(ASKED));
        if all.is_empty() {
            return (Vec::new(), silent);
        }
        let (answers, mut found) = mpsc::unbounded_channel();
        {
            let mut open = lock(&self.searches.0);
            if open.len() >= OPEN {
                silent.append(&mut all);
                return (Vec::new(), silent);
            }
            open.insert(id, Open { waiting: all, answers });
        }
        let _open = OpenSearch { presence: self, id };
        let by = Instant::now() + within;
        let message = NodeMessage::Search { id, at: self.revocations.now(), search };
        let mut nodes = Vec::new();
        if let Ok(Ok(())) = timeout_at(by, self.publish_by(me, &Topic::Nodes, message)).await {
            while let Ok(Some(one)) = timeout_at(by, found.recv()).await {
                nodes.push(one);
            }
        }
        silent.extend(lock(&self.searches.0).remove(&id).into_iter().flat_map(|open| open.waiting));
        (nodes, silent)
    }

    /// Answers a node that asked.
    pub(crate) async fn answer(&self, node: NodeId, id: u64, found: Found) {
        let me = lock(&self.node).me();
        let answer = NodeMessage::Found { id, found: Box::new(found) };
        if let Err(error) = self.publish_by(me, &Topic::Node(node), answer).await {
            tracing::debug!(%error, "an answer to another node's search was not published");
        }
    }

    /// The other nodes, at most so many, and how many more there are.
    pub(crate) fn peer_reports(&self, most: usize) -> (Vec<PeerReport>, usize) {
        let now = Instant::now();
        self.with_node(|node| {
            let mut peers: Vec<_> = node
                .peers()
                .map(|(peer, heard)| PeerReport {
                    node: peer.id(),
                    proven: peer.is_proven(),
                    heard_ms: u64::try_from((now - heard).as_millis()).unwrap_or(u64::MAX),
                })
                .collect();
            let left_out = peers.len().saturating_sub(most);
            peers.truncate(most);
            (peers, left_out)
        })
    }
}

/// A search that somebody waits for.
struct OpenSearch<'a> {
    presence: &'a Presence,
    id: u64,
}

impl Drop for OpenSearch<'_> {
    fn drop(&mut self) {
        lock(&self.presence.searches.0).remove(&self.id);
    }
}
