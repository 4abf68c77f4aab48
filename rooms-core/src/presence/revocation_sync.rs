//! Having the revocations that the other nodes have, whatever the bus lost.
//!
//! A new revocation is told to all nodes at once. That may get lost, and a node that starts later did not hear it. So each
//! heartbeat carries a digest of all that its sender has; where it is not this node's own, the sender is asked, and answers
//! with all of it. The question carries a digest, too, so one question is enough for both sides to learn.
//!
//! Only one node is asked at a time: most often all others have the same.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::node::NodeId;

/// After so many questions in a row from which nothing came, the pause before the next one is no longer: 64 s, at a
/// heartbeat of 2 s. So two nodes that stay different, as where their clocks differ, cost little.
const LONGEST_PAUSE: u32 = 7;

#[derive(Debug)]
pub(super) struct RevocationSync {
    /// Those that have something else than this node. Peers, as [`keep`](Self::keep) sees to, so they are bounded with these.
    differing: BTreeMap<NodeId, Differing>,
    /// Those that asked before they were proven, each with its digest. They wait for the answer: a node that was away for
    /// longer than a lease hears a heartbeat and asks, before the others, to whom it is new, have seen it proven.
    too_early: BTreeMap<NodeId, u64>,
    /// Who is asked, and until when an answer is awaited.
    asked: Option<(NodeId, Instant)>,
    answer: Duration,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Differing {
    digest: u64,
    /// Questions in a row from which nothing came.
    fruitless: u32,
    /// Not to be asked before.
    next: Instant,
}

impl RevocationSync {
    /// How long an answer may take, and the first pause between two questions to a node.
    pub(super) const fn new(answer: Duration, pause: Duration) -> Self {
        Self { differing: BTreeMap::new(), too_early: BTreeMap::new(), asked: None, answer, pause }
    }

    /// A peer has told its digest; whether it is to be looked at soon.
    pub(super) fn heard(&mut self, peer: NodeId, digest: u64, own: u64, now: Instant) -> bool {
        if digest == own {
            self.differing.remove(&peer);
            return false;
        }
        let differing = self.differing.entry(peer).or_insert(Differing { digest, fruitless: 0, next: now });
        differing.digest = digest;
        self.asked.is_none() && differing.next <= now
    }

    /// Whom to ask now, of those that may be; the nearest behind this node, so that not all ask the same one.
    pub(super) fn ask(
        &mut self,
        me: NodeId,
        own: u64,
        now: Instant,
        may_ask: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        self.differing.retain(|_, differing| differing.digest != own);
        if let Some((peer, until)) = self.asked {
            if now < until {
                return None;
            }
            self.answered(peer, Answer::Fruitless, now);
        }
        let due = |(peer, differing): (&NodeId, &Differing)| (differing.next <= now && may_ask(*peer)).then_some(*peer);
        let behind = self.differing.range(me..).find_map(due);
        let peer = behind.or_else(|| self.differing.range(..me).find_map(due))?;
        self.asked = Some((peer, now + self.answer));
        Some(peer)
    }

    /// The last part of an answer has come, or none in time.
    pub(super) fn answered(&mut self, peer: NodeId, answer: Answer, now: Instant) {
        self.asked.take_if(|(asked, _)| *asked == peer);
        if let Some(differing) = self.differing.get_mut(&peer) {
            differing.fruitless = if answer == Answer::Fruitful { 0 } else { differing.fruitless + 1 };
            differing.next = now + self.pause * (1 << differing.fruitless.min(LONGEST_PAUSE)) / 2;
        }
    }

