//! The clauses about histories. They hold without a test for a bus that keeps none.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{Backplane, Cut, PATIENCE, fresh_room, listener::Heard, listening, publish};
use crate::bus::{
    Appended, Bus, BusError, Excerpt, History, IdempotencyKey, Missing, Position, ReadFrom, Retention, Topic,
};

/// More than a clause appends.
const PLENTY: Retention = Retention::messages(10_000);

/// Clause 9: what is appended reaches every node, with its position, in the order of the offsets; what is published is in
/// between and has none.
pub async fn appending_publishes(backplane: &mut impl Backplane) {
    const EACH: usize = 100;
    let topic = fresh_room();
    let peers = backplane.peers();
    let (listeners, _) = listening(peers, &topic).await;
    if peers.iter().any(|peer| peer.history().is_none()) {
        return;
    }
    let publishers = peers.iter().enumerate().map(|(number, peer)| {
        let topic = &topic;
        async move {
            let mut answers = Vec::new();
            for n in 0..EACH {
                let text = format!("{number} {n}");
                answers.push((append(peer, topic, &text).await, text));
                publish(peer, topic, "a stranger's").await;
            }
            answers
        }
    });
    let mut answers = join_all(publishers).await.concat();
    answers.sort_by_key(|(position, _)| position.offset());
    let first = answers.first().map_or(0, |(position, _)| position.offset());
    for ((position, text), offset) in answers.iter().zip(first..) {
        assert_eq!(position.offset(), offset, "{text} was appended behind {} messages", offset - first);
    }
    for listener in &listeners {
        let count = |heard: &Heard| heard.messages(&topic).count() == 2 * 3 * EACH;
        listener.until(count).await;
        assert_eq!(listener.with(|heard| heard.positioned(&topic)), answers, "what was heard, and the answers");
    }
}

/// Clause 10: a read gives all that came after a position, or the newest, up to the head, also of what is appended
/// meanwhile; and nothing but the head where the position is of another topic, or of none.
pub async fn reads_have_no_holes(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    if one.history().is_none() {
        return;
    }
    let (topic, other) = (fresh_room(), fresh_room());
    let begun = read(one, &topic, ReadFrom::Newest(9)).await;
    assert_eq!(begun.messages, Vec::<Bytes>::new(), "a fresh log is empty");
    let mut positions = vec![begun.head];
    for n in 1..=50 {
        let position = append(two, &topic, &n.to_string()).await;
        assert_eq!(position.epoch(), begun.head.epoch(), "a log that was read goes on as it is");
        positions.push(position);
    }
    let texts = |from: usize| (from..=50).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>();
    for (n, position) in positions.iter().enumerate() {
        let excerpt = read(one, &topic, ReadFrom::After(*position)).await;
        assert_eq!(excerpt.since(*position).map(<[_]>::to_vec), Ok(texts(n + 1)), "after {n}");
        assert_eq!(Some(&excerpt.head), positions.last());
    }
    for count in [0, 1, 49, 50, 51, usize::MAX] {
        let excerpt = read(two, &topic, ReadFrom::Newest(count)).await;
        assert_eq!(excerpt.messages, texts(51 - count.min(50)), "the newest {count}");
    }

    let elsewhere = append(two, &other, "elsewhere").await;
    assert_ne!(elsewhere.epoch(), begun.head.epoch(), "each topic has an epoch of its own");
    let far = Position::new(begun.head.epoch(), u64::MAX);
    for foreign in [elsewhere, far, Position::new(0, 0), Position::new(u64::MAX, 1)] {
        let excerpt = read(one, &topic, ReadFrom::After(foreign)).await;
        assert_eq!(excerpt.since(foreign), Err(Missing::Epoch), "{foreign}");
        assert_eq!((Some(&excerpt.head), excerpt.messages.len()), (positions.last(), 0), "{foreign}");
    }

    let appends = async {
        for n in 51..=150 {
            append(two, &topic, &n.to_string()).await;
        }
    };
    let reads = async {
        for _ in 0..50 {
            let excerpt = read(one, &topic, ReadFrom::After(begun.head)).await;
            let expected = (1..=excerpt.head.offset() - begun.head.offset()).map(|n| Bytes::from(n.to_string()));
            assert_eq!(excerpt.messages, expected.collect::<Vec<_>>(), "while others append");
        }
    };
    tokio::join!(appends, reads);
    assert_eq!(read(one, &topic, ReadFrom::Newest(1)).await.messages, [Bytes::from("150")], "what was appended before");
}

