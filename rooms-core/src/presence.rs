//! Looking after the other nodes: heartbeats, good-byes, and what they say.
//!
//! The counts themselves are the rooms' business, and travel between their rows. Here is what keeps them right whatever
//! gets lost: who is there at all, and whose rows are to be asked for. All of it goes over the [`Bus`](crate::Bus), so
//! every bus has it.

mod pulse;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use self::pulse::Pulse;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    nodes::{
        Peer,
        wire::{self, Say},
    },
    registry::{
        Registry,
        asks::{Answer, ROOMS},
    },
    room_key::RoomKey,
};

/// One manager's part among the nodes.
pub(crate) struct Presence {
    registry: Arc<Registry>,
    pulse: Arc<Pulse>,
    /// Peers that said good-bye, whose rows are to be forgotten.
    departed: Mutex<Vec<Arc<Peer>>>,
    beats: AtomicU64,
    /// Words that were no words.
    misheard: AtomicU64,
    /// Somebody asked whether this node is there.
    called: AtomicBool,
    /// The bus was asked for what is said to every node, and for what is said to this one.
    asked: AtomicBool,
    /// Which of the two it has confirmed.
    confirmed: [AtomicBool; 2],
    /// When this node said that it is there. Whoever else is has answered soon after.
    introduced: OnceLock<Instant>,
}

impl Presence {
    /// Begins. The task that beats ends with the manager.
    pub(crate) fn start(registry: Arc<Registry>) -> Arc<Self> {
        let presence = Arc::new(Self {
            registry,
            pulse: Arc::default(),
            departed: Mutex::default(),
            beats: AtomicU64::new(0),
            misheard: AtomicU64::new(0),
            called: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            confirmed: Default::default(),
            introduced: OnceLock::new(),
        });
        presence.registry.runtime().spawn(pulse::run(Arc::downgrade(&presence), Arc::clone(&presence.pulse)));
        presence
    }

    /// What came on a topic of the nodes.
    pub(crate) fn hear(&self, topic: &Topic, payload: &[u8]) {
        let said = match wire::decode(payload) {
            Ok(said) => said,
            Err(fault) => {
                self.misheard(payload.len(), &fault.to_string());
                return;
            }
        };
        let registry = &self.registry;
        if let Say::Bye {} = said.say {
            lock(&self.departed).extend(registry.nodes.depart(said.node));
            registry.news.notify_one();
            return;
        }
        let Some(peer) = registry.nodes.heard(said.node, Instant::now()) else { return };
        match said.say {
            Say::Hello {} => self.called.store(true, Ordering::Relaxed),
            Say::Beat { number, digests } => {
                peer.compare(number, digests.get(&registry.nodes.me()).copied().unwrap_or_default());
            }
            Say::Bye {} => {}
            Say::Ask { rooms, .. } if rooms.len() > ROOMS => {
                self.misheard(payload.len(), "a question for too many rooms")
            }
            Say::Ask { ask, rooms } => registry.answer(said.node, ask, rooms),
            Say::Answer { ask, version, rows, left_out } => {
                registry.answered(ask, Answer { from: said.node, version, rows, left_out });
            }
            Say::Row(row) if matches!(topic, Topic::Control(room) if *room == row.room) => {
                registry.take_row(&peer, row);
            }
            Say::Row(_) => self.misheard(payload.len(), "a row on another room's topic"),
        }
        if peer.wants_asking() || self.called.load(Ordering::Relaxed) {
            registry.news.notify_one();
        }
    }

    /// Words on a topic may have been lost.
    pub(crate) fn missed(&self, topic: &Topic) {
        // Whatever it was, the rows of everybody tell it.
        if !matches!(topic, Topic::Room(_)) {
            self.missed_all();
        }
    }

    /// Words on any topic may have been lost.
    pub(crate) fn missed_all(&self) {
        for peer in self.registry.nodes.live() {
            peer.want_rows();
        }
        self.called.store(true, Ordering::Relaxed);
        self.registry.news.notify_one();
    }

    /// The bus is down: nobody can be heard, so nobody is gone.
    pub(crate) fn deaf(&self) {
        self.pulse.pause();
    }

