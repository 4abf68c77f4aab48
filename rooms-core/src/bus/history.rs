//! What a bus keeps of a topic's messages, for those who were away: the [`History`] part of a [`Bus`](super::Bus).

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Appended, BusError, IdempotencyKey, Position, Topic};

/// How much of a room's messages is kept: their number, their age and their bytes. What is beyond one of them goes, the
/// oldest first.
///
/// ```
/// use std::time::Duration;
///
/// use rooms_core::{Kind, bus::Retention};
///
/// let posts = Kind::authenticated().history(Retention::messages(500).age(Duration::from_secs(3600)).bytes(1024 * 1024));
/// # let _ = posts;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Retention {
    messages: usize,
    age: Duration,
    bytes: usize,
}

/// A [`Retention`] that keeps nothing, or more than a log is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// The number of messages.
    #[error("a history has 1 to {max} messages, not {0}", max = Retention::MAX_MESSAGES)]
    Messages(usize),
    /// The age.
    #[error("a history goes back 1 ms to {max:?}, not {0:?}", max = Retention::MAX_AGE)]
    Age(Duration),
    /// The bytes.
    #[error("a history has 1 to {max} bytes, not {0}", max = Retention::MAX_BYTES)]
    Bytes(usize),
}

impl Retention {
    /// The most messages: 10,000. A client that missed more fetches the state, and not how it came about.
    pub const MAX_MESSAGES: usize = 10_000;
    /// The longest age: 30 days. For longer there are databases.
    pub const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);
    /// The most bytes: 4 MiB. A log is read as a whole, and each node with members in the room has a copy.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// Keeps the newest `messages`, for an hour, and at most 512 KiB of them.
    ///
    /// An hour is longer than most outages, deployments and closed lids. 512 KiB is half of what an outbox holds by default,
    /// so what a member missed can be given to it at once.
    pub const fn messages(messages: usize) -> Self {
        Self { messages, age: Duration::from_secs(3600), bytes: 512 * 1024 }
    }

    /// Sets how long a message is kept. A log to which nothing is appended for so long is empty.
    pub const fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Sets how many bytes are kept, of payloads as they travel on the bus. A payload that is longer than all of this is
    /// published and not kept.
    ///
    /// What a backplane needs for each message beside its payload is not counted, nor what a node needs. A node with members
    /// in the room has a copy of each payload, and about 300 bytes beside it. It has a second copy of each payload that it
    /// gave from the history to a connection for one room that is told no positions: so twice these bytes at most.
    pub const fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// How many messages are kept.
    #[must_use]
    pub const fn max_messages(&self) -> usize {
        self.messages
    }

    /// How long a message is kept.
    #[must_use]
    pub const fn max_age(&self) -> Duration {
        self.age
    }

    /// How many bytes are kept.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it can be kept to.
    pub(crate) fn check(&self) -> Result<(), RetentionError> {
        if !(1..=Self::MAX_MESSAGES).contains(&self.messages) {
            return Err(RetentionError::Messages(self.messages));
        }
        if !(Duration::from_millis(1)..=Self::MAX_AGE).contains(&self.age) {
            return Err(RetentionError::Age(self.age));
        }
        if !(1..=Self::MAX_BYTES).contains(&self.bytes) {
            return Err(RetentionError::Bytes(self.bytes));
        }
        Ok(())
    }
}

