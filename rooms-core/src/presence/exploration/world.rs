//! Some nodes with one room, and the messages that are under way between them.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    hash::RandomState,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    auth::{RevocationList, SystemClock},
    bus::Topic,
    limits::Limits,
    node::{ConnectionId, NodeId},
    presence::{
        Arrival, Due, Known, Listing, Rules, Share,
        entry::Name,
        ledger::Ledger,
        node::{Action, Node, Received},
        replica::EntrySource,
        rooms::{self, Rooms},
        wire::{self, NodeMessage, Packet},
    },
    room_key::RoomKey,
};

const WINDOW: Duration = Duration::from_millis(250);
const LINGER: Duration = Duration::from_secs(5);
/// Longer than a window, so that others come and go meanwhile; over before the calm is.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
const CALM: Duration = Duration::from_secs(12);

/// A part of the protocol that is left out, to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// Nobody forgets what a node that is gone had.
    Forgets,
    /// Nobody asks once more after a first entry.
    Rechecks,
    /// Nobody asks for all entries.
    Syncs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Joins(usize),
    /// One joins that is not counted.
    Observes(usize),
    /// Whoever came last.
    Leaves(usize),
    Crashes(usize),
    Returns(usize),
    /// Until somebody has something to do.
    Time,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    Lost,
    Twice,
    /// After the next event.
    Late,
}

impl Fate {
    pub(super) const ALL: [Self; 4] = [Self::Arrives, Self::Lost, Self::Twice, Self::Late];
}

/// A message to one node.
#[derive(Clone)]
pub(super) struct Flight {
    to: NodeId,
    topic: Topic,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.bytes))
    }
}

pub(super) struct World {
    now: Instant,
    nodes: Vec<Option<SimNode>>,
    flights: VecDeque<Flight>,
    late: Vec<Flight>,
    next_id: u64,
    kind: SimKind,
    broken: Broken,
}

/// What the room is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SimKind {
    #[default]
    Counted,
    /// It names its members.
    Named,
    /// And some may observe it.
    Observed,
    /// It names its members, and shows those who left for a moment still.
    Graced,
}

struct SimNode {
    node: Node,
    ledger: Arc<Ledger>,
    place: SimRoom,
}

/// The room on one node, if it is there.
struct SimRoom {
    key: RoomKey,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    share: Option<Share>,
    /// Who waits until the room is open, and whether they are observers.
    joining: Vec<bool>,
    members: Vec<Member>,
    entry_due: bool,
    window: Option<Instant>,
    opened: bool,
    empty_since: Option<Instant>,
    kind: SimKind,
    now: Option<Instant>,
}

struct Member {
    id: ConnectionId,
    known: Option<Known>,
    observes: bool,
    /// The number that it was told last.
    told: usize,
}

impl Inner {
    /// Tells the members, and notes what else is due.
    fn take(&mut self, due: Due) {
        let Due { events, entry, timer, .. } = due;
        for event in events {
            let others = self.members.iter_mut().filter(|member| Some(member.id) != event.except);
            others.for_each(|member| member.told = event.viewers);
        }
        self.entry_due |= entry;
        if timer {
            self.window = self.now.map(|now| now + WINDOW);
        }
    }
}

impl Rooms for SimRoom {
    fn keys(&self) -> Vec<RoomKey> {
        self.inner.borrow().share.iter().map(|_| self.key.clone()).collect()
    }

    fn change<T>(&self, _: &RoomKey, change: impl FnOnce(&mut Share) -> (T, Due)) -> Option<T> {
        let mut inner = self.inner.borrow_mut();
        let (result, due) = change(inner.share.as_mut()?);
        inner.take(due);
        Some(result)
    }

    fn open(&self, _: &RoomKey, _: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.opened = inner.share.is_some();
        for observes in std::mem::take(&mut inner.joining) {
            let id = ConnectionId::for_test(inner.members.len() as u64);
            let named = inner.kind != SimKind::Counted;
            let arrival = named.then(|| Arrival { user: Name("ann".into()), since: 0, info: None });
            let Some(share) = &mut inner.share else { return };
            let (arriving, due) =
                if observes { share.observe(id, Listing::Names) } else { share.arrive(id, arrival, Listing::Names) };
            inner.take(due);
            inner.members.push(Member { id, known: arriving.known, observes, told: arriving.viewers });
        }
    }
}

