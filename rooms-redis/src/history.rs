//! The history of rooms in Redis: a list of messages for each room, and a mark beside it that says how far the list goes.
//!
//! Both are written by one script, which also publishes; another one reads. Redis runs a script as a whole, so no message
//! comes between, and what is read has no holes. `docs/history.md` has the keys and what is in them.

mod append;

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use redis::{Script, Value};
use rooms_core::bus::{BusError, Excerpt, Position, ReadFrom, Retention};

pub(crate) use self::append::{Answer, Append, add_append, answers, by_room};
use crate::{
    channels::{Channel, in_slot_of},
    random,
};

/// The script that appends a message to a room's log and publishes it, for publishers in other languages; the page
/// `docs/history.md` of the repository tells how to call it.
pub const APPEND_SCRIPT: &str = include_str!("history/append.lua");

static READ: Ours = Ours::new(include_str!("history/read.lua"));

/// A script of ours.
#[derive(Debug)]
pub(crate) struct Ours {
    code: &'static str,
    /// By which Redis knows it.
    hash: OnceLock<String>,
}

impl Ours {
    pub(crate) const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| Script::new(self.code).get_hash().to_owned())
    }

    /// Begins a command that runs it; where Redis does not know it, one that has it as a whole.
    fn add_to(&self, unknown: bool, pipeline: &mut redis::Pipeline) {
        if unknown {
            pipeline.cmd("EVAL").arg(self.code);
        } else {
            pipeline.cmd("EVALSHA").arg(self.hash());
        }
    }
}

/// What a message that was appended begins with on its channel: no JSON text does, and no other payload of ours.
const POSITIONED: &[u8] = b"\x01p";

/// The most digits of a position, with the point: 16, and 20.
const LONGEST: usize = 37;

/// A script of ours with what it is called with.
#[derive(Debug)]
pub(crate) struct Call {
    script: &'static Ours,
    keys: Vec<String>,
    arguments: Vec<Bytes>,
    /// Redis did not know it, so it is sent as a whole.
    unknown: bool,
}

impl Call {
    pub(crate) const fn of(script: &'static Ours, keys: Vec<String>, arguments: Vec<Bytes>) -> Self {
        Self { script, keys, arguments, unknown: false }
    }

    pub(crate) fn read(channel: &Channel, from: ReadFrom, retention: Retention) -> Self {
        let (what, number) = match from {
            ReadFrom::Newest(count) => ("newest".into(), count.min(Retention::MAX_MESSAGES).to_string()),
            ReadFrom::After(position) => (format!("{:x}", position.epoch()), position.offset().to_string()),
        };
        let age = milliseconds(retention.max_age()).to_string();
        let arguments = vec![age.into(), epoch(), what.into(), number.into()];
        Self::of(&READ, vec![key("log", channel), key("mark", channel)], arguments)
    }

    /// Adds the command to a pipeline.
    pub(crate) fn add_to(&self, pipeline: &mut redis::Pipeline) {
        self.script.add_to(self.unknown, pipeline);
        pipeline.arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            pipeline.arg(&**argument);
        }
    }

    /// The same with the whole script; `None` where that was sent already.
    pub(crate) fn in_full(self) -> Option<Self> {
        (!self.unknown).then_some(Self { unknown: true, ..self })
    }

    /// The bytes that wait with it.
    pub(crate) fn len(&self) -> usize {
        self.arguments.iter().map(Bytes::len).sum()
    }
}

/// What is kept of a room is in the slot of its channel, so that one script has all of it.
pub(crate) fn key(part: &str, channel: &str) -> String {
    in_slot_of(&format!("rooms:{part}:"), channel)
}

/// A random epoch, for a log that begins.
pub(crate) fn epoch() -> Bytes {
    // Of 16 digits always, so that it is written in one way only.
    format!("{:x}", random::bits() | 1 << 63).into()
}

pub(crate) fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The position of a message that was appended, and what comes behind it; `None` where there is none.
pub(crate) fn positioned(payload: &[u8]) -> Option<(Position, usize)> {
    let rest = payload.strip_prefix(POSITIONED)?;
    let end = rest.iter().take(LONGEST + 1).position(|byte| *byte == b';')?;
    let position = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
    Some((position, POSITIONED.len() + end + 1))
}

