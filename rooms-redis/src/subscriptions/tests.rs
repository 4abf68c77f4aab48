//! Whatever is wanted, dropped, refused and cut in whatever order: in the end what is had is what is wanted.

use std::collections::{HashMap, HashSet};

use futures::FutureExt as _;
use proptest::prelude::*;
use rooms_core::{RoomKey, bus::Topic};

use redis::RedisError;

use super::*;
use crate::routes::{SLOTS, slot};

#[derive(Debug, Clone)]
enum Step {
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    /// Drops the ticket of the call at this place; with a lane, just when its server has answered a command.
    Drop(usize, Option<LaneId>),
    /// The server of a lane answers the next command.
    Answer(LaneId),
    /// It refuses the next command, or says that now is not the time.
    Refuse(LaneId),
    Postpone(LaneId),
    Disconnect(LaneId),
    Connect(LaneId),
    /// A room is given to the server of a lane.
    Move(u8, LaneId),
    /// It is known who has what.
    Learn,
}

const LANES: u64 = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rooms = || prop::collection::vec(0_u8..6, 0..4);
    let step = prop_oneof![
        4 => rooms().prop_map(Step::Subscribe),
        3 => rooms().prop_map(Step::Unsubscribe),
        4 => (0_usize..8, prop::option::of(0..LANES)).prop_map(|(place, lane)| Step::Drop(place, lane)),
        8 => (0..LANES).prop_map(Step::Answer),
        1 => (0..LANES).prop_map(Step::Refuse),
        1 => (0..LANES).prop_map(Step::Postpone),
        1 => (0..LANES).prop_map(Step::Disconnect),
        2 => (0..LANES).prop_map(Step::Connect),
        2 => (0_u8..6, 0..LANES).prop_map(|(room, lane)| Step::Move(room, lane)),
        1 => Just(Step::Learn),
    ];
    prop::collection::vec(step, 0..80)
}

fn channel(number: u8) -> Channel {
    format!("ws:post:{number}").into()
}

fn named(number: u8) -> (Channel, Topic) {
    (channel(number), Topic::Room(RoomKey::new("post", number).unwrap()))
}

/// Two servers of which only the subscriptions are there.
struct Redis {
    pubsub: PubSub,
    connected: [bool; LANES as usize],
    connections: u64,
    subscribed: [HashSet<Channel>; LANES as usize],
    owners: HashMap<Channel, LaneId>,
}

enum How {
    Well,
    Refuse,
    Postpone,
}

impl Redis {
    fn new(pubsub: PubSub) -> Self {
        let owners = (0..6).map(|room| (channel(room), u64::from(room) % LANES)).collect();
        Self { pubsub, connected: Default::default(), connections: 0, subscribed: Default::default(), owners }
    }

    fn routes(&self) -> Arc<Routes> {
        let mut slots = vec![Some(0); usize::from(SLOTS)];
        for (channel, owner) in &self.owners {
            slots[usize::from(slot(channel))] = Some(*owner);
        }
        Arc::new(Routes::Slots(slots))
    }

    /// Answers the next command of a lane; `false` if there is none.
    fn answer(&mut self, subscriptions: &Subscriptions, lane: LaneId, how: &How) -> bool {
        let place = lane as usize;
        if !self.connected[place] {
            return false;
        }
        match (subscriptions.take(lane, 2), how) {
            (None, _) => return false,
            (Some(Batch::Unsubscribe(channels)), _) => {
                self.subscribed[place].retain(|channel| !channels.contains(channel));
                subscriptions.left(lane, &channels);
            }
            (Some(Batch::Subscribe(channels)), How::Refuse) => {
                let error = RedisError::from((redis::ErrorKind::Extension, "no"));
                channels.iter().for_each(|channel| subscriptions.refused(lane, channel, &error));
            }
            (Some(Batch::Subscribe(channels)), How::Postpone) => {
                channels.iter().for_each(|channel| subscriptions.postponed(lane, channel));
            }
            (Some(Batch::Subscribe(channels)), How::Well) => {
                let owns = |channel: &Channel| self.pubsub == PubSub::Classic || self.owners[channel] == lane;
                let (here, elsewhere): (Vec<Channel>, Vec<Channel>) = channels.into_iter().partition(owns);
                self.subscribed[place].extend(here.iter().cloned());
                subscriptions.confirmed(lane, &here);
                if !elsewhere.is_empty() {
                    elsewhere.iter().for_each(|channel| _ = subscriptions.moved(lane, channel));
                    subscriptions.reroute(self.routes());
                }
            }
        }
        true
    }

