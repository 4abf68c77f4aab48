//! Asking other nodes what they have in rooms, and taking what they say.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::Registry;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    node::NodeId,
    nodes::{
        Asked, Nodes, Peer,
        wire::{Row, Say},
    },
    room::{Applied, Room, RowSource},
    room_key::RoomKey,
};

/// Rooms in one question. 512, as in one call of the bus: some ten kilobytes.
pub(crate) const ROOMS: usize = 512;

/// Questions that may be open. 4,096: a batch of joins is one, and so is a count from outside a room.
const OPEN: usize = 4096;

/// The questions that are open.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    next: AtomicU64,
}

/// What one node has in the rooms that were asked for; none in those that are missing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) from: NodeId,
    pub(crate) version: u64,
    pub(crate) rows: Vec<Row>,
    /// What it did not say.
    pub(crate) left_out: Vec<RoomKey>,
}

/// What the nodes answered.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) all: Vec<Answer>,
    /// Who did not answer in time, and is still there.
    pub(crate) missing: Vec<Arc<Peer>>,
}

/// A question that is open; dropping it closes it.
struct Open<'a> {
    asks: &'a Asks,
    ask: u64,
    answers: mpsc::Receiver<Answer>,
}

impl Asks {
    /// Opens a question to so many nodes; its number can't be guessed, so that only who hears it can answer.
    fn open(&self, answers: usize, nodes: &Nodes) -> Option<Open<'_>> {
        let mut open = lock(&self.open);
        if open.len() >= OPEN {
            return None;
        }
        let ask = nodes.unguessable(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answers) = mpsc::channel(answers.max(1));
        open.insert(ask, sender);
        Some(Open { asks: self, ask, answers })
    }

    pub(super) fn is_open(&self, ask: u64) -> bool {
        lock(&self.open).contains_key(&ask)
    }

    /// Hands an answer to who asked. One that comes late, or more often than there are nodes, is dropped.
    pub(super) fn answer(&self, ask: u64, answer: Answer) {
        let asker = lock(&self.open).get(&ask).cloned();
        if let Some(asker) = asker {
            _ = asker.try_send(answer);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.asks.open).remove(&self.ask);
    }
}

impl Registry {
    /// Asks nodes for their rows of at most [`ROOMS`] rooms.
    ///
    /// May be dropped at any time.
    pub(crate) async fn ask(&self, to: &[Arc<Peer>], rooms: &[RoomKey], within: Duration) -> Answers {
        let mut answers = Answers { all: Vec::new(), missing: to.to_vec() };
        // Twice, because a message may come twice.
        let Some(mut open) = self.asks.open(to.len() * 2, &self.nodes) else { return answers };
        let deadline = Instant::now() + within;
        let topic = match to {
            [] => return answers,
            [one] => Topic::Node(one.id()),
            _ => Topic::Nodes,
        };
        let asked = async {
            self.say(&topic, Say::Ask { ask: open.ask, rooms: rooms.to_vec() }).await;
            while !answers.missing.is_empty()
                && let Some(answer) = open.answers.recv().await
            {
                let before = answers.missing.len();
                answers.missing.retain(|peer| peer.id() != answer.from);
                if answers.missing.len() < before {
                    answers.all.push(answer);
                }
            }
        };
        _ = timeout_at(deadline, asked).await;
        answers.missing.retain(|peer| peer.is_live());
        answers
    }

    /// Learns what the other nodes have in rooms that were subscribed to just now, and then lets their joiners in.
    pub(super) async fn begin(self: Arc<Self>, rooms: Vec<Arc<Room>>) {
        self.learn(&rooms).await;
        for room in rooms {
            room.open();
        }
    }

    /// Learns what the other nodes have in at most [`ROOMS`] rooms.
    ///
    /// Who does not answer in time is asked again later; nobody waits for a node whose rows are to be asked for anyhow.
    pub(super) async fn learn(self: &Arc<Self>, rooms: &[Arc<Room>]) {
        let keys: Vec<RoomKey> = rooms.iter().map(|room| room.key.clone()).collect();
        let (now, within) = (Instant::now(), self.limits.answer_timeout);
        let (peers, others): (Vec<_>, Vec<_>) =
            self.nodes.live().into_iter().partition(|peer| peer.answers(now, within));
        for peer in others {
            self.want_rows(&peer);
        }
        let answers = self.ask(&peers, &keys, self.limits.answer_timeout).await;
        for peer in answers.missing {
            peer.gave_no_answer();
            self.news.notify_one();
        }
        for answer in answers.all {
            let from = answer.from;
            if !self.take(answer, rooms, &[]).is_empty()
                && let Some(peer) = self.nodes.find(from)
            {
                self.want_rows(&peer);
            }
        }
    }

