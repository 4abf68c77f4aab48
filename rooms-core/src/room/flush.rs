//! Going round the members of a room, giving each what it has not had.

#[cfg(all(test, rooms_loom))]
mod model;
mod parted;
mod paused;

use std::{
    num::NonZeroU64,
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::runtime::Handle;

use parted::Parted;

use super::{Room, State, deflated::Deflated};
use crate::{
    kind::Rights,
    lock::lock,
    message::{Form, Message},
    metrics::Stopwatch,
    node::ConnectionId,
    outbox::{About, Framing, Recipient, Source},
    presence::For,
};

/// Members served between two looks at the room and two turns of the runtime: at some 9 µs a write about half a
/// millisecond, so that neither a join nor another task waits longer.
const CHUNK: usize = if cfg!(rooms_loom) { 1 } else { 64 };
/// Members for which a flusher more is worth a task: a handful of chunks each.
const SHARE: usize = if cfg!(rooms_loom) { 1 } else { 8 * CHUNK };

/// Serves the room until every member is at the head of its log.
///
/// What is published meanwhile is in what the next member gets, so batches grow by themselves under load. In a large
/// room several flushers share each round, a chunk at a time, on as many cores as the runtime has.
///
/// Boxed, because a future that spawned its own kind would have no end. And it keeps the task small, which is made while
/// connections come: a task is aligned to 128 bytes, so what a larger one leaves between theirs is of no use to them.
pub(crate) fn flush(flusher: Flusher) -> BoxFuture<'static, ()> {
    go_round(flusher).boxed()
}

async fn go_round(mut flusher: Flusher) {
    let workers = Handle::current().metrics().num_workers();
    let mut chunk = Chunk::new(flusher.room.source());
    loop {
        match flusher.next(&mut chunk, workers) {
            Next::Deliver { helpers } => {
                for _ in 0..helpers {
                    tokio::spawn(flush(Flusher::counted(&flusher.room)));
                }
                let Given { messages, bytes } = chunk.deliver();
                let metrics = &flusher.room.kind.metrics;
                metrics.deliveries.add(messages);
                metrics.delivered_bytes.add(bytes);
            }
            Next::Over => return,
        }
        tokio::task::yield_now().await;
    }
}

/// How far the flushers of a room are.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many there are.
    flushers: usize,
    /// Those that have a chunk in hand. A round ends when there is none: were the next begun before, a member could get
    /// its newer messages from one flusher before the older ones from another.
    delivering: usize,
    /// The slot of the next member.
    slot: usize,
    /// The log's head when this round began: after it nobody is behind that.
    goal: u64,
    /// Since when it goes on, where its time is taken.
    begun: Option<Stopwatch>,
    /// It also goes to the members that are paused.
    to_paused: bool,
    parted: Parted,
}

impl Progress {
    /// What the round that goes on, or went on last, brings every member up to.
    pub(super) const fn goal(&self) -> u64 {
        self.goal
    }

    /// Whether the round with this goal goes on, and somebody has a part of it in hand.
    pub(super) const fn is_delivering_up_to(&self, goal: u64) -> bool {
        self.delivering > 0 && self.goal == goal
    }

    /// Counts a first flusher in; `false` where there is one.
    pub(super) fn start(&mut self) -> bool {
        if self.flushers > 0 {
            return false;
        }
        // The first look finds the round over, and begins one.
        *self = Self { flushers: 1, slot: usize::MAX, ..Self::default() };
        true
    }
}

/// One flusher's part in the progress. Dropped before the end, or before it began (a runtime going down), it lets the
/// next publish start another.
pub(crate) struct Flusher {
    room: Arc<Room>,
    delivering: bool,
    counted: bool,
}

impl Flusher {
    /// For a place that the progress has counted already.
    pub(crate) fn counted(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), delivering: false, counted: true }
    }
}

enum Next {
    /// Deliver the chunk, once so many more flushers are started.
    Deliver { helpers: usize },
    /// Every member is at the head, or other flushers have the last chunks of the round in hand.
    Over,
}

/// Some members, and what each has not had.
struct Chunk {
    source: Source,
    members: Vec<Due>,
    /// Members that are given the news of viewers alone; none in most rounds.
    paused: Vec<Due>,
    messages: Vec<Message>,
    /// The same for members that are in many rooms; empty where the room has none.
    multi: Vec<Message>,
    /// Where they are compressed; empty where no member takes that, or none of them is long enough.
    deflated: Vec<Option<Arc<Deflated>>>,
    about: Vec<About>,
    /// The position of the first message.
    first: u64,
    /// The messages that some members do not get, in their order: rarely any.
    excepts: Vec<(usize, Except)>,
    /// The members that were not given all of it, each with the offset of the first that it was not given.
    behind: Vec<(usize, Arc<Recipient>, NonZeroU64)>,
    /// The fan-outs that are over.
    given: Vec<tracing::Span>,
}

/// What the members of a chunk were given.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    messages: u64,
    /// Where they are recorded.
    bytes: u64,
}