    fn connect(&mut self, subscriptions: &Subscriptions, lane: LaneId) {
        if !std::mem::replace(&mut self.connected[lane as usize], true) {
            self.connections += 1;
            subscriptions.connected(lane, self.connections);
        }
    }

    fn disconnect(&mut self, subscriptions: &Subscriptions, lane: LaneId) {
        if std::mem::replace(&mut self.connected[lane as usize], false) {
            self.subscribed[lane as usize].clear();
            subscriptions.disconnected(lane);
        }
    }

    /// The old owner of a sharded channel ends the subscription, and says so.
    fn give(&mut self, subscriptions: &Subscriptions, channel: &Channel, lane: LaneId) {
        let old = self.owners.insert(channel.clone(), lane).unwrap();
        if self.pubsub == PubSub::Sharded && old != lane && self.subscribed[old as usize].remove(channel) {
            subscriptions.moved(old, channel);
        }
    }

    /// Whether messages of the channel arrive: classic ones go to all servers.
    fn has(&self, channel: &Channel) -> bool {
        match self.pubsub {
            PubSub::Classic => self.subscribed.iter().any(|subscribed| subscribed.contains(channel)),
            PubSub::Sharded => self.subscribed[self.owners[channel] as usize].contains(channel),
        }
    }
}

/// A call that is not dropped, and what it asked for.
type Pending<'a> = (std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>>, Step);

proptest! {
    #[test]
    fn what_is_had_comes_to_be_what_is_wanted(
        steps in steps(),
        pubsub in prop_oneof![Just(PubSub::Classic), Just(PubSub::Sharded)],
    ) {
        let mut redis = Redis::new(pubsub);
        let subscriptions = Subscriptions::new(redis.routes(), pubsub);
        (0..LANES).for_each(|lane| _ = subscriptions.open_lane(lane));
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
                Step::Drop(place, lane) => {
                    lane.iter().for_each(|lane| _ = redis.answer(&subscriptions, *lane, &How::Well));
                    if *place < pending.len() {
                        drop(pending.remove(*place));
                    }
                }
                Step::Answer(lane) => _ = redis.answer(&subscriptions, *lane, &How::Well),
                Step::Refuse(lane) => _ = redis.answer(&subscriptions, *lane, &How::Refuse),
                Step::Postpone(lane) => _ = redis.answer(&subscriptions, *lane, &How::Postpone),
                Step::Disconnect(lane) => redis.disconnect(&subscriptions, *lane),
                Step::Connect(lane) => redis.connect(&subscriptions, *lane),
                Step::Move(room, lane) => redis.give(&subscriptions, &channel(*room), *lane),
                Step::Learn => subscriptions.reroute(redis.routes()),
            }
            settle(&mut pending, &redis, &mut told);
        }
        subscriptions.reroute(redis.routes());
        (0..LANES).for_each(|lane| redis.connect(&subscriptions, lane));
        loop {
            while (0..LANES).any(|lane| redis.answer(&subscriptions, lane, &How::Well)) {}
            if subscriptions.all_refusals() == 0 {
                break;
            }
            (0..LANES).for_each(|lane| subscriptions.retry_refused(lane));
        }
        settle(&mut pending, &redis, &mut told);
        prop_assert!(pending.is_empty(), "{} calls are never answered", pending.len());
        for channel in (0..6).map(channel) {
            let heard = told.get(&channel) == Some(&true);
            prop_assert_eq!(redis.has(&channel), heard, "{}", channel);
            prop_assert_eq!(subscriptions.topic(redis.owners[&channel], &channel).is_some(), heard);
        }
        let (wanted, live) = subscriptions.counts();
        let subscribed = redis.subscribed.iter().map(HashSet::len).sum::<usize>();
        prop_assert_eq!((wanted, live), (subscribed, subscribed));
        prop_assert!(lock(&subscriptions.state).calls.is_empty());
    }
}

