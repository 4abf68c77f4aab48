//! The logs of topics in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    bus::{Appended, Excerpt, IdempotencyKey, Position, ReadFrom, Retention, Topic, history::offset_in},
    shrink::shrink,
};

/// The logs of some topics.
///
/// A log is forgotten when nobody is subscribed to its topic, and nothing was appended to it or read of it for as long as
/// its messages are kept. That is looked at whenever one of these logs is used: so what there is in memory is what was
/// used within that time, and what somebody is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Logs {
    logs: HashMap<Topic, Log>,
    /// When to look whether a log is to be forgotten; each is in it once.
    looks: BTreeMap<(Instant, u64), Topic>,
    next: u64,
}

#[derive(Debug)]
struct Log {
    epoch: u64,
    /// The offset of the newest message.
    head: u64,
    messages: VecDeque<Kept>,
    /// The offsets of the messages that have a key.
    keys: HashMap<IdempotencyKey, u64>,
    bytes: usize,
    age: Duration,
    forget_at: Instant,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    payload: Bytes,
    key: Option<IdempotencyKey>,
}

/// Logs that are looked at with each use. 2: more than are begun with one, so that none is left behind.
const LOOKS: usize = 2;

impl Logs {
    /// Appends a message, unless there is one with its key.
    pub(super) fn append(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        retention: Retention,
        key: Option<&IdempotencyKey>,
        subscribed: impl Fn(&Topic) -> bool,
    ) -> Appended {
        let now = Instant::now();
        self.look(now, subscribed);
        let log = self.used(topic, retention, now);
        if let Some(key) = key {
            log.trim(retention, now);
            if let Some(offset) = log.keys.get(key) {
                return Appended::Before(Position::new(log.epoch, *offset));
            }
            log.keys.insert(key.clone(), log.head + 1);
        }
        log.head += 1;
        log.bytes += payload.len();
        // A copy: what is published may be a part of something longer, and what is kept has as many bytes as are counted.
        let payload = Bytes::copy_from_slice(payload);
        log.messages.push_back(Kept { at: now, payload, key: key.cloned() });
        log.trim(retention, now);
        Appended::Now(log.position())
    }

    /// Reads a log, which is begun if there is none.
    pub(super) fn read(
        &mut self,
        topic: &Topic,
        from: ReadFrom,
        retention: Retention,
        subscribed: impl Fn(&Topic) -> bool,
    ) -> Excerpt {
        let now = Instant::now();
        self.look(now, subscribed);
        let log = self.used(topic, retention, now);
        log.trim(retention, now);
        let head = log.position();
        let wanted = match from {
            ReadFrom::Newest(count) => count,
            ReadFrom::After(position) => match offset_in(head, &[], position) {
                Some(offset) => usize::try_from(head.offset() - offset).unwrap_or(usize::MAX),
                None => 0,
            },
        };
        let skip = log.messages.len().saturating_sub(wanted);
        let kept = log.messages.range(skip..);
        let ages = kept.clone().map(|kept| now.duration_since(kept.at)).collect();
        Excerpt::new(head, kept.map(|kept| kept.payload.clone()).collect()).with_ages(ages)
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    fn used(&mut self, topic: &Topic, retention: Retention, now: Instant) -> &mut Log {
        let (age, forget_at) = (retention.max_age(), now + retention.max_age());
        match self.logs.entry(topic.clone()) {
            Entry::Occupied(entry) => {
                let log = entry.into_mut();
                (log.age, log.forget_at) = (age, forget_at);
                log
            }
            Entry::Vacant(entry) => {
                self.looks.insert((forget_at, self.next), topic.clone());
                self.next += 1;
                entry.insert(Log::new(age, forget_at))
            }
        }
    }

    /// Forgets what was not used for too long.
    fn look(&mut self, now: Instant, subscribed: impl Fn(&Topic) -> bool) {
        for _ in 0..LOOKS {
            let Some(due) = self.looks.first_entry().filter(|due| due.key().0 <= now) else { return };
            let ((_, number), topic) = due.remove_entry();
            let Some(log) = self.logs.get_mut(&topic) else { continue };
            if log.forget_at <= now {
                if !subscribed(&topic) {
                    self.logs.remove(&topic);
                    shrink(&mut self.logs);
                    continue;
                }
                // Its epoch goes on; its messages are too old.
                (log.messages, log.keys, log.bytes) = (VecDeque::new(), HashMap::new(), 0);
                log.forget_at = now + log.age;
            }
            self.looks.insert((log.forget_at, number), topic);
        }
    }
}

impl Log {
    fn new(age: Duration, forget_at: Instant) -> Self {
        let epoch = RandomState::new().hash_one(std::process::id());
        Self { epoch, head: 0, messages: VecDeque::new(), keys: HashMap::new(), bytes: 0, age, forget_at }
    }

