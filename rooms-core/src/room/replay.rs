//! What this node knows of a room's history: where the log stands, and a copy of its end.
//!
//! Every message of the log passes here before it goes to the members, so that they are given all of them in order and
//! once. One that is next passes at once. One that is not, as something before it is missing, waits while the bus is asked;
//! what the bus has of that passes first. Only what the log does not have is a loss, which the members are told of.
//!
//! A value without locks, clocks and channels: what is to be done is what its methods return.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::behind::Behind;
use crate::{
    bus::{Missing, Position, ReadFrom, Retention, history::offset_in},
    message::Message,
    node::ConnectionId,
};

/// One message of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) position: Position,
    /// When it was appended, as far as this node knows: at the latest when it came here.
    pub(crate) at: Instant,
    /// The bytes that it has on the bus, by which the log is trimmed.
    pub(crate) size: usize,
    /// None where it is no message for members.
    pub(crate) content: Option<Content>,
}

impl Logged {
    /// The position before it.
    pub(super) fn before(&self) -> Position {
        Position::new(self.position.epoch(), self.position.offset().saturating_sub(1))
    }
}

/// What members are given of it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// For those who are told no positions.
    pub(crate) bare: Message,
    pub(crate) positioned: Message,
    pub(crate) except: Option<ConnectionId>,
}

/// What was read of the log; the messages follow each other up to the head.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) head: Position,
    pub(crate) earlier: Vec<Position>,
    pub(crate) messages: Vec<Logged>,
}

/// How many messages may wait for those before them, and their bytes; what is more is read instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Replay {
    retention: Retention,
    bounds: Waiting,
    /// The position of the last message that has passed; `None` where none has, and nobody has read.
    head: Option<Position>,
    /// The log could not be read, and the members were told. What is next after the head may pass, whatever is between.
    adrift: bool,
    /// Where earlier epochs of the log ended, as of the last read.
    earlier: Vec<Position>,
    /// The last epochs that a read has shown to be over: what comes of them late is nothing new.
    over: VecDeque<u64>,
    /// Messages that follow each other up to the head.
    kept: VecDeque<Logged>,
    bytes: usize,
    /// All that the log has is in the copy.
    whole: bool,
    /// What came and can't pass yet.
    waiting: Vec<Logged>,
    waiting_bytes: usize,
    /// More came than may wait.
    overflowed: bool,
    wanted: Wanted,
    /// Something is missing, or may be, for another reason than that somebody looks whether it is.
    doubted: bool,
    /// Somebody reads, or is about to.
    running: bool,
    asked: Asked,
    /// Reads that have ended well, and those that have failed.
    reads: u64,
    failures: u64,
    /// Failures one after another.
    attempts: u32,
    /// The members that have not been given all that has passed, by their slots.
    pub(super) behind: BTreeMap<usize, Behind>,
}

/// The next read.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    any: bool,
    whole: bool,
}

/// The read that is under way.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    /// It has begun, and not ended.
    under_way: bool,
    /// Where this node stood when it began.
    head: Option<Position>,
    whole: bool,
    /// How many waited then.
    waiting: usize,
    /// Something was missing then, or might have been.
    doubted: bool,
}

/// What becomes of a message that has arrived.
#[derive(Debug)]
pub(super) enum Arrived {
    /// It is next.
    Passes(Logged),
    /// Something may be missing before it, and nobody can be asked.
    Jumps(Logged),
    /// It has passed already.
    Known,
    /// It waits; `read` where somebody has to begin to read.
    Waits { read: bool },
}

/// What follows from a read.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What passes, in order.
    pub(super) passes: Vec<Logged>,
    /// The log does not have all that came after the head, so before these pass a loss is to be told.
    pub(super) lost: Option<Lost>,
    /// Where the log stood before these, which nobody knew until now.
    pub(super) begun: Option<Position>,
}

/// Why messages are lost to the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Missing(Missing),
    /// Nobody can be asked.
    Unread,
}

/// What one who joins needs to know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    /// What came after this.
    pub(crate) since: Option<Position>,
    /// So many of the newest.
    pub(crate) newest: usize,
}

/// Epochs that are remembered as over. 8: as many as a log notes the ends of.
const OVER: usize = 8;

/// Failures in a row after which it is given up: with pauses of 100 ms that double, some three seconds. A bus that is down
/// is not among them.
const ATTEMPTS: u32 = 6;