    pub(super) fn is_asked(&self, peer: NodeId) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == peer)
    }

    /// Something may have been lost, or the bus is back: nobody is waited for.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.asked = None;
        self.differing.values_mut().for_each(|differing| (differing.fruitless, differing.next) = (0, now));
    }

    /// A peer has asked that is not proven yet.
    pub(super) fn asked_too_early(&mut self, peer: NodeId, digest: u64) {
        self.too_early.insert(peer, digest);
    }

    /// Who asked too early and may be answered now, with its digest.
    pub(super) fn answerable(&mut self, may_answer: impl Fn(NodeId) -> bool) -> Vec<(NodeId, u64)> {
        self.too_early.extract_if(.., |peer, _| may_answer(*peer)).collect()
    }

    /// Forgets whoever is no peer any more: nobody says so of those that were never proven, as somebody may have invented
    /// thousands of them.
    pub(super) fn keep(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        self.differing.retain(|peer, _| is_peer(*peer));
        self.too_early.retain(|peer, _| is_peer(*peer));
    }

    /// A peer is gone.
    pub(super) fn forget(&mut self, peer: NodeId) {
        self.differing.remove(&peer);
        self.too_early.remove(&peer);
        self.asked.take_if(|(asked, _)| *asked == peer);
    }

    /// Until when an answer is awaited.
    pub(super) fn due(&self) -> Option<Instant> {
        self.asked.map(|(_, until)| until)
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Something that this node did not have.
    Fruitful,
    Fruitless,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_millis(500);

    fn sync() -> (RevocationSync, Instant) {
        (RevocationSync::new(ANSWER, Duration::from_millis(500)), Instant::now())
    }

    fn node(number: u64) -> NodeId {
        NodeId::for_test(number)
    }

    #[test]
    fn one_that_differs_is_asked_and_the_next_one_where_it_is_silent() {
        let (mut sync, now) = sync();
        assert!(!sync.heard(node(1), 7, 7, now), "the same");
        assert!(sync.heard(node(1), 8, 7, now) && sync.heard(node(9), 8, 7, now));
        assert_eq!(sync.ask(node(5), 7, now, |_| true), Some(node(9)), "the nearest behind it");
        assert_eq!(sync.ask(node(5), 7, now, |_| true), None, "one at a time");
        assert!(!sync.heard(node(1), 8, 7, now), "it waits for the answer");
        assert_eq!(sync.due(), Some(now + ANSWER));
        assert_eq!(sync.ask(node(5), 7, now + ANSWER, |_| true), Some(node(1)));
        sync.answered(node(1), Answer::Fruitful, now + ANSWER);
        assert_eq!(sync.ask(node(5), 8, now + 4 * ANSWER, |_| true), None, "it has what the others have");
        assert!(sync.differing.is_empty() && sync.due().is_none());
    }

    #[test]
    fn nodes_that_stay_different_are_asked_ever_more_seldom() {
        let (mut sync, start) = sync();
        sync.heard(node(1), 8, 7, start);
        let mut asked = Vec::new();
        for millis in (0..300_000).step_by(250) {
            let now = start + Duration::from_millis(millis);
            if let Some(peer) = sync.ask(node(5), 7, now, |_| true) {
                asked.push(millis);
                sync.answered(peer, Answer::Fruitless, now);
            }
        }
        assert!(asked.len() < 16, "{asked:?}");
        let later = start + Duration::from_secs(300);
        sync.begin_anew(later);
        assert_eq!(sync.ask(node(5), 7, later, |_| true), Some(node(1)));
    }

    #[test]
    fn who_asks_too_early_is_answered_once_and_whoever_was_invented_is_forgotten() {
        let (mut sync, now) = sync();
        for number in 1..1_000 {
            sync.heard(node(number), 8, 7, now);
            sync.asked_too_early(node(number), 8);
        }
        assert_eq!(sync.answerable(|peer| peer == node(5)), [(node(5), 8)]);
        assert!(sync.answerable(|peer| peer == node(5)).is_empty());
        sync.keep(|peer| peer == node(6));
        assert_eq!((sync.differing.len(), sync.too_early.len()), (1, 1));
        sync.forget(node(6));
        assert!(sync.differing.is_empty() && sync.too_early.is_empty());
    }

    #[test]
    fn whoever_may_not_be_asked_or_is_gone_is_not() {
        let (mut sync, now) = sync();
        sync.heard(node(1), 8, 7, now);
        assert_eq!(sync.ask(node(5), 7, now, |_| false), None);
        sync.forget(node(1));
        assert_eq!(sync.ask(node(5), 7, now, |_| true), None);
    }
}