/// The part of a bus that keeps the history of topics, for those who were away.
///
/// The messages of a topic that are appended form its log. Each has a [`Position`]: the epoch of the log, and an offset
/// that is one more than that of the message before. So whoever knows the position of the last message that they were
/// given can ask for exactly what came after it, and can tell whether the log still has all of that.
///
/// The contract goes on from that of the [bus](super):
///
/// 9. **Appending publishes.** [`append`](Self::append) puts a message at the end of the log and publishes it, in one
///    step that no other publisher comes between. It reaches subscribed nodes as a [`BusEvent::Message`] with the position
///    that the publisher is answered, in the order of the offsets. A plain [`publish`](super::Bus::publish) to the same
///    topic has no position, and is not kept.
/// 10. **A read has no holes.** [`read`](Self::read) gives messages that follow each other up to the newest, the
///     [head](Excerpt::head) of the log: all that the log has after a position, or the newest of it. What was appended
///     before the call is in it. Their [ages](Excerpt::ages) are those in the log, by one clock for all nodes.
/// 11. **A log is bounded.** It is trimmed from the oldest on, by number, bytes and age, as [`Retention`] says.
/// 12. **Another log is another epoch.** A log that was lost, as a whole or at its end, and goes on differently has an epoch
///     that no log had before: no position of the old one names a message of the new one. Where what was not lost has
///     the same messages at the same offsets, the log may say so by [`Excerpt::earlier`].
/// 13. **A key counts once.** Of the messages that are appended to one topic [with the same key](Self::append_once), by
///     whatever node, the first is appended and published; each of the others is answered with its position, for as long
///     as the log keeps it.
///
/// [`BusEvent::Message`]: super::BusEvent::Message
#[async_trait]
pub trait History: fmt::Debug + Send + Sync {
    /// Appends a message to the log of a topic and publishes it, in one step; trims the log. Gives its position.
    ///
    /// Dropped before it resolves, it is done or not done.
    ///
    /// # Errors
    /// As [`Bus::publish`](super::Bus::publish). With [`BusError::Unknown`] the message may be in the log, or not.
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError>;

    /// Appends a message as [`append`](Self::append) does, unless the log keeps one that was appended with this key.
    ///
    /// Whether the payload is the same is not looked at.
    ///
    /// # Errors
    /// As [`append`](Self::append). After [`BusError::Unknown`] it may be called again with the same key.
    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError>;

    /// Reads the log of a topic. Where there is none one is begun, so that there is a position to go on from.
    ///
    /// # Errors
    /// [`BusError`]; nothing is changed.
    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError>;
}

/// Where a read begins; it ends with the newest message.
///
/// Exhaustive, as a bus has to do what each of them says: one that a bus does not know could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// After this position. Of a position that is none of this log nothing is read but the head.
    After(Position),
    /// With the newest so many messages, or all there are; with 0 of them only the head is read.
    Newest(usize),
}

/// What was read of a log: its head, and messages that follow each other up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Excerpt {
    /// The position of the newest message, whether it is kept or not; offset 0 in a log that had none yet.
    pub head: Position,
    /// Earlier epochs of this same log, each with the last position of it that the log has: up to there they have the same
    /// messages at the same offsets.
    ///
    /// A backplane that may lose the newest messages and go on, as a server that fails over does, begins a new epoch each
    /// time. A member that knows no more than what survived still resumes; one that was given what is lost does not.
    pub earlier: Vec<Position>,
    /// The payloads, the newest last, as they were appended. The last one is at the head's offset.
    pub messages: Vec<Bytes>,
    /// How long ago each of the messages was appended, when they were read. By this a node forgets its copy of them in time;
    /// one whose age is not here is taken to be appended just now, and so may be given to members for up to twice the age
    /// of the [`Retention`].
    pub ages: Vec<Duration>,
}

/// Why a log can't tell what came after a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The position is none of this log: it is of another one, or lies beyond the head.
    #[error("the position is of another log")]
    Epoch,
    /// Some of what came after it is not kept any more.
    #[error("some of the messages are not kept any more")]
    Trimmed,
}

impl Excerpt {
    /// Messages up to a head.
    #[must_use]
    pub const fn new(head: Position, messages: Vec<Bytes>) -> Self {
        Self { head, earlier: Vec::new(), messages, ages: Vec::new() }
    }

    /// Says how long ago each of the messages was appended, in their order.
    #[must_use]
    pub fn with_ages(self, ages: Vec<Duration>) -> Self {
        Self { ages, ..self }
    }

    /// Names the earlier epochs of the log.
    #[must_use]
    pub fn with_earlier(self, earlier: Vec<Position>) -> Self {
        Self { earlier, ..self }
    }

    /// The offset of the first message; one past the head's where there is none.
    #[must_use]
    pub const fn first(&self) -> u64 {
        (self.head.offset().saturating_add(1)).saturating_sub(self.messages.len() as u64)
    }

    /// The position of one of the messages, as its publisher was told it.
    #[must_use]
    pub fn position(&self, offset: u64) -> Position {
        let earlier = self.earlier.iter().filter(|last| last.offset() >= offset).min_by_key(|last| last.offset());
        Position::new(earlier.unwrap_or(&self.head).epoch(), offset)
    }