impl Replay {
    pub(super) fn new(retention: Retention, bounds: Waiting) -> Self {
        Self {
            retention,
            bounds,
            head: None,
            adrift: false,
            earlier: Vec::new(),
            over: VecDeque::new(),
            kept: VecDeque::new(),
            bytes: 0,
            whole: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            overflowed: false,
            wanted: Wanted::default(),
            doubted: false,
            running: false,
            asked: Asked::default(),
            reads: 0,
            failures: 0,
            attempts: 0,
            behind: BTreeMap::new(),
        }
    }

    /// Where the members are; `None` while nobody knows where the log stands.
    pub(super) fn head(&self) -> Option<Position> {
        self.head.filter(|_| !self.adrift)
    }

    /// The position at an offset of the log as it is known now.
    pub(super) fn at(&self, offset: u64) -> Option<Position> {
        Some(Position::new(self.head?.epoch(), offset))
    }

    /// Whether a loss can be made good by a read.
    pub(super) const fn may_heal(&self) -> bool {
        self.head.is_some() || self.running
    }

    pub(super) const fn reads(&self) -> u64 {
        self.reads
    }

    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }

    /// Takes a message from the bus.
    pub(super) fn arrive(&mut self, logged: Logged) -> Arrived {
        match self.place(&logged) {
            Place::Known => Arrived::Known,
            Place::Next => {
                self.keep(logged.clone());
                Arrived::Passes(logged)
            }
            Place::Beyond if self.adrift && !self.running => {
                self.over.clear();
                self.clear();
                self.keep(logged.clone());
                Arrived::Jumps(logged)
            }
            Place::Beyond => {
                self.hold(logged);
                Arrived::Waits { read: self.doubt() }
            }
        }
    }

    fn place(&self, logged: &Logged) -> Place {
        let position = logged.position;
        match self.head {
            // Nobody waits for an answer of the bus, so the log is taken to begin here.
            None if !self.running => Place::Next,
            None => Place::Beyond,
            Some(_) if self.over.contains(&position.epoch()) => Place::Known,
            Some(head) if head.epoch() != position.epoch() => Place::Beyond,
            Some(head) if position.offset() <= head.offset() => Place::Known,
            Some(head) if Some(position.offset()) == head.offset().checked_add(1) => Place::Next,
            Some(_) => Place::Beyond,
        }
    }

    fn hold(&mut self, logged: Logged) {
        self.waiting_bytes += logged.size;
        if self.waiting.len() < self.bounds.messages && self.waiting_bytes <= self.bounds.bytes {
            self.waiting.push(logged);
        } else {
            // The log has it too.
            self.overflowed = true;
        }
    }

    /// Wants a read; `true` where somebody has to begin.
    pub(super) fn want(&mut self, whole: bool) -> bool {
        self.wanted = Wanted { any: true, whole: self.wanted.whole || whole };
        !std::mem::replace(&mut self.running, true)
    }

    /// Wants a read as something may be missing; `true` where somebody has to begin. Where the log can't be read then, that is
    /// a loss. Where somebody only looked, nobody has lost anything.
    pub(super) fn doubt(&mut self) -> bool {
        self.doubted = true;
        self.want(false)
    }

    /// Wants a read, unless the one that is under way will do; `true` where somebody has to begin. So those who come while the
    /// log is read wait for that read, however many they are.
    pub(super) fn want_what(&mut self, wants: Wants) -> bool {
        match wants {
            Wants::Any { whole } if self.asked.under_way && (self.asked.whole || !whole) => false,
            Wants::Any { whole } => self.want(whole),
            Wants::Later => self.want(false),
        }
    }

    /// Begins the next read; `None` where none is wanted, and whoever reads is done.
    pub(super) fn begin(&mut self) -> Option<ReadFrom> {
        let Wanted { any, whole } = std::mem::take(&mut self.wanted);
        self.running = any;
        let doubted = std::mem::take(&mut self.doubted);
        self.asked = Asked { under_way: any, head: self.head, whole, waiting: self.waiting.len(), doubted };
        let from = match self.head {
            _ if whole => ReadFrom::Newest(usize::MAX),
            Some(head) => ReadFrom::After(head),
            None => ReadFrom::Newest(0),
        };
        any.then_some(from)
    }

    /// The log was read.
    pub(super) fn read(&mut self, read: Read) -> Outcome {
        self.reads += 1;
        self.attempts = 0;
        self.asked.under_way = false;
        let mut outcome = Outcome::default();
        self.earlier = read.earlier;
        let (known, before, newest) = (self.head().is_some(), self.head, read.head);
        let begins_at = match self.head {
            None => {
                self.start_at(read.head, read.messages);
                self.head
            }
            Some(head) => match self.missing(head, read.head, &read.messages) {
                Ok(()) => {
                    let (to, messages) = self.as_far_as_may_pass(head, read.head, read.messages);
                    outcome.passes = self.go_on(head, to, messages);
                    Some(head)
                }
                Err(missing) => {
                    outcome.lost = Some(Lost::Missing(missing));
                    self.jump(head, read.head, read.messages);
                    self.head
                }
            },
        };
        outcome.begun = begins_at.filter(|_| !known);
        self.adrift = false;
        self.note_over(before);
        let beyond = self.let_pass(&mut outcome.passes, self.asked.waiting);
        // Where something between those that waited is missing, or is on its way.
        let behind = |head: Position| head.epoch() == newest.epoch() && head.offset() < newest.offset();
        if beyond || std::mem::take(&mut self.overflowed) || self.head.is_some_and(behind) {
            (self.wanted.any, self.doubted) = (true, true);
        }
        outcome
    }

    /// A read has shown which epoch the log has now, and so that the one before is over.
    fn note_over(&mut self, before: Option<Position>) {
        let Some((before, now)) = before.zip(self.head).map(|(before, now)| (before.epoch(), now.epoch())) else {
            return;
        };
        self.over.retain(|epoch| *epoch != now);
        if before != now {
            self.over.truncate(OVER - 1);
            self.over.push_front(before);
        }
    }

    /// The log could not be read. Gives what follows, or `None` where it is to be tried again.
    pub(super) fn failed(&mut self, down: Down) -> Option<Outcome> {
        let known = self.head().is_some();
        self.asked.under_way = false;
        self.doubted |= self.asked.doubted;
        if down == Down::Yes && known {
            self.wanted = Wanted { any: true, whole: self.wanted.whole || self.asked.whole };
            return None;
        }
        self.failures += 1;
        self.attempts += 1;
        if known && self.attempts < ATTEMPTS {
            self.wanted.any = true;
            return None;
        }
        self.attempts = 0;
        self.wanted = Wanted::default();
        self.behind.values_mut().for_each(Behind::give_up);
        if !std::mem::take(&mut self.doubted) && known {
            return Some(Outcome::default());
        }
        let mut outcome = Outcome { lost: known.then_some(Lost::Unread), ..Outcome::default() };
        self.overflowed = false;
        self.adrift = self.head.is_some();
        // From here on by what comes: the first that waits passes, and what follows it is looked at as always.
        let first = self.waiting.iter().position(|logged| self.place(logged) != Place::Known);
        // Which epoch is over is not known any more.
        self.over.clear();
        if let Some(first) = first {
            let first = self.waiting.remove(first);
            self.clear();
            self.keep(first.clone());
            outcome.begun = Some(first.before()).filter(|_| !known);
            outcome.passes.push(first);
        }
        self.wanted.any = self.let_pass(&mut outcome.passes, 0);
        self.doubted = self.wanted.any;
        Some(outcome)
    }

    /// Whether what one who joins needs is here, or is nowhere.
    pub(super) fn has(&self, need: Need) -> Has {
        let Some(head) = self.head() else { return Has::Not { whole: need.since.is_some() || need.newest > 0 } };
        if need.newest.min(self.retention.max_messages()) > self.kept.len() && !self.whole {
            return Has::Not { whole: true };
        }
        match need.since {
            None => Has::All,
            Some(since) => match offset_in(head, &self.earlier, since) {
                Some(offset) if offset.saturating_add(1) >= self.first() || self.whole => Has::All,
                Some(_) => Has::Not { whole: true },
                // Its publisher may have been told before this node was; or it is of an epoch of which nobody has asked.
                None => Has::Unsure,
            },
        }
    }

    /// The messages after a position, up to another one.
    pub(super) fn since(&self, since: Position, up_to: Position) -> Result<impl Iterator<Item = &Logged>, Missing> {
        let offset = self.offset_of(since).ok_or(Missing::Epoch)?;
        let up_to = self.offset_of(up_to).ok_or(Missing::Epoch)?;
        let skip = offset.saturating_add(1).checked_sub(self.first()).ok_or(Missing::Trimmed)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.kept.len());
        Ok(self.kept.range(skip..).take_while(move |logged| logged.position.offset() <= up_to))
    }

    /// The newest messages up to a position, the newest first; none where it is none of this log any more.
    pub(super) fn newest(&self, up_to: Position) -> impl Iterator<Item = &Logged> {
        let up_to = self.offset_of(up_to).unwrap_or_default();
        self.kept.iter().rev().skip_while(move |logged| logged.position.offset() > up_to)
    }

    fn offset_of(&self, position: Position) -> Option<u64> {
        offset_in(self.head?, &self.earlier, position)
    }

    /// The offset of the first message of the copy.
    fn first(&self) -> u64 {
        self.head.map_or(0, |head| (head.offset().saturating_add(1)).saturating_sub(self.kept.len() as u64))
    }

    /// Begins with what was read: as far as messages that wait are in it, they pass by themselves.
    fn start_at(&mut self, head: Position, messages: Vec<Logged>) {
        let mut waiting = self.waiting.iter().map(|logged| logged.position);
        let first = waiting.find(|first| first.epoch() == head.epoch() && first.offset() <= head.offset());
        let offset = first.map_or(head.offset(), |first| first.offset().saturating_sub(1));
        self.replace(messages.into_iter().filter(|logged| logged.position.offset() <= offset));
        self.head = Some(Position::new(head.epoch(), offset));
    }

    /// What was read, without what is more than may pass at once: that is read again once the members have these.
    fn as_far_as_may_pass(&self, head: Position, to: Position, mut messages: Vec<Logged>) -> (Position, Vec<Logged>) {
        let (mut count, mut bytes) = (0, 0);
        let too_many = |logged: &Logged| {
            if logged.position.offset() > head.offset() {
                (count, bytes) = (count + 1, bytes + logged.size);
            }
            count > 1 && (count > self.bounds.messages / 2 || bytes > self.bounds.bytes / 2)
        };
        let Some(first) = messages.iter().position(too_many) else { return (to, messages) };
        messages.truncate(first);
        (messages.last().map_or(head, |last| last.position), messages)
    }

    /// Whether something between what has passed and what was read is missing.
    fn missing(&self, head: Position, read: Position, messages: &[Logged]) -> Result<(), Missing> {
        // While the bus was asked more may have passed than it knew then.
        let from = if head.epoch() == read.epoch() { self.asked.head.unwrap_or(head) } else { head };
        let offset = offset_in(read, &self.earlier, from).ok_or(Missing::Epoch)?;
        let first = (read.offset().saturating_add(1)).saturating_sub(messages.len() as u64);
        let from = offset.max(if head.epoch() == read.epoch() { head.offset().min(read.offset()) } else { 0 });
        if from.saturating_add(1) < first { Err(Missing::Trimmed) } else { Ok(()) }
    }

    /// Goes on from the head with what was read; gives what passes.
    fn go_on(&mut self, head: Position, read: Position, messages: Vec<Logged>) -> Vec<Logged> {
        let news = messages.iter().filter(|logged| logged.position.offset() > head.offset()).cloned().collect();
        if self.asked.whole {
            let overtook = std::mem::take(&mut self.kept).into_iter();
            let overtook = overtook.filter(|logged| logged.position.offset() > read.offset());
            self.replace(messages.into_iter().chain(overtook));
        } else {
            for logged in &news {
                self.keep(Logged::clone(logged));
            }
        }
        self.head = Some(Position::new(read.epoch(), read.offset().max(head.offset())));
        self.trim();
        news
    }

    /// Goes on after a loss.
    fn jump(&mut self, head: Position, read: Position, messages: Vec<Logged>) {
        if head.epoch() == read.epoch() && head.offset() > read.offset() && self.asked.head != Some(head) {
            // What has passed meanwhile is newer than what was read.
            self.clear();
            return;
        }
        self.start_at(read, messages);
    }

    /// Lets pass what can. What waited when the read began and is not in it is nothing that the log ever had; of the rest
    /// something may be missing still.
    fn let_pass(&mut self, passes: &mut Vec<Logged>, read: usize) -> bool {
        self.waiting_bytes = 0;
        for (number, logged) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            match self.place(&logged) {
                Place::Known => {}
                Place::Next => {
                    self.keep(logged.clone());
                    passes.push(logged);
                }
                Place::Beyond if number < read => {}
                Place::Beyond => self.hold(logged),
            }
        }
        !self.waiting.is_empty()
    }

    fn keep(&mut self, logged: Logged) {
        (self.head, self.adrift) = (Some(logged.position), false);
        self.bytes += logged.size;
        self.kept.push_back(logged);
        self.trim();
    }

    fn replace(&mut self, messages: impl Iterator<Item = Logged>) {
        self.clear();
        self.whole = self.asked.whole;
        self.kept = messages.collect();
        self.bytes = self.kept.iter().map(|logged| logged.size).sum();
    }

    fn clear(&mut self) {
        (self.kept, self.bytes, self.whole) = (VecDeque::new(), 0, false);
    }

    /// Forgets what the log does not keep any more.
    pub(super) fn trim(&mut self) {
        let (most, bytes, age) = (self.retention.max_messages(), self.retention.max_bytes(), self.retention.max_age());
        while let Some(logged) = self.kept.front()
            && (self.kept.len() > most || self.bytes > bytes || logged.at.elapsed() >= age)
        {
            self.bytes -= logged.size;
            self.kept.pop_front();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Known,
    Next,
    Beyond,
}

/// Whether the bus said that it is down: then nothing is lost by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    Yes,
    No,
}

