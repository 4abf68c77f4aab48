//! A page that comes and goes, and checks that it misses nothing without a word.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{HashMap, HashSet};

use rooms_core::{MessageKind, bus::Position, ws::Incoming};
use serde_json::{Value, json};

use crate::{rig::Rooms, talk::Talk};

/// What was published.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) published: HashMap<Position, u64>,
    /// Of these nobody knows.
    pub(crate) perhaps: HashSet<u64>,
    /// The log goes on in another epoch where its server starts anew.
    pub(crate) epochs_follow: bool,
}

/// A page, and what it has seen.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) talk: Option<Talk>,
    /// The position that it stands at; `None` before the first, and where it has been told to fetch again.
    position: Option<Position>,
    /// What it comes back with.
    since: Option<Position>,
    /// The last number that it was given since it began, or began afresh.
    pub(crate) last: Option<u64>,
    pub(crate) resyncs: usize,
    /// It is in the room, and is given no messages.
    hidden: bool,
    /// It has left the room on a connection that stays, and has not come back.
    out: bool,
    /// How often it has left and is not told so yet: what comes before that is nothing to it.
    leaving: usize,
}

impl Page {
    /// Comes back with the position that it has, or for the first time.
    pub(crate) fn join(&mut self, rooms: &Rooms, room: &str, newest: usize) {
        self.join_over(Talk::multi(rooms, "a"), room, newest);
    }

    /// The same on a connection of its own.
    pub(crate) fn join_over(&mut self, talk: Talk, room: &str, newest: usize) {
        self.talk = Some(talk);
        self.join_again(room, newest);
    }

    /// The same on the connection that it has.
    pub(crate) fn join_again(&mut self, room: &str, newest: usize) {
        if let Some(talk) = &self.talk {
            talk.say(json!({"type": "join", "room": room, "since": self.since, "newest": newest}).to_string());
            self.out = false;
        }
    }

    /// Leaves the room, and keeps its connection.
    pub(crate) fn leave(&mut self, room: &str) {
        if let Some(talk) = self.talk.as_ref().filter(|_| !self.out) {
            talk.say(json!({"type": "leave", "room": room}).to_string());
            (self.out, self.leaving) = (true, self.leaving + 1);
        }
    }

    /// Whether it has a connection on which it has left the room.
    pub(crate) fn is_out(&self) -> bool {
        self.talk.is_some() && self.out
    }

    /// Is hidden, and asks for no messages; or is seen again.
    pub(crate) fn show(&mut self, room: &str, shown: bool) {
        if let Some(talk) = &self.talk {
            self.out = false;
            talk.say(json!({"type": "join", "room": room, "since": self.since, "paused": !shown}).to_string());
        }
    }

    /// Goes; what is on its way to it is lost.
    pub(crate) fn go(&mut self) {
        (self.talk, self.position, self.hidden) = (None, None, false);
        (self.out, self.leaving) = (false, 0);
    }

    /// Its node is gone, and so is its connection, without a word.
    pub(crate) fn is_cut_off(&mut self) {
        if let Some(talk) = &self.talk {
            talk.ended.abort();
        }
        self.go();
    }

    /// Takes what has come, and checks it.
    pub(crate) fn look(&mut self, truth: &Truth) {
        let Some(talk) = &mut self.talk else { return };
        let mut events = Vec::new();
        while let Ok(message) = talk.inbox.0.try_recv() {
            match message.kind() {
                MessageKind::Text => events.push(serde_json::from_slice::<Value>(message.payload()).unwrap()),
                MessageKind::Binary => events.push(of_bytes(message.payload())),
                MessageKind::Ping => _ = talk.send.unbounded_send(Ok(Incoming::Pong)),
                other => panic!("{other:?} {}", String::from_utf8_lossy(message.payload())),
            }
        }
        for event in events {
            if self.talk.is_some() {
                self.take(&event, truth);
            }
        }
    }

    fn take(&mut self, event: &Value, truth: &Truth) {
        let place = |field: &str| event[field].as_str().map(|text| text.parse::<Position>().unwrap());
        match event["type"].as_str().unwrap() {
            "room_left" => (self.position, self.hidden, self.leaving) = (None, false, self.leaving - 1),
            "error" => {
                assert_eq!(event["code"], "unavailable", "{event}");
                (self.talk, self.out, self.leaving) = (None, false, 0);
            }
            _ if self.leaving > 0 => {}
            "room_joined" => {
                let position = place("position");
                if event["paused"] == true {
                    self.hidden = true;
                    // Where it was in the room, it stands where it was given the last.
                    if position.is_some() {
                        assert!(self.since.is_none() || self.since == position, "{event}");
                        (self.position, self.since) = (position, position);
                    }
                    return;
                }
                if position.is_none() && event["recovered"].is_null() {
                    // It was seen, and asks to be.
                    return;
                }
                assert_eq!(event["recovered"].as_bool().is_some(), self.since.is_some(), "{event}");
                match event["recovered"].as_bool() {
                    // It was told to fetch, and was hidden then.
                    Some(true) if std::mem::take(&mut self.hidden) && self.position.is_none() => {}
                    Some(true) => assert_eq!(position, self.since, "{event}"),
                    // It begins afresh, with a `resync`.
                    Some(false) => self.last = None,
                    None => {}
                }
                (self.position, self.since) = (position, position);
            }
            "resync" => {
                self.position = None;
                self.resyncs += 1;
            }
            "message" => {
                let at = place("offset").unwrap();
                let number = event["data"].as_u64().unwrap();
                match truth.published.get(&at) {
                    Some(published) => assert_eq!(published, &number, "{event}"),
                    None => assert!(truth.perhaps.contains(&number), "{event}"),
                }
                if let Some(position) = self.position {
                    let epoch = if truth.epochs_follow { at.epoch() } else { position.epoch() };
                    assert_eq!(
                        at,
                        Position::new(epoch, position.offset() + 1),
                        "something is missing, after {position}"
                    );
                }
                (self.position, self.since) = (Some(at), Some(at));
                // One that was given up by its publisher may have been on its way for long.
                if !truth.perhaps.contains(&number) {
                    assert!(self.last.is_none_or(|last| last < number), "{number} after {:?}", self.last);
                    self.last = Some(number);
                }
            }
            _ => {}
        }
    }
}

/// A number that was published as bytes, and comes behind the head of a binary message, as the event of one that was not.
fn of_bytes(message: &[u8]) -> Value {
    let (room_length, rest) = message.strip_prefix(&[1]).unwrap().split_first().unwrap();
    let (length, rest) = rest[usize::from(*room_length)..].split_first().unwrap();
    let (offset, number) = rest.split_at(usize::from(*length));
    let number = number.strip_prefix(b"\xff").expect("what was published");
    let number = u64::from_be_bytes(number.try_into().unwrap());
    json!({"type": "message", "offset": std::str::from_utf8(offset).unwrap(), "data": number})
}

/// The bytes of a number, which are no JSON.
pub(crate) fn as_bytes(number: u64) -> Vec<u8> {
    [&[0xff], &number.to_be_bytes()[..]].concat()
}