/// Clause 11: a log is trimmed by number, by bytes and by age, and says so to who asks for more.
pub async fn logs_are_trimmed(backplane: &mut impl Backplane) {
    const SHORT: Duration = Duration::from_millis(200);
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    if one.history().is_none() {
        return;
    }
    let text = "x".repeat(100);
    for (retention, kept) in [(PLENTY.bytes(1_050), 10), (Retention::messages(7), 7), (Retention::messages(1), 1)] {
        let topic = fresh_room();
        let begun = read(one, &topic, ReadFrom::Newest(0)).await.head;
        for _ in 0..20 {
            append_within(two, &topic, &text, retention).await;
        }
        let excerpt = read_within(one, &topic, ReadFrom::After(begun), retention).await;
        assert_eq!((excerpt.messages.len(), excerpt.head.offset() - begun.offset()), (kept, 20), "{retention:?}");
        assert_eq!(excerpt.since(begun), Err(Missing::Trimmed), "{retention:?}");
        let after = Position::new(begun.epoch(), excerpt.first() - 1);
        assert_eq!(excerpt.since(after).map(<[_]>::len), Ok(kept));
    }
    let (quiet, busy, retention) = (fresh_room(), fresh_room(), PLENTY.age(SHORT));
    let (old, _) =
        (append_within(two, &quiet, "old", retention).await, append_within(two, &busy, "old", retention).await);
    let deadline = Instant::now() + PATIENCE;
    while !read_within(one, &quiet, ReadFrom::Newest(9), retention).await.messages.is_empty() {
        assert!(Instant::now() < deadline, "a message is kept for longer than it may");
        sleep(SHORT / 4).await;
    }
    append_within(two, &busy, "new", retention).await;
    let excerpt = read_within(one, &busy, ReadFrom::Newest(9), retention).await;
    assert_eq!(excerpt.messages, [Bytes::from("new")], "the old one has gone from between");
    assert_eq!(read_within(one, &quiet, ReadFrom::After(old), retention).await.since(old), Ok(&[][..]));
    let topic = fresh_room();
    append_within(two, &topic, "old", PLENTY).await;
    sleep(SHORT).await;
    append_within(two, &topic, "new", PLENTY).await;
    let ages = read_within(one, &topic, ReadFrom::Newest(9), PLENTY).await.ages;
    let apart = <[Duration; 2]>::try_from(ages).map(|[old, new]| old.saturating_sub(new));
    // Of clocks that count milliseconds.
    assert!(apart.as_ref().is_ok_and(|apart| *apart >= SHORT * 9 / 10), "each message has its age: {apart:?}");
}

