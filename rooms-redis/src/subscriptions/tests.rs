//! Whatever is wanted, refused, moved and cut in whatever order: in the end what is had is what is wanted.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use rooms_core::{
    RoomKey,
    bus::{BusEvent, BusReceiver, Topic},
};

use redis::RedisError;

use super::*;
use crate::routes::{SLOTS, slot};

#[derive(Debug, Clone)]
enum Step {
    Subscribe(Vec<u8>),
    Unsubscribe(Vec<u8>),
    /// The server of a link answers the next command.
    Answer(LinkId),
    /// It refuses the next command, or says that now is not the time.
    Refuse(LinkId),
    Postpone(LinkId),
    Disconnect(LinkId),
    Connect(LinkId),
    /// A room is given to the server of a link.
    Move(u8, LinkId),
    /// It is known who has what.
    Learn,
}

const LINKS: u64 = 2;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rooms = || prop::collection::vec(0_u8..6, 0..4);
    let step = prop_oneof![
        4 => rooms().prop_map(Step::Subscribe),
        3 => rooms().prop_map(Step::Unsubscribe),
        8 => (0..LINKS).prop_map(Step::Answer),
        1 => (0..LINKS).prop_map(Step::Refuse),
        1 => (0..LINKS).prop_map(Step::Postpone),
        1 => (0..LINKS).prop_map(Step::Disconnect),
        2 => (0..LINKS).prop_map(Step::Connect),
        2 => (0_u8..6, 0..LINKS).prop_map(|(room, link)| Step::Move(room, link)),
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
    connected: [bool; LINKS as usize],
    connections: u64,
    subscribed: [HashSet<Channel>; LINKS as usize],
    owners: HashMap<Channel, LinkId>,
}

enum How {
    Well,
    Refuse,
    Postpone,
}

impl Redis {
    fn new(pubsub: PubSub) -> Self {
        let owners = (0..6).map(|room| (channel(room), u64::from(room) % LINKS)).collect();
        Self { pubsub, connected: Default::default(), connections: 0, subscribed: Default::default(), owners }
    }

    fn routes(&self) -> Arc<Routes> {
        let mut slots = vec![Some(0); usize::from(SLOTS)];
        for (channel, owner) in &self.owners {
            slots[usize::from(slot(channel))] = Some(*owner);
        }
        Arc::new(Routes::Slots(slots))
    }

    /// Answers the next command of a link; `false` if there is none.
    fn answer(&mut self, subscriptions: &Subscriptions, link: LinkId, how: &How) -> bool {
        let place = link as usize;
        if !self.connected[place] {
            return false;
        }
        match (subscriptions.take(link, 2), how) {
            (None, _) => return false,
            (Some(Batch::Unsubscribe(channels)), _) => {
                self.subscribed[place].retain(|channel| !channels.contains(channel));
                subscriptions.left(link, &channels);
            }
            (Some(Batch::Subscribe(channels)), How::Refuse) => {
                let error = RedisError::from((redis::ErrorKind::Extension, "no"));
                channels.iter().for_each(|channel| subscriptions.refused(link, channel, &error));
            }
            (Some(Batch::Subscribe(channels)), How::Postpone) => {
                channels.iter().for_each(|channel| subscriptions.postponed(link, channel));
            }
            (Some(Batch::Subscribe(channels)), How::Well) => {
                let owns = |channel: &Channel| self.pubsub == PubSub::Classic || self.owners[channel] == link;
                let (here, elsewhere): (Vec<Channel>, Vec<Channel>) = channels.into_iter().partition(owns);
                self.subscribed[place].extend(here.iter().cloned());
                subscriptions.confirmed(link, &here);
                if !elsewhere.is_empty() {
                    elsewhere.iter().for_each(|channel| _ = subscriptions.moved(link, channel));
                    subscriptions.reroute(self.routes());
                }
            }
        }
        true
    }

    fn connect(&mut self, subscriptions: &Subscriptions, link: LinkId) {
        if !std::mem::replace(&mut self.connected[link as usize], true) {
            self.connections += 1;
            subscriptions.connected(link, self.connections);
        }
    }

    fn disconnect(&mut self, subscriptions: &Subscriptions, link: LinkId) {
        if std::mem::replace(&mut self.connected[link as usize], false) {
            self.subscribed[link as usize].clear();
            subscriptions.disconnected(link);
        }
    }