/// The read that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// One that is under way, or the next.
    Any { whole: bool },
    /// One that begins later.
    Later,
}

/// Whether what somebody needs is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    /// It is, or the log does not have it.
    All,
    /// The log is to be read.
    Not { whole: bool },
    /// As far as is known the position is none of this log: a read that began later may know better.
    Unsure,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(offset: u64) -> Position {
        Position::new(7, offset)
    }

    fn logged(offset: u64) -> Logged {
        Logged { position: at(offset), at: Instant::now(), size: 4, content: None }
    }

    fn read(offsets: std::ops::RangeInclusive<u64>) -> Read {
        Read { head: at(*offsets.end()), earlier: Vec::new(), messages: offsets.map(logged).collect() }
    }

    /// Of a log with three messages, of which the last has passed; four may wait.
    fn replay(retention: Retention) -> Replay {
        let mut replay = Replay::new(retention, Waiting { messages: 4, bytes: 1_000 });
        assert!(replay.want(true));
        assert_eq!(replay.begin(), Some(ReadFrom::Newest(usize::MAX)));
        replay.read(read(1..=3));
        assert_eq!(replay.begin(), None);
        replay
    }

    fn offsets<'a>(logged: impl IntoIterator<Item = &'a Logged>) -> Vec<u64> {
        logged.into_iter().map(|logged| logged.position.offset()).collect()
    }

    #[test]
    fn more_than_may_wait_while_the_log_is_read_is_read_next() {
        let mut replay = replay(Retention::messages(100));
        assert!(matches!(replay.arrive(logged(5)), Arrived::Waits { read: true }));
        assert_eq!(replay.begin(), Some(ReadFrom::After(at(3))));
        for offset in 6..=20 {
            assert!(matches!(replay.arrive(logged(offset)), Arrived::Waits { read: false }));
        }
        // The log had no more when it was read.
        assert_eq!(offsets(&replay.read(read(4..=5)).passes), [4, 5, 6, 7, 8]);
        replay.begin();
        assert_eq!(offsets(&replay.read(read(9..=20)).passes), [9, 10]);
        // No more of them pass at once than may wait.
        assert_eq!(replay.begin(), Some(ReadFrom::After(at(10))));
    }

    #[test]
    fn what_is_missing_before_one_that_came_while_the_log_was_read_is_read_next() {
        let mut replay = replay(Retention::messages(100));
        replay.arrive(logged(5));
        replay.begin();
        replay.arrive(logged(7));
        assert_eq!(offsets(&replay.read(read(4..=5)).passes), [4, 5]);
        assert_eq!(replay.begin(), Some(ReadFrom::After(at(5))));
        assert_eq!(offsets(&replay.read(read(6..=7)).passes), [6, 7]);
        assert_eq!(replay.begin(), None);
    }

    #[test]
    fn a_position_that_nobody_has_heard_of_is_none_only_after_a_read_that_began_later() {
        let mut replay = replay(Retention::messages(100));
        let need = Need { since: Some(at(4)), newest: 0 };
        replay.want(false);
        replay.begin();
        let seen = crate::room::history::Seen { reads: replay.reads(), failures: 0 };
        let ready = |replay: &Replay| replay.look(need, seen).0 == crate::room::history::Ready::Yes;
        assert!(!ready(&replay));
        // It may have been appended since this one began.
        replay.want(false);
        replay.read(read(1..=3));
        assert!(!ready(&replay));
        replay.begin();
        replay.read(read(1..=3));
        assert!(ready(&replay));
    }

    #[test]
    fn the_copy_of_a_log_has_no_more_messages_and_bytes_than_the_log() {
        for (retention, most) in [(Retention::messages(100).bytes(21), 5), (Retention::messages(2), 2)] {
            let mut replay = replay(retention);
            for offset in 4..=50 {
                replay.arrive(logged(offset));
                assert!(replay.kept.len() <= most && replay.bytes == 4 * replay.kept.len());
            }
            assert_eq!(offsets(replay.newest(at(50))).len(), most);
        }
    }
}