/// Clause 12: positions of a log that was lost name nothing in the log that follows.
pub async fn another_log_is_another_epoch(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let [one, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    if one.history().is_none() {
        return;
    }
    let mut lost = Vec::new();
    for _ in 0..3 {
        for n in 0..5 {
            let [one, ..] = backplane.peers() else { return };
            lost.push(append(one, &topic, &n.to_string()).await);
        }
        if backplane.forget().await == Cut::Impossible {
            return;
        }
        let [one, two, ..] = backplane.peers() else { return };
        for after in 0..8 {
            for position in &lost {
                let excerpt = read(two, &topic, ReadFrom::After(*position)).await;
                let since = excerpt.since(*position);
                assert_eq!((since, excerpt.messages.len()), (Err(Missing::Epoch), 0), "{position}, {after} later");
            }
            append(one, &topic, "another").await;
        }
    }
}

/// Clause 13: what is appended again with its key is told the position of the first, is heard once and kept once, whatever
/// node it comes from; a key is forgotten with its message, and is of one topic.
pub async fn a_key_counts_once(backplane: &mut impl Backplane) {
    const KEPT: Retention = Retention::messages(3);
    let (topic, other) = (fresh_room(), fresh_room());
    let (listeners, _) = listening(backplane.peers(), &topic).await;
    if backplane.peers().iter().any(|peer| peer.history().is_none()) {
        return;
    }
    let peers = backplane.peers();
    let [one, two, ..] = peers else { panic!("the suite needs three peers") };
    append(one, &topic, "without a key").await;
    let at_once = peers.iter().chain(peers).map(|peer| append_once(peer, &topic, "at once", "key", KEPT));
    let answers = join_all(at_once).await;
    let first = answers.iter().find(|answer| matches!(answer, Appended::Now(_))).expect("one of them was appended");
    let now = answers.iter().filter(|answer| matches!(answer, Appended::Now(_)));
    assert_eq!(now.count(), 1, "it was appended once: {answers:?}");
    assert!(answers.iter().all(|answer| answer.position() == first.position()), "{answers:?}");
    let second = append_once(two, &topic, "another key", "other", KEPT).await;
    assert!(matches!(second, Appended::Now(_)), "another key is another message");
    assert_eq!(second.position().offset(), first.position().offset() + 1, "a repetition takes no offset");
    let elsewhere = append_once(two, &other, "another topic", "key", KEPT).await;
    assert!(matches!(elsewhere, Appended::Now(_)), "each topic has keys of its own");
    assert_eq!(append_once(two, &topic, "again", "key", KEPT).await, Appended::Before(first.position()));

    // Three are kept: this one, the one with the other key, and the first with the key.
    append_within(one, &topic, "third", KEPT).await;
    assert_eq!(append_once(one, &topic, "again", "key", KEPT).await, Appended::Before(first.position()));
    append_within(one, &topic, "fourth", KEPT).await;
    let anew = append_once(one, &topic, "anew", "key", KEPT).await;
    assert!(matches!(anew, Appended::Now(_)), "a key is forgotten with its message");
    assert_eq!(append_once(two, &topic, "again", "key", KEPT).await, Appended::Before(anew.position()));
    let expected = ["without a key", "at once", "another key", "third", "fourth", "anew"];
    for listener in &listeners {
        listener.until(|heard| heard.messages(&topic).count() >= expected.len()).await;
        let heard = listener.with(|heard| heard.positioned(&topic));
        assert_eq!(heard.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected, "heard once");
    }
    let kept = read_within(two, &topic, ReadFrom::Newest(9), KEPT).await.messages;
    assert_eq!(kept, expected[3..].iter().map(|text| Bytes::from(*text)).collect::<Vec<_>>());
    if backplane.forget().await == Cut::Impossible {
        return;
    }
    let [one, ..] = backplane.peers() else { return };
    let after = append_once(one, &topic, "another log", "key", KEPT).await;
    assert!(matches!(after, Appended::Now(_)), "another log has other keys");
}

/// Clauses 9, 10 and 12: while the backplane goes and comes, what was certainly appended comes after each position, once
/// and in order, or the position is of another log; and what certainly did not happen is not there.
pub async fn an_outage_leaves_no_holes(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let (listeners, _) = listening(backplane.peers(), &topic).await;
    if backplane.peers().iter().any(|peer| peer.history().is_none()) {
        return;
    }
    let mut answers = Vec::new();
    append_next(backplane, &topic, &mut answers, 50).await;
    if backplane.cut().await == Cut::Impossible {
        return;
    }
    append_next(backplane, &topic, &mut answers, 50).await;
    for listener in &listeners {
        listener.until(Heard::is_down).await;
    }
    append_next(backplane, &topic, &mut answers, 1).await;
    backplane.mend().await;
    let deadline = Instant::now() + PATIENCE;
    while !listeners.iter().all(|listener| listener.with(|heard| !heard.is_down())) {
        assert!(Instant::now() < deadline, "the bus does not come up again");
        append_next(backplane, &topic, &mut answers, 1).await;
        sleep(Duration::from_millis(1)).await;
    }
    // A history may be back later than the bus: a cluster publishes before it writes.
    while !answers.last().is_some_and(Result::is_ok) {
        assert!(Instant::now() < deadline, "nothing is appended any more");
        append_next(backplane, &topic, &mut answers, 1).await;
        sleep(Duration::from_millis(10)).await;
    }
    append_next(backplane, &topic, &mut answers, 50).await;

    let [.., reader] = backplane.peers() else { return };
    let may_be: HashSet<usize> =
        (0..answers.len()).filter(|n| matches!(answers.get(*n), Some(Ok(_) | Err(BusError::Unknown(_))))).collect();
    for (number, answer) in answers.iter().enumerate() {
        let Ok(position) = answer else { continue };
        let excerpt = read(reader, &topic, ReadFrom::After(*position)).await;
        let Ok(messages) = excerpt.since(*position) else { continue };
        let given: Vec<usize> = messages.iter().map(|text| String::from_utf8_lossy(text).parse().unwrap()).collect();
        assert!(given.windows(2).all(|two| two[0] < two[1]), "after {number}: {given:?}");
        assert!(given.iter().all(|n| may_be.contains(n)), "what did not happen is there, after {number}: {given:?}");
        let missing: Vec<usize> =
            (number + 1..answers.len()).filter(|n| answers[*n].is_ok() && !given.contains(n)).collect();
        assert_eq!(missing, Vec::<usize>::new(), "they came after {number}, and its position is taken");
    }
}

async fn append_next(
    backplane: &impl Backplane,
    topic: &Topic,
    answers: &mut Vec<Result<Position, BusError>>,
    count: usize,
) {
    let [first, ..] = backplane.peers() else { return };
    for _ in 0..count {
        let appended = history(first).append(topic, answers.len().to_string().into(), PLENTY);
        answers.push(timeout(PATIENCE, appended).await.expect("an answer in time"));
    }
}

async fn append(bus: &impl Bus, topic: &Topic, text: &str) -> Position {
    append_within(bus, topic, text, PLENTY).await
}

async fn append_once(bus: &impl Bus, topic: &Topic, text: &str, key: &str, retention: Retention) -> Appended {
    let key = IdempotencyKey::new(key).expect("a key");
    let appended = timeout(PATIENCE, history(bus).append_once(topic, text.to_owned().into(), retention, &key)).await;
    appended.expect("an answer in time").unwrap_or_else(|error| panic!("{text} was not appended: {error:?}"))
}

async fn append_within(bus: &impl Bus, topic: &Topic, text: &str, retention: Retention) -> Position {
    let appended = timeout(PATIENCE, history(bus).append(topic, text.to_owned().into(), retention)).await;
    appended.expect("an answer in time").unwrap_or_else(|error| panic!("{text} was not appended: {error:?}"))
}

async fn read(bus: &impl Bus, topic: &Topic, from: ReadFrom) -> Excerpt {
    read_within(bus, topic, from, PLENTY).await
}

async fn read_within(bus: &impl Bus, topic: &Topic, from: ReadFrom, retention: Retention) -> Excerpt {
    let excerpt = timeout(PATIENCE, history(bus).read(topic, from, retention)).await;
    excerpt.expect("an answer in time").unwrap_or_else(|error| panic!("the log was not read: {error:?}"))
}

fn history(bus: &impl Bus) -> &dyn History {
    bus.history().expect("a bus has a history always or never")
}
