//! The script that appends, and how it is called: once for all that waits for some rooms.

use bytes::Bytes;
use redis::{Pipeline, Value};
use rooms_core::bus::{Appended, BusError, IdempotencyKey, Position, Retention};

use super::{APPEND_SCRIPT, Ours, epoch, key, milliseconds, odd, parsed};

static APPEND: Ours = Ours::new(APPEND_SCRIPT);

/// A message that is to be appended.
#[derive(Debug)]
pub(crate) struct Append {
    payload: Bytes,
    retention: Retention,
    once: Option<IdempotencyKey>,
    /// Redis did not know the script, so it is sent as a whole.
    unknown: bool,
    /// A call for several rooms was refused, so each has one of its own.
    alone: bool,
}

impl Append {
    pub(crate) fn new(payload: Bytes, retention: Retention, once: Option<&IdempotencyKey>) -> Self {
        Self { payload, retention, once: once.cloned(), unknown: false, alone: false }
    }

    /// Whether one call can append both to one log.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        self.once.is_none()
            && other.once.is_none()
            && self.unknown == other.unknown
            && self.retention == other.retention
    }

    /// Whether one call can append this one to its log and another one to another log.
    pub(crate) fn goes_beside(&self, other: &Self) -> bool {
        !self.alone && !other.alone && self.once.is_none() && other.once.is_none() && self.unknown == other.unknown
    }

    /// The same with the whole script; `None` where that was sent already.
    pub(crate) fn in_full(self) -> Option<Self> {
        (!self.unknown).then_some(Self { unknown: true, ..self })
    }

    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The bytes that wait with it.
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

/// Adds one call to a pipeline. It is for rooms, each by its channel, with what is appended to it and how much that is.
pub(crate) fn add_append<'a, M: Iterator<Item = &'a Append> + Clone>(
    rooms: impl Iterator<Item = (&'a str, usize, M)> + Clone,
    publish: &str,
    pipeline: &mut Pipeline,
) {
    let Some((channel, first)) = rooms.clone().next().and_then(|(channel, _, mut all)| Some((channel, all.next()?)))
    else {
        return;
    };
    APPEND.add_to(first.unknown, pipeline);
    pipeline.arg(2 * rooms.clone().count() + usize::from(first.once.is_some()));
    for (channel, ..) in rooms.clone() {
        pipeline.arg(key("log", channel)).arg(key("mark", channel));
    }
    if first.once.is_some() {
        pipeline.arg(key("keys", channel));
    }
    pipeline.arg(publish).arg(first.once.as_ref().map_or("", IdempotencyKey::as_str)).arg(&*epoch());
    for (channel, count, messages) in rooms {
        let Some(Append { retention, .. }) = messages.clone().next() else { continue };
        let (messages_kept, bytes, age) =
            (retention.max_messages(), retention.max_bytes(), milliseconds(retention.max_age()));
        pipeline.arg(channel).arg(format!("{messages_kept};{bytes};{age}")).arg(count);
        for message in messages {
            pipeline.arg(&*message.payload);
        }
    }
}

/// The answers for so many rooms that one call was for.
pub(crate) fn by_room(answer: Value, rooms: usize) -> impl Iterator<Item = Value> {
    let (one, several) = match answer {
        Value::Array(answers) if rooms > 1 && answers.len() == rooms => (None, answers),
        answer if rooms > 1 => (None, vec![answer; rooms]),
        answer => (Some(answer), Vec::new()),
    };
    one.into_iter().chain(several)
}

/// What Redis has answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Of(Value),
    /// To a message that was appended; without a number of connections that got it where it had been appended before.
    Appended(Position, Option<u64>),
}

impl Answer {
    pub(crate) fn appended(self) -> Result<Appended, BusError> {
        match self {
            Self::Appended(position, Some(_)) => Ok(Appended::Now(position)),
            Self::Appended(position, None) => Ok(Appended::Before(position)),
            Self::Of(_) => Err(odd()),
        }
    }

    pub(crate) fn value(self) -> Result<Value, BusError> {
        match self {
            Self::Of(value) => Ok(value),
            Self::Appended(..) => Err(odd()),
        }
    }
}

/// The answers to so many messages that were appended together: Redis gives the position of the last.
pub(crate) fn answers(answer: Value, count: usize) -> impl Iterator<Item = Answer> {
    let last = match &answer {
        Value::Array(parts) => match parts.as_slice() {
            [position, receivers] => parsed(position).ok().map(|last| (last, receivers_of(receivers))),
            _ => None,
        },
        _ => None,
    };
    (0..count as u64).rev().map(move |after| match last {
        Some((last, receivers)) => {
            Answer::Appended(Position::new(last.epoch(), last.offset().saturating_sub(after)), receivers)
        }
        None => Answer::Of(answer.clone()),
    })
}

fn receivers_of(value: &Value) -> Option<u64> {
    if let Value::Int(receivers) = value { u64::try_from(*receivers).ok() } else { None }
}