struct Due {
    recipient: Arc<Recipient>,
    slot: usize,
    cursor: u64,
    rights: Rights,
}

/// Whom a message is not for.
#[derive(Debug, Clone, Copy)]
enum Except {
    Connection(ConnectionId),
    /// All but those.
    AllBut(For),
}

impl Except {
    fn is(self, due: &Due) -> bool {
        match self {
            Self::Connection(connection) => connection == due.recipient.id(),
            Self::AllBut(to) => !due.rights.receives(to),
        }
    }
}

impl Flusher {
    /// Puts the last chunk down and fills the next.
    fn next(&mut self, chunk: &mut Chunk, workers: usize) -> Next {
        chunk.clear();
        let room = Arc::clone(&self.room);
        let mut state = lock(&room.state);
        // Before the chunk counts as delivered, so that none of them is in the next round.
        for (slot, recipient, offset) in chunk.behind.drain(..) {
            state.fall_behind(&room, slot, &recipient, offset);
        }
        self.put_down(&mut state.progress);
        let mut helpers = 0;
        loop {
            if state.progress.slot >= state.members.len() {
                if state.progress.delivering > 0 {
                    self.leave(&mut state.progress);
                    return Next::Over;
                }
                let more = state.begin_round(&room, &mut chunk.given);
                state.for_space.take().wake();
                if !more {
                    self.leave(&mut state.progress);
                    return Next::Over;
                }
                let wanted = workers.min((state.members.len() - state.free.len()) / SHARE);
                helpers = wanted.saturating_sub(state.progress.flushers);
                state.progress.flushers += helpers;
            }
            state.fill(&room, chunk);
            if !chunk.is_empty() {
                self.delivering = true;
                state.progress.delivering += 1;
                return Next::Deliver { helpers };
            }
        }
    }
}

impl Flusher {
    fn put_down(&mut self, progress: &mut Progress) {
        if std::mem::take(&mut self.delivering) {
            progress.delivering -= 1;
        }
    }

    fn leave(&mut self, progress: &mut Progress) {
        if std::mem::take(&mut self.counted) {
            progress.flushers -= 1;
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        let room = Arc::clone(&self.room);
        let mut state = lock(&room.state);
        self.put_down(&mut state.progress);
        self.leave(&mut state.progress);
    }
}

impl State {
    /// Forgets what every member has had, and begins the next round; `false` where nobody is behind.
    fn begin_round(&mut self, room: &Room, given: &mut Vec<tracing::Span>) -> bool {
        if let Some(begun) = self.progress.begun.take() {
            room.kind.metrics.fan_out.since(begun);
        }
        self.progress.parted = Parted::default();
        self.tell_those_behind(room);
        self.log.trim(self.progress.goal, given);
        let stands = self.stands();
        room.say_again(self, stands);
        let head = self.log.head();
        if head == self.progress.goal || self.members.is_empty() {
            return false;
        }
        (self.progress.slot, self.progress.goal) = (0, head);
        self.progress.to_paused = std::mem::take(&mut self.viewers_changed);
        self.progress.begun = room.kind.metrics.time_fan_out();
        true
    }