    /// The bus is back: everybody has the time of a new lease to be heard.
    pub(crate) fn hears(&self) {
        self.pulse.resume(Instant::now());
        self.called.store(true, Ordering::Relaxed);
        self.registry.news.notify_one();
    }

    /// Words from the bus that were dropped: no sense, or another version's.
    pub(crate) fn misheard_count(&self) -> u64 {
        self.misheard.load(Ordering::Relaxed)
    }

    /// Whether what is known of the other nodes is all there is to know.
    pub(crate) fn is_settled(&self) -> bool {
        self.knows_nodes() && self.registry.nodes.live().iter().all(|peer| peer.is_settled())
    }

    /// Whether every node has had the time to be heard.
    fn knows_nodes(&self) -> bool {
        let answered = |introduced: &Instant| introduced.elapsed() >= self.registry.limits().answer;
        self.pulse.is_listening() && self.introduced.get().is_some_and(answered)
    }

    /// Says good-bye.
    pub(crate) async fn bye(&self) {
        self.pulse.stop();
        self.registry.news.notify_one();
        self.registry.say(&Topic::Nodes, Say::Bye {}).await;
    }

    fn misheard(&self, length: usize, fault: &str) {
        self.misheard.fetch_add(1, Ordering::Relaxed);
        // The counter is for watching: a fleet of mixed releases would fill the log.
        tracing::debug!(length, fault, "a word from another node was dropped");
    }

    /// The bus has subscribed topics.
    pub(crate) fn subscribed(&self, topics: &[Topic]) {
        let me = Topic::Node(self.registry.nodes.me());
        for (topic, confirmed) in [Topic::Nodes, me].iter().zip(&self.confirmed) {
            if topics.contains(topic) && !confirmed.swap(true, Ordering::Relaxed) {
                self.registry.news.notify_one();
            }
        }
    }

    /// Asks for what is said to every node and to this one; once the bus has both, says that it is there.
    async fn begin(&self) -> bool {
        if !self.asked.load(Ordering::Relaxed) {
            let topics = [Topic::Nodes, Topic::Node(self.registry.nodes.me())];
            self.asked.store(self.registry.tell_bus(|bus| bus.subscribe(&topics)), Ordering::Relaxed);
        }
        if !self.confirmed.iter().all(|confirmed| confirmed.load(Ordering::Relaxed)) {
            return false;
        }
        self.registry.say(&Topic::Nodes, Say::Hello {}).await;
        _ = self.introduced.set(Instant::now());
        true
    }

    async fn beat(&self) {
        let number = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        let digests: BTreeMap<_, _> = self.registry.nodes.live().iter().map(|peer| (peer.id(), peer.mine())).collect();
        self.registry.say(&Topic::Nodes, Say::Beat { number, digests }).await;
    }

    /// Ends the peers that were not heard since a time, and those that said good-bye.
    async fn bury(&self, silent_since: Option<Instant>) {
        let mut gone = std::mem::take(&mut *lock(&self.departed));
        if let Some(since) = silent_since {
            gone.extend(self.registry.nodes.expire(since));
        }
        for peer in gone {
            self.registry.forget(&peer).await;
        }
    }

    /// Asks the peers whose rows are wanted.
    fn ask(&self) {
        for peer in self.registry.nodes.live() {
            if peer.begin_asking() {
                let registry = Arc::clone(&self.registry);
                self.registry.runtime().spawn(registry.ask_for_all(peer));
            }
        }
    }

    /// What the nodes have in a room that is not here: their rows, and whether all of them answered.
    pub(crate) async fn survey(&self, room: &RoomKey) -> (Vec<wire::Row>, bool) {
        let registry = &self.registry;
        let peers = registry.nodes.live();
        let answers = registry.ask(&peers, std::slice::from_ref(room), registry.limits().answer).await;
        let exact = answers.missing.is_empty() && self.knows_nodes();
        let rows = answers.all.into_iter().flat_map(|answer| answer.rows).filter(|row| row.room == *room);
        (rows.collect(), exact)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.pulse.stop();
        self.registry.news.notify_one();
    }
}
