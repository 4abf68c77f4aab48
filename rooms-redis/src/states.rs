//! The states of rooms in Redis: a hash for each room, with the last state and its revision.
//!
//! It is written by a script that looks whether the writer knows the state that there is, and also publishes; another one
//! reads. `docs/history.md` has the key and what is in it.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use rooms_core::bus::{BusError, KeptState, NewState, Outcome, Position, StatePatch};

use crate::{
    channels::Channel,
    history::{Call, Ours, epoch, key, milliseconds, odd, text},
    pubsub::PubSub,
};

/// The script that sets a room's state and publishes it, for publishers in other languages; the page `docs/history.md` of
/// the repository tells how to call it.
pub const STATE_SCRIPT: &str = include_str!("history/state.lua");

static SET: Ours = Ours::new(STATE_SCRIPT);
static READ: Ours = Ours::new(include_str!("history/read_state.lua"));

/// What a state that was set begins with on the channel: no JSON text does, and no other payload of ours.
const STATE: &[u8] = b"\x01s";

/// The most digits in front of a state, with what is between them: two positions, and a length.
const LONGEST: usize = 37 + 37 + 20 + 2;

pub(crate) fn set(channel: &Channel, new: NewState, pubsub: PubSub) -> Call {
    let publish = match pubsub {
        PubSub::Classic => "PUBLISH",
        PubSub::Sharded => "SPUBLISH",
    };
    let arguments = vec![
        Bytes::copy_from_slice(channel.as_bytes()),
        new.state,
        new.patch.unwrap_or_default(),
        new.after.map(|after| after.to_string()).unwrap_or_default().into(),
        publish.into(),
        milliseconds(new.keep).to_string().into(),
        epoch(),
    ];
    Call::of(&SET, vec![key("state", channel)], arguments)
}

pub(crate) fn read(channel: &Channel, keep: Duration) -> Call {
    Call::of(&READ, vec![key("state", channel)], vec![milliseconds(keep).to_string().into()])
}

/// What the script that sets has answered.
pub(crate) fn outcome(answer: &Value) -> Result<Outcome, BusError> {
    let Value::Array(answer) = answer else { return Err(odd()) };
    let [word, revision, ..] = answer.as_slice() else { return Err(odd()) };
    let revision = match text(revision)? {
        "" => None,
        revision => Some(revision.parse().map_err(|_| odd())?),
    };
    match (text(word)?, revision) {
        ("set", Some(revision)) => Ok(Outcome::Set(revision)),
        ("conflict", revision) => Ok(Outcome::Conflict(revision)),
        _ => Err(odd()),
    }
}

/// What the script that reads has answered.
pub(crate) fn kept(answer: Value) -> Result<Option<KeptState>, BusError> {
    let Value::Array(answer) = answer else { return Err(odd()) };
    if answer.is_empty() {
        return Ok(None);
    }
    let Ok([revision, Value::BulkString(state)]) = <[Value; 2]>::try_from(answer) else { return Err(odd()) };
    Ok(Some(KeptState::new(text(&revision)?.parse().map_err(|_| odd())?, state.into())))
}

/// A state as it is published: `\x01s<revision>;<since>;<length of the patch>;<patch><state>`, without a patch with nothing
/// for `since`. `None` where it is none.
pub(crate) fn published(payload: &Bytes) -> Option<(KeptState, Option<StatePatch>)> {
    let rest = payload.strip_prefix(STATE)?;
    let mut parts = rest.get(..rest.len().min(LONGEST + 1))?.splitn(4, |byte| *byte == b';');
    let mut part = || std::str::from_utf8(parts.next()?).ok();
    let (revision, since, length) = (part()?, part()?, part()?);
    let head = STATE.len() + revision.len() + since.len() + length.len() + 3;
    let (revision, length): (Position, usize) = (revision.parse().ok()?, length.parse().ok()?);
    let end = head.checked_add(length).filter(|end| *end <= payload.len())?;
    // The third `;` is there, or the length has a part of what is behind it.
    parts.next()?;
    let patch = match since {
        "" if length == 0 => None,
        since => Some(StatePatch::new(since.parse().ok()?, payload.slice(head..end))),
    };
    Some((KeptState::new(revision, payload.slice(end..)), patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_with_what_has_changed_and_nothing_else_is_taken_for_one() {
        let read = |payload: &[u8]| published(&Bytes::copy_from_slice(payload));
        let [before, at] = [Position::new(42, 7), Position::new(42, 8)];
        let state = KeptState::new(at, r#"{"a":";"}"#.into());
        assert_eq!(read(b"\x01s2a.8;;0;{\"a\":\";\"}"), Some((state.clone(), None)));
        let patch = StatePatch::new(before, "{;}".into());
        assert_eq!(read(b"\x01s2a.8;2a.7;3;{;}{\"a\":\";\"}"), Some((state, Some(patch))));
        let far = Position::new(u64::MAX, u64::MAX);
        let longest = format!("\x01s{far};{far};2;{{}}1");
        assert_eq!(read(longest.as_bytes()).unwrap().0, KeptState::new(far, "1".into()));
        for none in [
            &b""[..],
            b"{}",
            b"\x01s",
            b"\x01p2a.8;{}",
            b"\x01s2a.8",
            b"\x01s2a.8;;0",
            b"\x01s2a.8;;1;{}",
            b"\x01s2a.8;2a.7;9;{}",
            b"\x01s2a.8;2a.7;18446744073709551615;{}",
            b"\x01s2a.8;x;1;{}",
            b"\x01s;;0;{}",
            b"\x01s2a.8;;-1;{}",
            b"\x01s2a.8;\xff;0;{}",
        ] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    #[test]
    fn answers_of_the_scripts_are_read_and_others_are_not() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let at = Position::new(42, 7);
        assert_eq!(outcome(&Value::Array(vec![bulk("set"), bulk("2a.7"), Value::Int(1)])).unwrap(), Outcome::Set(at));
        let conflict = |revision| outcome(&Value::Array(vec![bulk("conflict"), bulk(revision)])).unwrap();
        assert_eq!([conflict("2a.7"), conflict("")], [Outcome::Conflict(Some(at)), Outcome::Conflict(None)]);
        assert_eq!(kept(Value::Array(vec![bulk("2a.7"), bulk("1")])).unwrap(), Some(KeptState::new(at, "1".into())));
        assert_eq!(kept(Value::Array(vec![])).unwrap(), None);
        for odd in [Value::Nil, Value::Array(vec![Value::Nil; 2]), bulk("x"), Value::Array(vec![bulk("set"), bulk("")])]
        {
            assert!(outcome(&odd).is_err() && kept(odd.clone()).is_err(), "{odd:?}");
        }
    }
}
