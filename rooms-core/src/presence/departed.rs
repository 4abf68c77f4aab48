//! Nodes that said goodbye.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::node::NodeId;

/// Departed nodes that are remembered. 256: more than restart within one lease.
pub(super) const MOST: usize = 256;

/// Remembers for one lease who said goodbye, so that a message of theirs that comes late brings none of them back.
///
/// No longer, because a goodbye may be forged: a node that did not hear its own, and goes on, is counted again after it.
#[derive(Debug)]
pub(super) struct Departed {
    within: Duration,
    nodes: VecDeque<(NodeId, Instant)>,
}

impl Departed {
    pub(super) const fn new(within: Duration) -> Self {
        Self { within, nodes: VecDeque::new() }
    }

    pub(super) fn add(&mut self, node: NodeId, now: Instant) {
        self.forget(now);
        if self.nodes.iter().all(|(departed, _)| *departed != node) {
            if self.nodes.len() >= MOST {
                self.nodes.pop_front();
            }
            self.nodes.push_back((node, now + self.within));
        }
    }

    pub(super) fn contains(&mut self, node: NodeId, now: Instant) -> bool {
        self.forget(now);
        self.nodes.iter().any(|(departed, _)| *departed == node)
    }

    fn forget(&mut self, now: Instant) {
        while self.nodes.front().is_some_and(|(_, until)| *until <= now) {
            self.nodes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(6_500);

    #[test]
    fn a_goodbye_counts_for_one_lease_from_when_it_was_heard_first() {
        let (start, node) = (Instant::now(), NodeId::for_test(1));
        let mut departed = Departed::new(LEASE);
        departed.add(node, start);
        departed.add(node, start + LEASE / 2);
        assert!(departed.contains(node, start + LEASE - Duration::from_millis(1)));
        assert!(!departed.contains(NodeId::for_test(2), start));
        assert!(!departed.contains(node, start + LEASE));
        assert!(departed.nodes.is_empty());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let start = Instant::now();
        let mut departed = Departed::new(LEASE);
        (0..=MOST as u64).for_each(|number| departed.add(NodeId::for_test(number), start));
        assert_eq!(departed.nodes.len(), MOST);
        assert!(!departed.contains(NodeId::for_test(0), start), "the one that was heard first is forgotten");
    }
}