/// Nothing is revoked.
fn none() -> Arc<RevocationList> {
    Arc::new(RevocationList::new(0, Arc::new(SystemClock)))
}

/// Nodes guess nothing, so all runs may have the same secrets.
fn secret() -> RandomState {
    static SECRET: OnceLock<RandomState> = OnceLock::new();
    SECRET.get_or_init(RandomState::new).clone()
}

impl World {
    /// Nodes that know each other; with a member each, or without.
    pub(super) fn settled(nodes: usize, members: bool, kind: SimKind, broken: Broken) -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = *START.get_or_init(Instant::now);
        let (flights, late) = (VecDeque::new(), Vec::new());
        let mut world = Self { now, nodes: Vec::new(), flights, late, next_id: 1, kind, broken };
        for _ in 0..nodes {
            let node = world.new_node();
            world.nodes.push(Some(node));
        }
        world.calm_for(Duration::from_secs(2));
        if members {
            (0..nodes).for_each(|at| world.happens(Event::Joins(at)));
            world.calm_for(Duration::from_secs(5));
        }
        world
    }

    fn new_node(&mut self) -> SimNode {
        let id = NodeId::for_test(self.next_id);
        self.next_id += 1;
        let ledger = Arc::new(Ledger::default());
        let node = Node::new(id, &Limits::default(), None, secret(), Arc::clone(&ledger), none(), self.now);
        let inner = RefCell::new(Inner { kind: self.kind, ..Inner::default() });
        SimNode { node, ledger, place: SimRoom { key: RoomKey::new("post", 1).unwrap(), inner } }
    }

    pub(super) fn possible(&self) -> Vec<Event> {
        let mut events = vec![Event::Time];
        for (at, node) in self.nodes.iter().enumerate() {
            match node {
                None => events.push(Event::Returns(at)),
                Some(node) => {
                    let members = node.place.inner.borrow().members.len();
                    events.extend([Event::Crashes(at)].iter().filter(|_| members > 0));
                    events.extend([Event::Leaves(at)].iter().filter(|_| members > 0));
                    events.extend([Event::Joins(at)].iter().filter(|_| members < 2));
                    let observed = self.kind == SimKind::Observed;
                    events.extend([Event::Observes(at)].iter().filter(|_| observed && members < 2));
                }
            }
        }
        events
    }

    pub(super) fn happens(&mut self, event: Event) {
        // What is late comes behind what the next event makes them send.
        let late = std::mem::take(&mut self.late);
        match event {
            Event::Joins(at) => self.with(at, |_, node, now| node.join(false, now)),
            Event::Observes(at) => self.with(at, |_, node, now| node.join(true, now)),
            Event::Leaves(at) => self.with(at, |_, node, now| node.leave(now)),
            Event::Crashes(at) => self.nodes[at] = None,
            Event::Returns(at) => self.nodes[at] = Some(self.new_node()),
            Event::Time => self.pass(),
        }
        self.run();
        self.flights.extend(late);
    }

    pub(super) fn next_message(&mut self) -> Option<Flight> {
        self.flights.pop_front()
    }

    pub(super) fn deliver(&mut self, flight: Flight, fate: Fate) {
        let times = match fate {
            Fate::Arrives => 1,
            Fate::Twice => 2,
            Fate::Lost => 0,
            Fate::Late => {
                self.late.push(flight);
                return;
            }
        };
        let to = self.nodes.iter().position(|node| node.as_ref().is_some_and(|node| node.node.me() == flight.to));
        let Some(to) = to else { return };
        for _ in 0..times {
            let packet = wire::decode(&flight.bytes).unwrap();
            self.with(to, |_, node, now| node.receive(&flight.topic, packet, now));
        }
        self.run();
    }

    /// Seconds without faults.
    pub(super) fn calm(&mut self) {
        self.flights.extend(std::mem::take(&mut self.late));
        self.calm_for(CALM);
    }

    fn calm_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        loop {
            while let Some(flight) = self.next_message() {
                self.deliver(flight, Fate::Arrives);
            }
            if self.now >= end {
                return;
            }
            self.pass();
            self.run();
        }
    }

    /// Time passes until somebody has something to do.
    fn pass(&mut self) {
        let wakes = self.nodes.iter().flatten().flat_map(|node| {
            let inner = node.place.inner.borrow();
            [Some(node.node.wake()), inner.window, inner.empty_since.map(|since| since + LINGER)]
        });
        let soonest = wakes.flatten().min().unwrap_or(self.now);
        self.now = soonest.max(self.now + Duration::from_millis(1));
    }

    fn with(&mut self, at: usize, change: impl FnOnce(&Self, &mut SimNode, Instant)) {
        let Some(mut node) = self.nodes[at].take() else { return };
        node.place.inner.borrow_mut().now = Some(self.now);
        change(self, &mut node, self.now);
        self.nodes[at] = Some(node);
    }

    /// Every node does what it has to do now.
    fn run(&mut self) {
        for at in 0..self.nodes.len() {
            let (mut sent, broken) = (Vec::new(), self.broken);
            self.with(at, |_, node, now| node.run(now, broken, &mut sent));
            for (from, topic, message) in sent {
                let bytes = wire::encode(from, message);
                let hears = |node: &&SimNode| node.node.me() != from && node.hears(&topic);
                let to = self.nodes.iter().flatten().filter(hears).map(|node| node.node.me());
                let flights: Vec<_> = to.map(|to| Flight { to, topic: topic.clone(), bytes: bytes.clone() }).collect();
                self.flights.extend(flights);
            }
        }
    }

    /// Whether every node knows how many there are, and who, and every member was told; and nobody asks any more.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let counted = |inner: &Inner| inner.members.iter().filter(|member| !member.observes).count();
        let truth: usize = self.nodes.iter().flatten().map(|node| counted(&node.place.inner.borrow())).sum();
        for (at, node) in self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?))) {
            let inner = node.place.inner.borrow();
            if !node.node.is_settled(self.now) {
                return Err(format!("node {at} is not settled"));
            }
            if !inner.joining.is_empty() {
                return Err(format!("somebody still waits to join on node {at}"));
            }
            let Some(share) = inner.share.as_ref().filter(|_| !inner.members.is_empty()) else { continue };
            if share.viewers() != truth {
                return Err(format!("node {at} counts {} of {truth}", share.viewers()));
            }
            if let Some(member) = inner.members.iter().find(|member| member.told != truth) {
                return Err(format!("a member on node {at} was told {} of {truth}", member.told));
            }
            if let Some(listed) = share.listed() {
                let users: BTreeSet<_> = listed.users.iter().map(|user| &user.user).collect();
                let connections: u32 = listed.users.iter().map(|user| user.connections).sum();
                if (users.len(), connections as usize) != (truth.min(1), truth) {
                    return Err(format!("node {at} lists {listed:?} of {truth}"));
                }
            }
        }
        Ok(())
    }
}