    /// The messages after a position.
    ///
    /// # Errors
    /// [`Missing`], where they are not all there.
    ///
    /// ```
    /// use rooms_core::bus::{Excerpt, Missing, Position};
    ///
    /// let excerpt = Excerpt::new(Position::new(7, 12), vec!["eleven".into(), "twelve".into()]);
    /// assert_eq!(excerpt.since(Position::new(7, 11)), Ok(&["twelve".into()][..]));
    /// assert_eq!(excerpt.since(Position::new(7, 9)), Err(Missing::Trimmed));
    /// assert_eq!(excerpt.since(Position::new(6, 11)), Err(Missing::Epoch));
    /// ```
    pub fn since(&self, position: Position) -> Result<&[Bytes], Missing> {
        let offset = offset_in(self.head, &self.earlier, position).ok_or(Missing::Epoch)?;
        let skip = offset.saturating_add(1).checked_sub(self.first()).ok_or(Missing::Trimmed)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(self.messages.get(skip..).unwrap_or_default())
    }
}

/// The offset of a position in a log with this head and these earlier epochs; `None` where it is of another log.
pub(crate) fn offset_in(head: Position, earlier: &[Position], position: Position) -> Option<u64> {
    let last = earlier.iter().chain([&head]).find(|last| last.epoch() == position.epoch())?;
    // An offset past the last one was given by a log that has lost it.
    (position.offset() <= last.offset()).then_some(position.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_bounded_on_both_sides() {
        let good = Retention::messages(1).bytes(1).age(Duration::from_millis(1));
        assert_eq!(good.check(), Ok(()));
        let most = Retention::messages(Retention::MAX_MESSAGES).bytes(Retention::MAX_BYTES).age(Retention::MAX_AGE);
        assert_eq!(most.check(), Ok(()));
        assert_eq!(Retention::messages(0).check(), Err(RetentionError::Messages(0)));
        assert_eq!(Retention::messages(10_001).check(), Err(RetentionError::Messages(10_001)));
        assert_eq!(good.age(Duration::ZERO).check(), Err(RetentionError::Age(Duration::ZERO)));
        let long = Retention::MAX_AGE + Duration::from_millis(1);
        assert_eq!(good.age(long).check(), Err(RetentionError::Age(long)));
        assert_eq!(good.bytes(0).check(), Err(RetentionError::Bytes(0)));
        assert_eq!(good.bytes(Retention::MAX_BYTES + 1).check(), Err(RetentionError::Bytes(Retention::MAX_BYTES + 1)));
        let words = RetentionError::Messages(0).to_string();
        assert_eq!(words, "a history has 1 to 10000 messages, not 0");
    }

    #[test]
    fn what_came_after_a_position_is_all_there_or_an_error() {
        let at = Position::new;
        let text = |n: u64| Bytes::from(n.to_string());
        let excerpt =
            Excerpt::new(at(9, 12), vec![text(10), text(11), text(12)]).with_earlier(vec![at(8, 10), at(7, 3)]);
        assert_eq!(excerpt.first(), 10);
        for (position, outcome) in [
            (at(9, 12), Ok(vec![])),
            (at(9, 10), Ok(vec![text(11), text(12)])),
            (at(9, 9), Ok(vec![text(10), text(11), text(12)])),
            (at(9, 8), Err(Missing::Trimmed)),
            (at(9, 13), Err(Missing::Epoch)),
            (at(9, u64::MAX), Err(Missing::Epoch)),
            (at(8, 10), Ok(vec![text(11), text(12)])),
            (at(8, 11), Err(Missing::Epoch)),
            (at(7, 3), Err(Missing::Trimmed)),
            (at(7, 4), Err(Missing::Epoch)),
            (at(1, 10), Err(Missing::Epoch)),
        ] {
            assert_eq!(excerpt.since(position).map(<[_]>::to_vec), outcome, "{position}");
        }
        for (offset, position) in [(2, at(7, 2)), (3, at(7, 3)), (4, at(8, 4)), (10, at(8, 10)), (11, at(9, 11))] {
            assert_eq!(excerpt.position(offset), position);
        }
        let empty = Excerpt::new(at(9, 0), vec![]);
        assert_eq!((empty.first(), empty.since(at(9, 0))), (1, Ok(&[][..])));
    }
}
