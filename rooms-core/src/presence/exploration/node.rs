//! A node of the simulated world, with its share of the one room, driven as the driver does it.

use std::{
    cell::RefCell,
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
        wire::{NodeMessage, Packet},
    },
    room_key::RoomKey,
};

const WINDOW: Duration = Duration::from_millis(250);
/// How long a room without members is kept.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// Longer than a window, so that others come and go meanwhile; over before the calm is.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

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
    /// Nobody counts out who left once the time is over for which they are shown.
    Graces,
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

/// A node, and what it has of the one room.
pub(super) struct SimNode {
    pub(super) node: Node,
    began: Instant,
    ledger: Arc<Ledger>,
    pub(super) place: SimRoom,
}

/// The room on one node, if it is there.
pub(super) struct SimRoom {
    key: RoomKey,
    pub(super) inner: RefCell<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) share: Option<Share>,
    /// Who waits until the room is open, and whether they are observers.
    pub(super) joining: Vec<bool>,
    pub(super) members: Vec<Member>,
    entry_due: bool,
    pub(super) window: Option<Instant>,
    opened: bool,
    pub(super) empty_since: Option<Instant>,
    kind: SimKind,
    pub(super) now: Option<Instant>,
}

pub(super) struct Member {
    id: ConnectionId,
    known: Option<Known>,
    pub(super) observes: bool,
    /// The number that it was told last.
    pub(super) told: usize,
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

impl SimNode {
    pub(super) fn new(id: NodeId, kind: SimKind, now: Instant) -> Self {
        let ledger = Arc::new(Ledger::default());
        let node = Node::new(id, &Limits::default(), None, secret(), Arc::clone(&ledger), none(), now);
        let inner = RefCell::new(Inner { kind, ..Inner::default() });
        Self { node, began: now, ledger, place: SimRoom { key: RoomKey::new("post", 1).unwrap(), inner } }
    }

    pub(super) fn hears(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Nodes => true,
            Topic::Node(node) => *node == self.node.me(),
            Topic::Control(_) | Topic::Room(_) => self.place.inner.borrow().share.is_some(),
        }
    }

    pub(super) fn join(&mut self, observes: bool, now: Instant) {
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

    pub(super) fn leave(&mut self, now: Instant) {
        let mut inner = self.place.inner.borrow_mut();
        let Some(member) = inner.members.pop() else { return };
        let Some(share) = &mut inner.share else { return };
        let due = if member.observes { share.stop_observing() } else { share.leave(member.known.as_ref(), now) };
        inner.take(due);
        if inner.members.is_empty() && inner.joining.is_empty() {
            inner.empty_since = Some(now);
        }
    }

    pub(super) fn receive(&mut self, topic: &Topic, packet: Packet, now: Instant) {
        let Ok(Received::Entry(peer, entry)) = self.node.receive(topic, packet, now) else { return };
        let source = EntrySource::Published { checksum: entry.version as u32 };
        let room = entry.room.clone();
        if let Some(applied) = self.place.change(&room, |share| share.apply(&peer, entry, source)) {
            self.node.applied(&peer, applied);
        }
    }

    /// As the driver does.
    pub(super) fn run(&mut self, now: Instant, broken: Broken, sent: &mut Vec<(NodeId, Topic, NodeMessage)>) {
        while self.node.is_urgent() || self.node.wake() <= now {
            self.node.poll(now);
            for action in self.node.actions() {
                self.act(action, now, broken, sent);
            }
        }
        let window = self.place.inner.borrow_mut().window.take_if(|end| *end <= now);
        if window.is_some() {
            // Before the end of any grace.
            let end = if broken == Broken::Graces { self.began } else { now };
            self.place.change(&self.place.key, |share| ((), share.window_ended(end)));
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