    fn position(&self) -> Position {
        Position::new(self.epoch, self.head)
    }

    fn trim(&mut self, retention: Retention, now: Instant) {
        let too_old = |at: Instant| now.duration_since(at) >= retention.max_age();
        while let Some(first) = self.messages.front()
            && (self.messages.len() > retention.max_messages()
                || self.bytes > retention.max_bytes()
                || too_old(first.at))
        {
            self.bytes -= first.payload.len();
            if let Some(key) = &first.key {
                self.keys.remove(key);
                shrink(&mut self.keys);
            }
            self.messages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> Topic {
        Topic::Room(crate::room_key::RoomKey::new("post", number).unwrap())
    }

    fn nobody(_: &Topic) -> bool {
        false
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_is_forgotten_when_it_was_not_used_for_as_long_as_its_messages_are_kept() {
        let (mut logs, retention) = (Logs::default(), Retention::messages(2).age(Duration::from_secs(10)));
        for number in 0..1_000 {
            logs.append(&topic(number), b"x", retention, None, nobody);
        }
        let first = logs.read(&topic(0), ReadFrom::Newest(0), retention, nobody).head;
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(logs.read(&topic(0), ReadFrom::Newest(9), retention, nobody).messages.len(), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..500 {
            let head = logs.read(&topic(0), ReadFrom::Newest(9), retention, nobody).head;
            assert_eq!(head, first, "it is used, so it goes on");
        }
        assert_eq!((logs.logs.len(), logs.looks.len()), (1, 1));
        tokio::time::advance(Duration::from_secs(11)).await;
        let again = logs.append(&topic(0), b"x", retention, None, nobody).position();
        assert!(again.epoch() != first.epoch() && again.offset() == 1, "{again}, after {first}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_somebody_is_subscribed_to_goes_on_and_its_old_messages_are_gone() {
        let (mut logs, retention) = (Logs::default(), Retention::messages(2).age(Duration::from_secs(10)));
        let first = logs.append(&topic(0), b"x", retention, None, nobody).position();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(100)).await;
            logs.append(&topic(1), b"x", retention, None, |topic_| *topic_ == topic(0));
            assert_eq!((logs.logs.len(), logs.logs[&topic(0)].messages.len()), (2, 0));
        }
        let again = logs.append(&topic(0), b"x", retention, None, nobody).position();
        assert_eq!(again, Position::new(first.epoch(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_as_many_as_the_messages_that_are_kept() {
        let (mut logs, retention) = (Logs::default(), Retention::messages(5).age(Duration::from_secs(10)));
        let key = |number: usize| IdempotencyKey::new(&number.to_string()).unwrap();
        for number in 0..100 {
            let mut append = || logs.append(&topic(0), b"x", retention, Some(&key(number)), nobody);
            let first = append();
            assert_eq!((first, append()), (Appended::Now(first.position()), Appended::Before(first.position())));
        }
        assert_eq!(logs.logs[&topic(0)].keys.len(), 5);
        tokio::time::advance(Duration::from_secs(10)).await;
        let again = logs.append(&topic(0), b"x", retention, Some(&key(99)), nobody);
        assert!(matches!(again, Appended::Now(_)), "it is not kept any more");
        assert_eq!(logs.logs[&topic(0)].keys.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_a_log_are_bounded() {
        let (mut logs, retention) = (Logs::default(), Retention::messages(10_000).bytes(1_000));
        for length in (0..2_000).chain([1_000, 1_001]) {
            logs.append(&topic(0), &vec![b' '; length % 300], retention, None, nobody);
            assert!(logs.logs[&topic(0)].bytes <= 1_000);
        }
        logs.append(&topic(0), &[b' '; 1_001], retention, None, nobody);
        assert!(logs.logs[&topic(0)].messages.is_empty(), "one that is too long leaves no room for those before it");
    }
}