    /// Puts the round's next members into the chunk, with what they have not had.
    fn fill(&mut self, room: &Room, chunk: &mut Chunk) {
        let head = self.log.head();
        let hides = room.kind.hides_members();
        chunk.first = head;
        for (slot, place) in self.members.iter_mut().enumerate().skip(self.progress.slot) {
            if chunk.members.len() == CHUNK {
                break;
            }
            self.progress.slot += 1;
            let Some(member) = place else { continue };
            if member.cursor >= head {
                if self.progress.to_paused && chunk.take_paused(slot, member, &self.log, self.progress.goal, hides) {
                    break;
                }
                continue;
            }
            if member.held().is_some() {
                member.hold(&mut self.log, &room.key, room.bounds());
            } else {
                chunk.first = chunk.first.min(member.cursor);
                let rights = if hides { member.rights() } else { Rights::MEMBER };
                let recipient = Arc::clone(&member.recipient);
                chunk.members.push(Due { recipient, slot, cursor: member.cursor, rights });
            }
            member.cursor = head;
            self.ahead = head;
        }
        if room.multi.load(Ordering::Relaxed) > 0 {
            chunk.multi.extend(self.log.since_mut(chunk.first).map(|entry| entry.multi(&room.key).clone()));
        }
        if room.deflating.load(Ordering::Relaxed) > 0 {
            let from = room.limits.min_deflate_bytes;
            chunk.deflated.extend(self.log.since_mut(chunk.first).map(|entry| entry.deflated(from)));
            if chunk.deflated.iter().all(Option::is_none) {
                chunk.deflated.clear();
            }
        }
        for (index, entry) in self.log.since(chunk.first).enumerate() {
            chunk.messages.push(entry.message.clone());
            chunk.about.push(entry.about);
            if let Some(connection) = entry.except {
                chunk.excepts.push((index, Except::Connection(connection)));
            }
            if entry.to != For::All {
                chunk.excepts.push((index, Except::AllBut(entry.to)));
            }
        }
    }
}

impl Chunk {
    const fn new(source: Source) -> Self {
        Self {
            source,
            members: Vec::new(),
            paused: Vec::new(),
            messages: Vec::new(),
            multi: Vec::new(),
            deflated: Vec::new(),
            about: Vec::new(),
            first: 0,
            excepts: Vec::new(),
            behind: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Gives each member its messages, outside every lock but its own.
    fn deliver(&mut self) -> Given {
        let mut behind = std::mem::take(&mut self.behind);
        let given = if !self.deflated.is_empty() {
            let compressed = self.compressed();
            let messages = |recipient: &Recipient| {
                let framing = recipient.framing();
                let batch = compressed.iter().find(|(of, _)| *of == framing);
                batch.map_or_else(|| self.in_form(framing.form), |(_, batch)| batch)
            };
            self.deliver_in(messages, &mut behind)
        } else if self.multi.is_empty() {
            // Without a look at each member, because this is the hot path of most rooms.
            self.deliver_in(|_| &self.messages, &mut behind)
        } else {
            self.deliver_in(|recipient| self.in_form(recipient.form()), &mut behind)
        };
        let given = if self.paused.is_empty() { given } else { self.tell_paused(given, &mut behind) };
        self.behind = behind;
        given
    }

    fn in_form(&self, form: Form) -> &[Message] {
        match form {
            Form::Single => &self.messages,
            Form::Multi | Form::Positioned => &self.multi,
        }
    }

    /// The messages as they are for those of these members that take what is compressed: one batch in most rooms, and one
    /// more for each form and each window that clients ask for.
    fn compressed(&self) -> Vec<(Framing, Vec<Message>)> {
        let mut batches: Vec<(Framing, Vec<Message>)> = Vec::new();
        for framing in self.members.iter().map(|due| due.recipient.framing()) {
            if framing.deflate.is_none() || batches.iter().any(|(of, _)| *of == framing) {
                continue;
            }
            let both = self.in_form(framing.form).iter().zip(&self.deflated);
            let batch = both.map(|(message, deflated)| {
                deflated.as_ref().and_then(|deflated| deflated.of(message, framing)).unwrap_or(message).clone()
            });
            batches.push((framing, batch.collect()));
        }
        batches
    }

    fn deliver_in<'a>(
        &'a self,
        messages: impl Fn(&Recipient) -> &'a [Message],
        behind: &mut Vec<(usize, Arc<Recipient>, NonZeroU64)>,
    ) -> Given {
        let mut given = Given::default();
        // Of each message once, and not once for each member.
        let all = Self::bytes(&self.messages);
        for due in &self.members {
            let messages = messages(&due.recipient);
            let mut from = usize::try_from(due.cursor - self.first).unwrap_or(usize::MAX);
            let skipped = self.excepts.iter().filter(|(_, except)| except.is(due));
            let ends = skipped.map(|(index, _)| *index).chain([messages.len()]);
            for end in ends {
                // A skipped message may lie before the member's cursor.
                let place = from..end.max(from);
                if let (Some(batch @ [_, ..]), Some(about)) =
                    (messages.get(place.clone()), self.about.get(place.clone()))
                {
                    let left_out = due.recipient.deliver_from(&self.source, batch, about);
                    given.messages += batch.len() as u64;
                    given.bytes += if batch.len() == self.messages.len() { all } else { self.bytes_in(place) };
                    if let Some(offset) = left_out {
                        behind.push((due.slot, Arc::clone(&due.recipient), offset));
                        self.tell(due, messages, end);
                        break;
                    }
                }
                from = from.max(end + 1);
            }
        }
        given
    }

    /// The length of some messages as they are on a connection for one room, whatever their members' form.
    fn bytes_in(&self, place: Range<usize>) -> u64 {
        self.messages.get(place).map_or(0, Self::bytes)
    }

    /// The length of messages, where it is recorded.
    fn bytes(batch: &[Message]) -> u64 {
        if cfg!(feature = "metrics") { batch.iter().map(|message| message.frame().len() as u64).sum() } else { 0 }
    }

    /// Tells a member that was left out what comes after a place, other than what the log of the room has.
    fn tell(&self, due: &Due, messages: &[Message], after: usize) {
        for (at, (message, about)) in messages.iter().zip(&self.about).enumerate().skip(after) {
            let excepted = self.excepts.iter().any(|(index, except)| *index == at && except.is(due));
            if about.offset().is_none() && !excepted {
                due.recipient.queue_from(&self.source, message, *about);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.paused.is_empty()
    }

    fn clear(&mut self) {
        self.members.clear();
        self.paused.clear();
        self.messages.clear();
        self.multi.clear();
        self.deflated.clear();
        self.about.clear();
        self.excepts.clear();
        self.given.clear();
    }
}