/// Found by chance: the channel that was not had came to be had, and left, before the other one was left.
#[test]
fn leaving_waits_only_for_what_was_had_then() {
    let mut redis = Redis::new(PubSub::Classic);
    let subscriptions = Subscriptions::new(redis.routes(), PubSub::Classic);
    (0..LANES).for_each(|lane| _ = subscriptions.open_lane(lane));
    (0..LANES).for_each(|lane| redis.connect(&subscriptions, lane));
    let hear = |room| subscriptions.subscribe(vec![named(room)]).outcome();
    let leave =
        |rooms: &[u8]| Box::pin(subscriptions.unsubscribe(rooms.iter().copied().map(channel).collect()).outcome());

    let heard = hear(0);
    assert!(redis.answer(&subscriptions, 0, &How::Well));
    assert!(matches!(heard.now_or_never(), Some(Outcome::Done)));
    let both = leave(&[0, 1]);
    let heard = hear(1);
    assert!(redis.answer(&subscriptions, 1, &How::Well));
    assert!(matches!(heard.now_or_never(), Some(Outcome::Done)));
    let one = leave(&[1]);
    (0..LANES).for_each(|lane| assert!(redis.answer(&subscriptions, lane, &How::Well)));
    assert!(matches!(both.now_or_never(), Some(Outcome::Done)));
    assert!(matches!(one.now_or_never(), Some(Outcome::Done)));
}

/// Found by chance: the last channel stayed subscribed until something else happened.
#[test]
fn a_batch_that_became_pointless_does_not_hide_the_next() {
    let mut redis = Redis::new(PubSub::Classic);
    let subscriptions = Subscriptions::new(redis.routes(), PubSub::Classic);
    (0..LANES).for_each(|lane| _ = subscriptions.open_lane(lane));
    redis.connect(&subscriptions, 0);
    let heard = subscriptions.subscribe([0, 2, 4].map(named).into()).outcome();
    while redis.answer(&subscriptions, 0, &How::Well) {}
    assert!(matches!(heard.now_or_never(), Some(Outcome::Done)));
    let _left = subscriptions.unsubscribe([0, 2, 4].map(channel).into());
    [0, 2].iter().for_each(|room| redis.give(&subscriptions, &channel(*room), 1));
    subscriptions.reroute(redis.routes());
    let Some(Batch::Unsubscribe(orphans)) = subscriptions.take(0, 2) else { panic!("two have another lane") };
    assert_eq!(HashSet::from_iter(orphans), HashSet::from([0, 2].map(channel)));
    assert_eq!(subscriptions.take(0, 2), Some(Batch::Unsubscribe(vec![channel(4)])));
    assert_eq!(subscriptions.take(0, 2), None);
}

/// Whoever asks for it now is told at once that it is had.
#[test]
fn what_is_had_is_relied_on_though_nobody_was_told_yet() {
    let mut redis = Redis::new(PubSub::Classic);
    let subscriptions = Subscriptions::new(redis.routes(), PubSub::Classic);
    (0..LANES).for_each(|lane| _ = subscriptions.open_lane(lane));
    redis.connect(&subscriptions, 0);
    let _waits_for_the_other = subscriptions.subscribe([0, 1].map(named).into());
    assert!(!subscriptions.any_held());
    assert!(redis.answer(&subscriptions, 0, &How::Well));
    assert!(subscriptions.any_held());
}

#[test]
fn what_was_refused_and_is_wanted_no_more_is_forgotten() {
    let subscriptions = Subscriptions::new(Arc::new(Routes::One(0)), PubSub::Classic);
    _ = subscriptions.open_lane(0);
    subscriptions.connected(0, 1);
    let error = RedisError::from((redis::ErrorKind::Extension, "no"));
    for number in 0..100 {
        let call = subscriptions.subscribe(vec![named(number)]).outcome();
        let Some(Batch::Subscribe(channels)) = subscriptions.take(0, 512) else { panic!("it is to be subscribed") };
        channels.iter().for_each(|channel| subscriptions.refused(0, channel, &error));
        assert!(matches!(call.now_or_never(), Some(Outcome::Refused(_))));
    }
    assert!(lock(&subscriptions.state).desks[&0].refused.is_empty());
}