    /// Asks one node for its rows of all rooms that are here.
    pub(crate) async fn ask_for_all(self: Arc<Self>, peer: Arc<Peer>) {
        let rooms = self.rooms();
        let (mut outcome, mut in_vain) = (Asked::Answered, 0);
        for rooms in rooms.chunks(ROOMS) {
            match self.ask_for(&peer, rooms).await {
                Asked::Answered => in_vain = 0,
                // One answer may be lost; a node that gives none is asked again later.
                Asked::InVain if in_vain > 0 => break,
                Asked::InVain => (outcome, in_vain) = (Asked::InVain, in_vain + 1),
            }
        }
        peer.end_asking(outcome);
    }

    async fn ask_for(self: &Arc<Self>, peer: &Arc<Peer>, rooms: &[Arc<Room>]) -> Asked {
        let mut rooms = rooms.to_vec();
        while !rooms.is_empty() {
            let keys: Vec<RoomKey> = rooms.iter().map(|room| room.key.clone()).collect();
            let known: Vec<u64> = rooms.iter().map(|room| room.version_of(peer)).collect();
            let answers = self.ask(std::slice::from_ref(peer), &keys, self.limits.answer_timeout).await;
            let Some(answer) = answers.all.into_iter().next() else { return Asked::InVain };
            let left = self.take(answer, &rooms, &known);
            if left.len() == rooms.len() {
                return Asked::InVain;
            }
            rooms = left;
        }
        Asked::Answered
    }

    /// Takes what a node said of these rooms: its rows, and that it has nobody in the others. Returns the rooms that it
    /// said nothing of. `known` is the version of its row in each that was known when it was asked, if that was looked at.
    fn take(self: &Arc<Self>, answer: Answer, rooms: &[Arc<Room>], known: &[u64]) -> Vec<Arc<Room>> {
        let Some(peer) = self.nodes.find(answer.from) else { return Vec::new() };
        let left_out: HashSet<RoomKey> = answer.left_out.into_iter().collect();
        let mut rows: HashMap<RoomKey, Row> = answer.rows.into_iter().map(|row| (row.room.clone(), row)).collect();
        let mut left = Vec::new();
        for (at, room) in rooms.iter().enumerate() {
            if left_out.contains(&room.key) {
                left.push(Arc::clone(room));
                continue;
            }
            let none = || Row { room: room.key.clone(), version: answer.version, connections: 0, users: None };
            let row = rows.remove(&room.key).unwrap_or_else(none);
            let (_, effects) = room.apply(&peer, row, RowSource::Answered { known: known.get(at).copied() });
            self.act(room, effects);
        }
        left
    }

    /// A node's rows are to be asked for, soon.
    pub(crate) fn want_rows(&self, peer: &Peer) {
        peer.want_rows();
        self.news.notify_one();
    }

    /// Takes a row that a node published.
    pub(crate) fn take_row(self: &Arc<Self>, peer: &Arc<Peer>, row: Row) {
        let Some(room) = self.find(&row.room) else { return };
        let source = RowSource::Published { checksum: self.nodes.checksum(&row) };
        let (applied, effects) = room.apply(peer, row, source);
        self.act(&room, effects);
        if matches!(applied, Applied::Missing | Applied::Doubted) {
            // Something between was lost, or forged: its heartbeats may say so too, but this is known now.
            self.want_rows(peer);
        }
    }

    /// Forgets a node that is gone.
    pub(crate) async fn forget(self: &Arc<Self>, peer: &Peer) {
        for (number, room) in self.rooms().into_iter().enumerate() {
            let effects = room.forget(peer);
            self.act(&room, effects);
            // A hundred thousand rooms are many milliseconds.
            if number % ROOMS == ROOMS - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.nodes.forget(peer);
    }
}
