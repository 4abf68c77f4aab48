//! The clauses about states. They hold without a test for a bus that keeps none.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;

use super::{Backplane, Cut, PATIENCE, fresh_room, listener::Heard, listening};
use crate::bus::{Bus, KeptState, NewState, Outcome, Position, States, Topic};

const KEEP: Duration = Duration::from_secs(3600);

/// Clause 13: a state that is set reaches every node with its revision, and with what has changed, in the order of the
/// revisions; and it is no message.
pub async fn setting_publishes(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let peers = backplane.peers();
    let (listeners, _) = listening(peers, &topic).await;
    let [one, two, ..] = peers else { panic!("the suite needs three peers") };
    if one.states().is_none() {
        return;
    }
    let (mut set, mut after) = (Vec::new(), None);
    for n in 0..100 {
        let bus = if n % 2 == 0 { one } else { two };
        let (state, patch) = (Bytes::from(n.to_string()), Bytes::from(format!("patch {n}")));
        let new = NewState::new(after, state.clone(), KEEP);
        let new = if n % 3 == 0 { new } else { new.with_patch(patch.clone()) };
        let told = after.filter(|_| n % 3 != 0).map(|since| (since, patch));
        let Outcome::Set(revision) = change(bus, &topic, new).await else { panic!("{n} is in nobody's way") };
        if let Some(before) = after.replace(revision) {
            assert_eq!(revision, Position::new(before.epoch(), before.offset() + 1), "one more than the one before");
        }
        set.push((KeptState::new(revision, state), told));
    }
    for listener in &listeners {
        listener.until(|heard: &Heard| heard.states(&topic).len() >= set.len()).await;
        assert_eq!(listener.with(|heard| heard.states(&topic)), set, "what was heard, and the answers");
        assert_eq!(listener.heard(&topic), Vec::<String>::new(), "a state is no message");
    }
}

/// Clauses 14 and 15: of those who set a state in place of the same one exactly one does, the others change nothing and
/// publish nothing; and a read gives the newest.
pub async fn one_writer_wins(backplane: &mut impl Backplane) {
    const ROUNDS: u64 = 30;
    let (topic, other) = (fresh_room(), fresh_room());
    let peers = backplane.peers();
    let (listeners, _) = listening(peers, &topic).await;
    let [one, two, ..] = peers else { panic!("the suite needs three peers") };
    if one.states().is_none() {
        return;
    }
    assert_eq!(read(one, &topic).await, None, "there is none yet");
    let mut current: Option<KeptState> = None;
    for round in 0..ROUNDS {
        let after = current.as_ref().map(|current| current.revision);
        let writers = peers.iter().cycle().take(6).enumerate().map(|(writer, bus)| {
            let (topic, state) = (&topic, Bytes::from(format!("{round} {writer}")));
            async move { (change(bus, topic, NewState::new(after, state.clone(), KEEP)).await, state) }
        });
        let outcomes = join_all(writers).await;
        let set: Vec<_> = outcomes
            .iter()
            .filter_map(|(outcome, state)| match outcome {
                Outcome::Set(revision) => Some(KeptState::new(*revision, state.clone())),
                Outcome::Conflict(_) => None,
            })
            .collect();
        let [winner] = &*set else { panic!("{} of 6 writers have set a state in place of one", set.len()) };
        for (outcome, _) in &outcomes {
            if let Outcome::Conflict(is) = outcome {
                assert_eq!(*is, Some(winner.revision), "who was too late is told what there is");
            }
        }
        for bus in peers {
            assert_eq!(read(bus, &topic).await.as_ref(), Some(winner), "what was set before is read");
        }
        current = Some(winner.clone());
    }
    let Some(KeptState { revision, .. }) = current else { return };
    let wrong = Position::new(revision.epoch(), revision.offset() - 1);
    for after in [None, Some(wrong), Some(Position::new(!revision.epoch(), revision.offset()))] {
        let outcome = change(two, &topic, NewState::new(after, "late".into(), KEEP)).await;
        assert_eq!(outcome, Outcome::Conflict(Some(revision)), "after {after:?}");
    }
    let outcome = change(two, &other, NewState::new(Some(revision), "elsewhere".into(), KEEP)).await;
    assert_eq!(outcome, Outcome::Conflict(None), "each topic has a state of its own");
    for listener in &listeners {
        listener.until(|heard: &Heard| heard.states(&topic).len() as u64 >= ROUNDS).await;
        assert_eq!(
            listener.with(|heard| heard.states(&topic).len()) as u64,
            ROUNDS,
            "who was too late publishes nothing"
        );
    }
}

/// Clause 16: what follows a state that was lost is of another epoch.
pub async fn a_lost_state_is_another_epoch(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let [one, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    if one.states().is_none() {
        return;
    }
    let mut epochs = Vec::new();
    for _ in 0..4 {
        let [one, two, ..] = backplane.peers() else { return };
        let Outcome::Set(first) = change(one, &topic, NewState::new(None, "1".into(), KEEP)).await else {
            panic!("there is no state, and one can't be set")
        };
        let Outcome::Set(second) = change(two, &topic, NewState::new(Some(first), "2".into(), KEEP)).await else {
            panic!("the state can't be replaced")
        };
        assert!(!epochs.contains(&second.epoch()), "an epoch comes again");
        epochs.push(second.epoch());
        if backplane.forget().await == Cut::Impossible {
            return;
        }
        let [one, ..] = backplane.peers() else { return };
        assert_eq!(change(one, &topic, NewState::new(Some(second), "3".into(), KEEP)).await, Outcome::Conflict(None));
    }
}

async fn change(bus: &impl Bus, topic: &Topic, new: NewState) -> Outcome {
    let outcome = timeout(PATIENCE, states(bus).set_state(topic, new)).await;
    outcome.expect("an answer in time").unwrap_or_else(|error| panic!("the state was not set: {error:?}"))
}

async fn read(bus: &impl Bus, topic: &Topic) -> Option<KeptState> {
    let state = timeout(PATIENCE, states(bus).state(topic, KEEP)).await;
    state.expect("an answer in time").unwrap_or_else(|error| panic!("the state was not read: {error:?}"))
}

fn states(bus: &impl Bus) -> &dyn States {
    bus.states().expect("a bus keeps states always or never")
}