/// How many entries the tables and the queues have memory for.
fn memory(subscriptions: &Subscriptions) -> usize {
    let state = lock(&subscriptions.state);
    let desks = state.desks.values().map(|desk| {
        let queues = desk.subscribe.capacity() + desk.unsubscribe.capacity() + desk.orphans.capacity();
        queues + desk.refused.capacity()
    });
    state.entries.capacity() + state.calls.capacity() + desks.sum::<usize>()
}

#[test]
fn the_memory_of_a_peak_is_given_back_however_the_channels_went() {
    const PEAK: u32 = 20_000;
    /// Each collection may keep a few dozen places.
    const KEPT: usize = 600;
    let name =
        |number: u32| (Channel::from(format!("ws:post:{number}")), Topic::Room(RoomKey::new("post", number).unwrap()));
    let error = RedisError::from((redis::ErrorKind::Extension, "no"));
    let answer = |subscriptions: &Subscriptions, refuse: bool| {
        while let Some(batch) = subscriptions.take(0, 512) {
            match batch {
                Batch::Subscribe(channels) if refuse => {
                    channels.iter().for_each(|channel| subscriptions.refused(0, channel, &error));
                }
                Batch::Subscribe(channels) => _ = subscriptions.confirmed(0, &channels),
                Batch::Unsubscribe(channels) => subscriptions.left(0, &channels),
            }
        }
    };
    // How a peak comes about, and how it ends.
    let full = |wait: bool| {
        let subscriptions = Subscriptions::new(Arc::new(Routes::One(0)), PubSub::Classic);
        _ = subscriptions.open_lane(0);
        subscriptions.connected(0, 1);
        {
            let calls: Vec<Ticket<'_>> = (0..PEAK).map(|number| subscriptions.subscribe(vec![name(number)])).collect();
            if wait {
                answer(&subscriptions, false);
                assert!(calls.into_iter().all(|call| matches!(call.outcome().now_or_never(), Some(Outcome::Done))));
                assert!(memory(&subscriptions) > PEAK as usize);
            }
            // Else they give up before anything was asked for.
        }
        subscriptions
    };
    let left = full(true);
    let silent: Vec<Ticket<'_>> = (0..PEAK).map(|number| left.unsubscribe(vec![name(number).0])).collect();
    answer(&left, false);
    assert!(silent.into_iter().all(|call| matches!(call.outcome().now_or_never(), Some(Outcome::Done))));

    let given_up = full(false);
    answer(&given_up, false);

    let lost_and_refused = full(true);
    lost_and_refused.disconnected(0);
    lost_and_refused.connected(0, 2);
    answer(&lost_and_refused, true);
    assert_eq!(lost_and_refused.refusals(0), PEAK as usize);
    (0..PEAK).for_each(|number| drop(lost_and_refused.unsubscribe(vec![name(number).0])));

    let cut = full(true);
    (0..PEAK).for_each(|number| drop(cut.unsubscribe(vec![name(number).0])));
    cut.disconnected(0);

    for (how, subscriptions) in [("left", left), ("given up", given_up), ("refused", lost_and_refused), ("cut", cut)] {
        assert_eq!(subscriptions.counts(), (0, 0), "{how}");
        assert!(memory(&subscriptions) < KEPT, "{how}: memory for {} entries", memory(&subscriptions));
    }
}

/// Takes the calls that are answered; what was confirmed is there.
fn settle(pending: &mut Vec<Pending<'_>>, redis: &Redis, told: &mut HashMap<Channel, bool>) {
    pending.retain_mut(|(outcome, step)| {
        let Some(outcome) = outcome.now_or_never() else { return true };
        if let (Outcome::Done, Step::Subscribe(rooms)) = (outcome, step) {
            for room in rooms {
                assert!(redis.has(&channel(*room)), "confirmed, and not subscribed");
                told.insert(channel(*room), true);
            }
        }
        false
    });
}
