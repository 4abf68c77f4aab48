//! Whatever is wanted, dropped, refused and cut in whatever order: in the end what is had is what is wanted.

use std::collections::{HashMap, HashSet};

use futures::FutureExt as _;
use proptest::prelude::*;
use rooms_core::{RoomKey, bus::Topic};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    /// Drops the ticket of the call at this place.
    Drop(usize),
    /// Redis answers the next command.
    Answer,
    /// Redis refuses the next command.
    Refuse,
    Disconnect,
    Connect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rooms = || prop::collection::vec(0_u8..6, 0..4);
    let step = prop_oneof![
        4 => rooms().prop_map(Step::Subscribe),
        3 => rooms().prop_map(Step::Unsubscribe),
        2 => (0_usize..8).prop_map(Step::Drop),
        6 => Just(Step::Answer),
        1 => Just(Step::Refuse),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Connect),
    ];
    prop::collection::vec(step, 0..60)
}

fn channel(number: u8) -> Channel {
    format!("ws:post:{number}").into()
}

fn named(number: u8) -> (Channel, Topic) {
    (channel(number), Topic::Room(RoomKey::new("post", number).unwrap()))
}

/// A server of which only the subscriptions are there.
#[derive(Default)]
struct Redis {
    connected: bool,
    connections: u64,
    subscribed: HashSet<Channel>,
}

impl Redis {
    /// Answers the next command; `false` if there is none.
    fn answer(&mut self, subscriptions: &Subscriptions, refuse: bool) -> bool {
        if !self.connected {
            return false;
        }
        match subscriptions.take(2) {
            None => return false,
            Some(Batch::Unsubscribe(channels)) => {
                self.subscribed.retain(|channel| !channels.contains(channel));
                subscriptions.left(&channels);
            }
            Some(Batch::Subscribe(channels)) if refuse => {
                let error = RedisError::from((redis::ErrorKind::Extension, "no"));
                channels.iter().for_each(|channel| subscriptions.refused(channel, &error));
            }
            Some(Batch::Subscribe(channels)) => {
                self.subscribed.extend(channels.iter().cloned());
                subscriptions.confirmed(&channels);
            }
        }
        true
    }

    fn connect(&mut self, subscriptions: &Subscriptions) {
        if !std::mem::replace(&mut self.connected, true) {
            self.connections += 1;
            subscriptions.connected(self.connections);
        }
    }

    fn disconnect(&mut self, subscriptions: &Subscriptions) {
        if std::mem::replace(&mut self.connected, false) {
            self.subscribed.clear();
            subscriptions.disconnected();
        }
    }
}

/// A call that is not dropped, and what it asked for.
type Pending<'a> = (std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>>, Step);

proptest! {
    #[test]
    fn what_is_had_comes_to_be_what_is_wanted(steps in steps()) {
        let (subscriptions, mut redis) = (Subscriptions::default(), Redis::default());
        let mut pending: Vec<Pending<'_>> = Vec::new();
        // What callers were told: that they hear it, or that they do not.
        let mut told: HashMap<Channel, bool> = HashMap::new();
        for step in steps {
            match &step {
                Step::Subscribe(rooms) => {
                    let ticket = subscriptions.subscribe(rooms.iter().copied().map(named).collect());
                    pending.push((Box::pin(ticket.outcome()), step));
                }
                Step::Unsubscribe(rooms) => {
                    rooms.iter().for_each(|room| _ = told.insert(channel(*room), false));
                    let ticket = subscriptions.unsubscribe(rooms.iter().copied().map(channel).collect());
                    pending.push((Box::pin(ticket.outcome()), step));
                }
                Step::Drop(place) if *place < pending.len() => drop(pending.remove(*place)),
                Step::Drop(_) => {}
                Step::Answer => _ = redis.answer(&subscriptions, false),
                Step::Refuse => _ = redis.answer(&subscriptions, true),
                Step::Disconnect => redis.disconnect(&subscriptions),
                Step::Connect => redis.connect(&subscriptions),
            }
            settle(&mut pending, &redis, &mut told);
        }
        redis.connect(&subscriptions);
        loop {
            while redis.answer(&subscriptions, false) {}
            if subscriptions.refusals() == 0 {
                break;
            }
            subscriptions.retry_refused();
        }
        settle(&mut pending, &redis, &mut told);
        prop_assert!(pending.is_empty(), "{} calls are never answered", pending.len());
        for (channel, heard) in told {
            prop_assert_eq!(redis.subscribed.contains(&channel), heard, "{}", channel);
            prop_assert_eq!(subscriptions.topic(&channel).is_some(), heard);
        }
        let (wanted, live) = subscriptions.counts();
        prop_assert_eq!((wanted, live), (redis.subscribed.len(), redis.subscribed.len()));
        prop_assert!(lock(&subscriptions.state).calls.is_empty());
    }
}

/// Takes the calls that are answered; what was confirmed is there.
fn settle(pending: &mut Vec<Pending<'_>>, redis: &Redis, told: &mut HashMap<Channel, bool>) {
    pending.retain_mut(|(outcome, step)| {
        let Some(outcome) = outcome.now_or_never() else { return true };
        if let (Outcome::Done, Step::Subscribe(rooms)) = (outcome, step) {
            for room in rooms {
                assert!(redis.subscribed.contains(&channel(*room)), "confirmed, and not subscribed");
                told.insert(channel(*room), true);
            }
        }
        false
    });
}