    /// The old owner of a sharded channel ends the subscription, and says so.
    fn give(&mut self, subscriptions: &Subscriptions, channel: &Channel, link: LinkId) {
        let old = self.owners.insert(channel.clone(), link).unwrap();
        if self.pubsub == PubSub::Sharded && old != link && self.subscribed[old as usize].remove(channel) {
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

/// The manager's end: what it was told of each topic.
#[derive(Default)]
struct Told(Mutex<Vec<BusEvent>>);

impl BusReceiver for Told {
    fn event(&self, event: BusEvent) {
        lock(&self.0).push(event);
    }
}

impl Told {
    /// The topics that were said to be subscribed since the last look, and those that were said to be refused.
    fn take(&self) -> (Vec<Topic>, Vec<Topic>) {
        let (mut subscribed, mut refused) = (Vec::new(), Vec::new());
        for event in lock(&self.0).drain(..) {
            match event {
                BusEvent::Subscribed { topics, .. } => subscribed.extend(topics),
                BusEvent::Refused { topic, .. } => refused.push(topic),
                _ => {}
            }
        }
        (subscribed, refused)
    }
}

fn table(routes: Arc<Routes>, pubsub: PubSub) -> (Subscriptions, Arc<Told>) {
    let (status, told) = (Arc::new(Status::new()), Arc::new(Told::default()));
    assert!(status.attach(Arc::clone(&told) as Arc<dyn BusReceiver>));
    (Subscriptions::new(routes, pubsub, status), told)
}

proptest! {
    #[test]
    fn what_is_had_comes_to_be_what_is_wanted_and_each_call_is_answered(
        steps in steps(),
        pubsub in prop_oneof![Just(PubSub::Classic), Just(PubSub::Sharded)],
    ) {
        let mut redis = Redis::new(pubsub);
        let (subscriptions, told) = table(redis.routes(), pubsub);
        (0..LINKS).for_each(|link| _ = subscriptions.open_link(link));
        // What was wanted last, and whether that was answered.
        let mut wanted: HashMap<u8, bool> = HashMap::new();
        let look = |wanted: &mut HashMap<u8, bool>, redis: &Redis, connected: bool| {
            for topic in told.take().0 {
                let number = (0..6).find(|number| named(*number).1 == topic).unwrap();
                let Some(answered) = wanted.get_mut(&number) else { panic!("{topic:?} is answered and not wanted") };
                *answered = true;
                assert!(!connected || redis.has(&channel(number)), "{topic:?} is confirmed and not subscribed");
            }
        };
        for step in steps {
            match &step {
                Step::Subscribe(rooms) => {
                    rooms.iter().for_each(|room| _ = wanted.insert(*room, false));
                    subscriptions.subscribe(rooms.iter().copied().map(named).collect());
                }
                Step::Unsubscribe(rooms) => {
                    rooms.iter().for_each(|room| _ = wanted.remove(room));
                    subscriptions.unsubscribe(rooms.iter().copied().map(channel).collect());
                }
                Step::Answer(link) => _ = redis.answer(&subscriptions, *link, &How::Well),
                Step::Refuse(link) => _ = redis.answer(&subscriptions, *link, &How::Refuse),
                Step::Postpone(link) => _ = redis.answer(&subscriptions, *link, &How::Postpone),
                Step::Disconnect(link) => redis.disconnect(&subscriptions, *link),
                Step::Connect(link) => redis.connect(&subscriptions, *link),
                Step::Move(room, link) => redis.give(&subscriptions, &channel(*room), *link),
                Step::Learn => subscriptions.reroute(redis.routes()),
            }
            // A sharded channel may have left its server before this is known here.
            look(&mut wanted, &redis, pubsub == PubSub::Classic);
        }
        subscriptions.reroute(redis.routes());
        (0..LINKS).for_each(|link| redis.connect(&subscriptions, link));
        loop {
            while (0..LINKS).any(|link| redis.answer(&subscriptions, link, &How::Well)) {}
            if subscriptions.all_refusals() == 0 {
                break;
            }
            (0..LINKS).for_each(|link| subscriptions.retry_refused(link));
        }
        look(&mut wanted, &redis, true);
        prop_assert!(wanted.values().all(|answered| *answered), "calls are never answered: {wanted:?}");
        for number in 0..6 {
            let (channel, wants) = (channel(number), wanted.contains_key(&number));
            prop_assert_eq!(redis.has(&channel), wants, "{}", channel);
            prop_assert_eq!(subscriptions.topic(redis.owners[&channel], &channel).is_some(), wants);
        }
        let (wanted, live) = subscriptions.counts();
        let subscribed = redis.subscribed.iter().map(HashSet::len).sum::<usize>();
        prop_assert_eq!((wanted, live), (subscribed, subscribed));
    }
}

#[test]
fn a_topic_that_is_left_and_wanted_again_is_answered_when_it_is_subscribed_anew() {
    let mut redis = Redis::new(PubSub::Classic);
    let (subscriptions, told) = table(redis.routes(), PubSub::Classic);
    (0..LINKS).for_each(|link| _ = subscriptions.open_link(link));
    redis.connect(&subscriptions, 0);
    subscriptions.subscribe(vec![named(0)]);
    assert!(redis.answer(&subscriptions, 0, &How::Well));
    assert_eq!(told.take().0, [named(0).1]);
    subscriptions.unsubscribe(vec![channel(0)]);
    subscriptions.subscribe(vec![named(0)]);
    assert!(told.take().0.is_empty(), "it is on its way out");
    assert!(redis.answer(&subscriptions, 0, &How::Well) && told.take().0.is_empty());
    assert!(redis.answer(&subscriptions, 0, &How::Well));
    assert_eq!(told.take().0, [named(0).1]);
    subscriptions.subscribe(vec![named(0)]);
    assert_eq!(told.take().0, [named(0).1], "each call is answered");
}

/// Found by chance: the last channel stayed subscribed until something else happened.
#[test]
fn a_batch_that_became_pointless_does_not_hide_the_next() {
    let mut redis = Redis::new(PubSub::Classic);
    let (subscriptions, told) = table(redis.routes(), PubSub::Classic);
    (0..LINKS).for_each(|link| _ = subscriptions.open_link(link));
    redis.connect(&subscriptions, 0);
    subscriptions.subscribe([0, 2, 4].map(named).into());
    while redis.answer(&subscriptions, 0, &How::Well) {}
    assert_eq!(told.take().0.len(), 3);
    subscriptions.unsubscribe([0, 2, 4].map(channel).into());
    [0, 2].iter().for_each(|room| redis.give(&subscriptions, &channel(*room), 1));
    subscriptions.reroute(redis.routes());
    let Some(Batch::Unsubscribe(orphans)) = subscriptions.take(0, 2) else { panic!("two have another link") };
    assert_eq!(HashSet::from_iter(orphans), HashSet::from([0, 2].map(channel)));
    assert_eq!(subscriptions.take(0, 2), Some(Batch::Unsubscribe(vec![channel(4)])));
    assert_eq!(subscriptions.take(0, 2), None);
}

#[test]
fn a_refusal_is_told_once_for_each_call_and_forgotten_with_the_wish() {
    let (subscriptions, told) = table(Arc::new(Routes::One(0)), PubSub::Classic);
    _ = subscriptions.open_link(0);
    subscriptions.connected(0, 1);
    let error = RedisError::from((redis::ErrorKind::Extension, "no"));
    let refuse = || {
        let Some(Batch::Subscribe(channels)) = subscriptions.take(0, 512) else { panic!("it is to be subscribed") };
        channels.iter().for_each(|channel| subscriptions.refused(0, channel, &error));
    };
    for number in 0..100 {
        for _ in 0..2 {
            subscriptions.subscribe(vec![named(number)]);
            refuse();
            assert_eq!(told.take().1, [named(number).1]);
            subscriptions.retry_refused(0);
            refuse();
            assert!(told.take().1.is_empty(), "tried again without a call");
        }
        subscriptions.unsubscribe(vec![channel(number)]);
    }
    let state = lock(&subscriptions.state);
    assert!(state.queues[&0].refused.is_empty() && state.entries.is_empty());
}

/// How many entries the tables and the queues have memory for.
fn memory(subscriptions: &Subscriptions) -> usize {
    let state = lock(&subscriptions.state);
    let queues = state.queues.values().map(|queues| {
        let waiting = queues.subscribe.capacity() + queues.unsubscribe.capacity() + queues.orphans.capacity();
        waiting + queues.refused.capacity()
    });
    state.entries.capacity() + queues.sum::<usize>()
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
    let full = || {
        let (subscriptions, _) = table(Arc::new(Routes::One(0)), PubSub::Classic);
        _ = subscriptions.open_link(0);
        subscriptions.connected(0, 1);
        subscriptions.subscribe((0..PEAK).map(name).collect());
        subscriptions
    };
    let confirmed = || {
        let subscriptions = full();
        answer(&subscriptions, false);
        assert!(memory(&subscriptions) > PEAK as usize);
        subscriptions
    };
    let leave = |subscriptions: &Subscriptions| {
        (0..PEAK).for_each(|number| subscriptions.unsubscribe(vec![name(number).0]));
    };
    let left = confirmed();
    leave(&left);
    answer(&left, false);

    let never_asked_for = full();
    leave(&never_asked_for);
    answer(&never_asked_for, false);

    let lost_and_refused = confirmed();
    lost_and_refused.disconnected(0);
    lost_and_refused.connected(0, 2);
    answer(&lost_and_refused, true);
    assert_eq!(lost_and_refused.refusals(0).all, PEAK as usize);
    leave(&lost_and_refused);

    let cut = confirmed();
    leave(&cut);
    cut.disconnected(0);

    let all = [("left", left), ("never asked for", never_asked_for), ("refused", lost_and_refused), ("cut", cut)];
    for (how, subscriptions) in all {
        assert_eq!(subscriptions.counts(), (0, 0), "{how}");
        assert!(memory(&subscriptions) < KEPT, "{how}: memory for {} entries", memory(&subscriptions));
    }
}
