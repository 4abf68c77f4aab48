//! What this node knows of a room's history: where the log stands, and a copy of its end.
//!
//! Every message of the log passes here before it goes to the members, so that they are given all of them in order and
//! once. One that is next passes at once. One that is not, as something before it is missing, waits while the bus is asked;
//! what the bus has of that passes first. Only what the log does not have is a loss, which the members are told of.
//!
//! A value without locks, clocks and channels: what is to be done is what its methods return.

mod asking;
mod copy;
mod look;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use self::asking::{Asked, Wanted};
pub(crate) use self::look::Ready;
pub(super) use self::{
    asking::Wants,
    copy::{Has, Need},
    look::{Behind, Seen},
    reading::{Down, Lost, Outcome},
};
use super::logged::Logged;
use crate::bus::{Position, Retention};

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
    /// The offset of the last of them that can't be given to members; 0 where there was none.
    left_out: u64,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Known,
    Next,
    Beyond,
}

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
            left_out: 0,
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
}
