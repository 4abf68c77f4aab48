//! That this node is there: its topics, its hello, its heartbeats, and going on under another id.

use tokio::time::Instant;

use super::{Action, Node};
use crate::{bus::Topic, node::NodeId, presence::wire::NodeMessage, rate_limited_log::RateLimitedLog};

/// Whether the bus has confirmed the topics of this node.
#[derive(Debug)]
pub(super) struct Subscribed {
    /// What is for every node.
    pub(super) nodes: bool,
    /// What is for this one.
    pub(super) own: bool,
    /// When the bus is to be told again what is wanted. A quarter of a heartbeat after the last time, whatever comes meanwhile.
    pub(super) next: Instant,
    /// When this node said hello, once it had both. Whoever else is there has answered soon after.
    pub(super) hello: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Heartbeats {
    pub(super) number: u64,
    pub(super) next: Instant,
    /// Somebody asks whether this node is there. However many do, they are answered together.
    pub(super) called: bool,
    pub(super) next_answer: Instant,
}

/// Going on under another id, where somebody said goodbye in this node's name, so that the others take it for gone.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) wanted: bool,
    /// The id to go on under, and whether the bus has confirmed its topic.
    pub(super) id: Option<(NodeId, bool)>,
    /// However often somebody says goodbye, the others learn all this node has once a heartbeat at most.
    pub(super) next: Instant,
    pub(super) log: RateLimitedLog,
}

impl Node {
    /// The bus has subscribed topics.
    pub(in crate::presence) fn subscribed(&mut self, topics: &[Topic]) {
        for topic in topics {
            match topic {
                Topic::Nodes => self.subscribed.nodes = true,
                Topic::Node(node) if *node == self.me() => self.subscribed.own = true,
                Topic::Node(node) => match &mut self.renewal.id {
                    Some((id, confirmed)) if id == node => *confirmed = true,
                    _ => continue,
                },
                Topic::Room(_) | Topic::Control(_) => continue,
            }
            self.urgent = true;
        }
    }

    /// Asks for what is said to every node and to this one, again until the bus has both; then says hello.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.subscribed.hello.is_some() {
            return true;
        }
        let begins = self.subscribed.nodes && self.subscribed.own;
        if begins {
            self.subscribed.hello = Some(now);
            self.heartbeats.next = now;
            self.send(Topic::Nodes, NodeMessage::Hello {});
        } else if now >= self.subscribed.next {
            self.subscribed.next = now + self.times.heartbeat / 4;
            self.actions.push_back(Action::Subscribe(vec![Topic::Nodes, Topic::Node(self.me())]));
        }
        begins
    }

    /// Goes on under another id, once the bus has it: another node, to the others, that they ask for all it has.
    pub(super) fn renew(&mut self, now: Instant) {
        let is_confirmed = self.renewal.id.is_some_and(|(_, confirmed)| confirmed);
        if !self.renewal.wanted || !is_confirmed && now < self.renewal.next {
            return;
        }
        let Some((me, _)) = self.renewal.id.take_if(|_| is_confirmed) else {
            let (me, _) = *self.renewal.id.get_or_insert_with(|| (NodeId::random(), false));
            self.renewal.next = now + self.times.heartbeat / 4;
            return self.actions.push_back(Action::Subscribe(vec![Topic::Node(me)]));
        };
        let before = self.peers.renew(me, now);
        self.renewal.wanted = false;
        self.renewal.next = now + self.times.heartbeat;
        self.heartbeats.next = now;
        if let Some(left_out) = self.renewal.log.line() {
            tracing::warn!(%before, now = %me, left_out, "somebody said goodbye in the name of this node, which goes on under another id");
        }
        // For those that did not hear the other one, so that nobody is counted twice.
        self.actions.push_back(Action::Send { from: before, topic: Topic::Nodes, message: NodeMessage::Goodbye {} });
        self.send(Topic::Nodes, NodeMessage::Hello {});
        self.actions.push_back(Action::Unsubscribe(vec![Topic::Node(before)]));
    }

    pub(super) fn beat(&mut self, now: Instant) {
        let Heartbeats { next, called, next_answer, .. } = self.heartbeats;
        if now < next && !(called && now >= next_answer) {
            return;
        }
        // A tenth, so that a crowd of callers costs half of what the heartbeats of ten nodes do.
        let next_answer = now + self.times.heartbeat / 10;
        let number = self.heartbeats.number + 1;
        self.heartbeats = Heartbeats { number, next: now + self.times.heartbeat, called: false, next_answer };
        let (digests, revoked) = (self.peers.digests(), self.revocations.digest());
        self.send(Topic::Nodes, NodeMessage::Heartbeat { number, digests, kinds: self.kinds, revoked });
    }

    /// Somebody asks whether this node is there.
    pub(super) fn call(&mut self) {
        self.heartbeats.called = true;
        self.urgent = true;
    }
}