/// How many connections got what a script has published.
pub(crate) fn receivers(answer: &Value) -> Option<u64> {
    match answer {
        Value::Array(answer) => match answer.as_slice() {
            [_, _, Value::Int(receivers)] => u64::try_from(*receivers).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// What the script that reads has answered: of the messages those that follow each other up to the head and are kept still,
/// as the list may have some more. Where somebody else has written to it, what is not ours ends it.
pub(crate) fn read(answer: Value, retention: Retention) -> Result<Excerpt, BusError> {
    let Value::Array(answer) = answer else { return Err(odd()) };
    let Ok([head, earlier, now, Value::Array(entries)]) = <[Value; 4]>::try_from(answer) else {
        return Err(odd());
    };
    let head = parsed(&head)?;
    let earlier = text(&earlier)?.split_ascii_whitespace().filter_map(|position| position.parse().ok()).collect();
    let now: u64 = text(&now)?.parse().map_err(|_| odd())?;
    let oldest = (now + 1).saturating_sub(milliseconds(retention.max_age()));
    let (mut messages, mut ages) = (Vec::<Bytes>::with_capacity(entries.len() / 2), Vec::new());
    let mut space = retention.max_bytes();
    let mut entries = entries.into_iter().rev();
    let entries = std::iter::from_fn(|| entries.next().zip(entries.next()));
    for ((payload, about), behind) in entries.zip(0..).take(retention.max_messages()) {
        match (kept(&about), payload) {
            (Some((offset, at)), Value::BulkString(payload))
                if offset.checked_add(behind) == Some(head.offset()) && at >= oldest && payload.len() <= space =>
            {
                space -= payload.len();
                messages.push(payload.into());
                ages.push(Duration::from_millis(now.saturating_sub(at)));
            }
            _ => break,
        }
    }
    messages.reverse();
    ages.reverse();
    Ok(Excerpt::new(head, messages).with_ages(ages).with_earlier(earlier))
}

/// The offset of an entry and its time: `<offset>;<milliseconds>;<bytes of all before it>`.
fn kept(about: &Value) -> Option<(u64, u64)> {
    let mut parts = text(about).ok()?.split(';');
    let mut number = || parts.next()?.parse().ok();
    let (offset, at, _bytes): (u64, u64, u64) = (number()?, number()?, number()?);
    parts.next().is_none().then_some((offset, at))
}

fn parsed(position: &Value) -> Result<Position, BusError> {
    text(position)?.parse().map_err(|_| odd())
}

pub(crate) fn text(value: &Value) -> Result<&str, BusError> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).map_err(|_| odd()),
        Value::SimpleString(text) => Ok(text),
        _ => Err(odd()),
    }
}

pub(crate) fn odd() -> BusError {
    BusError::Unknown("Redis gave an answer that no script of ours gives".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::slot;

    #[test]
    fn the_keys_of_a_room_are_in_the_slot_of_its_channel() {
        assert_eq!(key("log", "ws:post:42"), "rooms:log:{ws:post:42}");
        for channel in ["ws:post:42", "{shop}ws:post:42", "shop{:ws:post:42", "a{b}c{d}:post:1"] {
            let key = key("mark", channel);
            assert_eq!(slot(&key), slot(channel), "{key}");
        }
    }

    #[test]
    fn a_position_is_found_before_the_payload_and_nothing_else_is_taken_for_one() {
        let at = |payload: &[u8]| positioned(payload).map(|(position, from)| (position, payload[from..].to_vec()));
        let longest = format!("\x01p{};{{}}", Position::new(u64::MAX, u64::MAX));
        assert_eq!(at(b"\x01p2a.7;{\"a\":\";\"}"), Some((Position::new(42, 7), b"{\"a\":\";\"}".to_vec())));
        assert_eq!(at(longest.as_bytes()), Some((Position::new(u64::MAX, u64::MAX), b"{}".to_vec())));
        for none in [&b""[..], b"{}", b"\x01p", b"\x01p;", b"\x01p1;{}", b"\x01p1.1", b"\x01p-1.1;{}", b"\x01v1;w;{}"] {
            assert_eq!(at(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_not_ours_in_the_list_ends_what_is_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = |entries: &[&str]| {
            let entries = entries.iter().map(|entry| bulk(entry)).collect();
            Value::Array(vec![bulk("2a.7"), bulk("29.5 x 28.3"), bulk("1000"), Value::Array(entries)])
        };
        let retention = Retention::messages(10).age(Duration::from_millis(100));
        let messages = |entries: &[&str]| read(answer(entries), retention).unwrap().messages;
        let all = ["5;901;0", "five", "6;950;4", "{\"a\":\";\"}", "7;999;13", ""];
        assert_eq!(messages(&all), ["five", "{\"a\":\";\"}", ""]);
        assert_eq!(messages(&[&["5;900;0", "too old"], &all[2..]].concat()).len(), 2);
        assert_eq!(messages(&[&["4;901;0", "a hole"], &all[2..]].concat()).len(), 2);
        assert_eq!(messages(&[&all[..2], &["not ours", "6;950;4"], &all[4..]].concat()).len(), 1);
        assert_eq!(messages(&[&all[..], &["8;999;13", "not ours"]].concat()).len(), 0);
        assert_eq!(messages(&[&all[..], &["not ours"]].concat()).len(), 0);
        assert_eq!(messages(&all[1..]).len(), 2, "half an entry");
        let excerpt = read(answer(&all), retention).unwrap();
        assert_eq!(
            (excerpt.head, excerpt.earlier),
            (Position::new(42, 7), vec![Position::new(41, 5), Position::new(40, 3)])
        );
        for odd in [Value::Nil, Value::Array(vec![]), Value::Array(vec![Value::Nil; 4]), bulk("x")] {
            assert!(read(odd, retention).is_err());
        }
    }
}