impl SimNode {
    fn hears(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Nodes => true,
            Topic::Node(node) => *node == self.node.me(),
            Topic::Control(_) | Topic::Room(_) => self.place.inner.borrow().share.is_some(),
        }
    }

    fn join(&mut self, observes: bool, now: Instant) {
        let is_open = {
            let mut inner = self.place.inner.borrow_mut();
            inner.joining.push(observes);
            inner.empty_since = None;
            let max_named = (inner.kind != SimKind::Counted).then_some(10);
            let leave_grace = if inner.kind == SimKind::Graced { LEAVE_GRACE } else { Duration::ZERO };
            inner.share.get_or_insert_with(|| {
                let rules = Rules { max_named, leave_grace, tells_occupancy: false, hides_members: false };
                Share::new(rules, Arc::clone(&self.ledger))
            });
            inner.opened
        };
        let key = self.place.key.clone();
        if is_open || self.ledger.is_alone() {
            self.place.open(&key, 0);
        } else {
            self.node.opened(vec![key], now);
        }
    }

    fn leave(&mut self, now: Instant) {
        let mut inner = self.place.inner.borrow_mut();
        let Some(member) = inner.members.pop() else { return };
        let Some(share) = &mut inner.share else { return };
        let due = if member.observes { share.stop_observing() } else { share.leave(member.known.as_ref(), now) };
        inner.take(due);
        if inner.members.is_empty() && inner.joining.is_empty() {
            inner.empty_since = Some(now);
        }
    }

    fn receive(&mut self, topic: &Topic, packet: Packet, now: Instant) {
        let Ok(Received::Entry(peer, entry)) = self.node.receive(topic, packet, now) else { return };
        let source = EntrySource::Published { checksum: entry.version as u32 };
        let room = entry.room.clone();
        if let Some(applied) = self.place.change(&room, |share| share.apply(&peer, entry, source)) {
            self.node.applied(&peer, applied);
        }
    }

    /// As the driver does.
    fn run(&mut self, now: Instant, broken: Broken, sent: &mut Vec<(NodeId, Topic, NodeMessage)>) {
        while self.node.is_urgent() || self.node.wake() <= now {
            self.node.poll(now);
            for action in self.node.actions() {
                self.act(action, now, broken, sent);
            }
        }
        let window = self.place.inner.borrow_mut().window.take_if(|end| *end <= now);
        if window.is_some() {
            self.place.change(&self.place.key, |share| ((), share.window_ended(now)));
        }
        while let Some((asked, space)) = self.node.next_reply(now) {
            let reply = rooms::reply(&self.place, &self.ledger, &asked, space);
            sent.push((self.node.me(), Topic::Node(asked.from), reply));
        }
        if std::mem::take(&mut self.place.inner.borrow_mut().entry_due) {
            let key = &self.place.key;
            let outgoing = self.place.change(key, |share| (share.take_entry(key), Due::default())).flatten();
            if let Some(outgoing) = outgoing {
                if broken != Broken::Rechecks {
                    self.node.published(key.clone(), outgoing.first, now);
                }
                sent.push((self.node.me(), Topic::Control(key.clone()), NodeMessage::Entry(outgoing.entry)));
            }
        }
        self.retire(now);
    }

    fn act(&mut self, action: Action, now: Instant, broken: Broken, sent: &mut Vec<(NodeId, Topic, NodeMessage)>) {
        match action {
            Action::Subscribe(topics) => self.node.subscribed(&topics),
            Action::Send { from, topic, message } => sent.push((from, topic, message)),
            Action::Apply { peer, query, rooms: told, reply } => rooms::apply(&self.place, &peer, query, &told, reply),
            Action::Open { rooms: opened, query } => opened.iter().for_each(|room| self.place.open(room, query)),
            Action::Sync(peer) if broken == Broken::Syncs => self.node.sync(peer, Arc::new([]), now),
            Action::Sync(peer) => self.node.sync(peer, self.place.keys().into(), now),
            Action::Forget(peer) => {
                if broken != Broken::Forgets {
                    rooms::forget(&self.place, &peer, &self.place.keys());
                }
                self.node.forgotten(&peer);
            }
            Action::Unsubscribe(_) | Action::Surveyed { .. } | Action::SurveyEnded { .. } => {}
        }
    }

    /// Forgets the room once it was empty for long enough.
    fn retire(&mut self, now: Instant) {
        let mut inner = self.place.inner.borrow_mut();
        let over = inner.empty_since.is_some_and(|since| since + LINGER <= now);
        if over && inner.share.as_ref().is_some_and(Share::is_over) {
            *inner = Inner { kind: inner.kind, now: inner.now, ..Inner::default() };
        } else if over {
            inner.empty_since = Some(now + WINDOW);
        }
    }
}
