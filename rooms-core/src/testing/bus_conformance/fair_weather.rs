//! The clauses that hold while the backplane is there.

use std::{future::Future, pin::pin, time::Duration};

use bytes::Bytes;
use futures::future::{join_all, poll_immediate};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Backplane, PATIENCE, fresh_room,
    listener::{Heard, Listener},
    listening, publish,
};
use crate::bus::{Bus, Topic};

/// Clause 1: loop-back, and one order.
pub async fn one_order(backplane: &mut impl Backplane) {
    const EACH: usize = 200;
    let topic = fresh_room();
    let peers = backplane.peers();
    let (listeners, numbers) = listening(peers, &topic).await;
    let publishers = peers.iter().zip(numbers).map(|(peer, number)| {
        let topic = &topic;
        async move {
            for n in 0..EACH {
                publish(peer, topic, &format!("{number} {n}")).await;
            }
        }
    });
    join_all(publishers).await;
    let mut orders = Vec::new();
    for (listener, number) in listeners.iter().zip(numbers) {
        let heard = listener.messages(&topic, 3 * EACH).await;
        for publisher in numbers {
            let of_one = heard.iter().filter(|text| text.starts_with(&publisher.to_string())).cloned();
            let expected: Vec<String> = (0..EACH).map(|n| format!("{publisher} {n}")).collect();
            assert_eq!(of_one.collect::<Vec<_>>(), expected, "what {publisher} published, heard by {number}");
        }
        orders.push(heard);
    }
    assert!(orders.windows(2).all(|pair| pair.first() == pair.last()), "the nodes heard different orders");
}

/// Clause 2: at most once, also where a node has subscribed twice.
pub async fn at_most_once(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let peers = backplane.peers();
    let (listeners, _) = listening(peers, &topic).await;
    listening_again(peers, &topic).await;
    let [first, ..] = peers else { return };
    for n in 0..100 {
        publish(first, &topic, &n.to_string()).await;
    }
    publish(first, &topic, "the last").await;
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).chain(["the last".to_owned()]).collect();
    for listener in &listeners {
        listener.until(|heard| heard.has(&topic, "the last")).await;
        assert_eq!(listener.heard(&topic), expected);
    }
}

async fn listening_again(peers: &[impl Bus], topic: &Topic) {
    for peer in peers {
        peer.subscribe(&[topic.clone(), topic.clone()]).await.expect("the same subscription again");
    }
}

/// Clause 3: what is published after `subscribe` has resolved arrives, and what is published after `unsubscribe` has does
/// not; both take any number of topics, none among them, and may be called again.
pub async fn confirmed(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    one.subscribe(&[]).await.expect("no topics");
    one.unsubscribe(&[fresh_room()]).await.expect("a topic that never was");
    let (topic, fence) = (fresh_room(), fresh_room());
    one.subscribe(std::slice::from_ref(&fence)).await.expect("a subscription");
    for round in 0..20 {
        one.subscribe(std::slice::from_ref(&topic)).await.expect("a subscription");
        publish(two, &topic, &format!("in {round}")).await;
        listener.until(|heard| heard.has(&topic, &format!("in {round}"))).await;
        for _ in 0..2 {
            one.unsubscribe(std::slice::from_ref(&topic)).await.expect("the end of it");
        }
        publish(two, &topic, &format!("out {round}")).await;
        // Nothing is in order across topics but what one publisher sends one after the other to one node; so a stray
        // message is given time by twenty rounds.
        publish(two, &fence, &format!("fence {round}")).await;
        listener.until(|heard| heard.has(&fence, &format!("fence {round}"))).await;
    }
    assert_eq!(listener.heard(&topic), (0..20).map(|round| format!("in {round}")).collect::<Vec<_>>());

    let many: Vec<Topic> = (0..2_000).map(|_| fresh_room()).collect();
    one.subscribe(&many).await.expect("many topics");
    for topic in many.iter().step_by(100).chain(many.last()) {
        publish(two, topic, "many").await;
        listener.until(|heard| heard.has(topic, "many")).await;
    }
    one.unsubscribe(&many).await.expect("the end of them");
}

/// Clause 7: a flood is taken at its publishers' pace, whatever the listeners do: nobody polls anything here.
pub async fn nobody_waits(backplane: &mut impl Backplane) {
    const FLOOD: usize = 5_000;
    let topic = fresh_room();
    let peers = backplane.peers();
    let [first, second, deaf, ..] = peers else { panic!("the suite needs three peers") };
    let listeners = [Listener::attach(first), Listener::attach(second)];
    for peer in [first, second, deaf] {
        // The third has no receiver, and nobody may wait for that either.
        peer.subscribe(std::slice::from_ref(&topic)).await.expect("a subscription");
    }
    for n in 0..FLOOD {
        publish(first, &topic, &n.to_string()).await;
    }
    for listener in &listeners {
        listener.messages(&topic, FLOOD).await;
    }
}

/// Clause 8: futures that are dropped when they have begun.
pub async fn dropping_is_safe(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    let mut dropped = Vec::new();
    for _ in 0..20 {
        let (unwanted, topic) = (fresh_room(), fresh_room());
        if begin(one.subscribe(std::slice::from_ref(&unwanted))).await {
            dropped.push(unwanted);
        }
        // A subscription that was dropped does not spoil the one that is wanted, nor a publication the next.
        begin(one.subscribe(std::slice::from_ref(&topic))).await;
        one.subscribe(std::slice::from_ref(&topic)).await.expect("a subscription");
        begin(two.publish(&topic, Bytes::from_static(b"dropped"))).await;
        publish(two, &topic, "wanted").await;
        listener.until(|heard| heard.has(&topic, "wanted")).await;
        let heard = listener.heard(&topic);
        for text in ["dropped", "wanted"] {
            assert!(heard.iter().filter(|heard| *heard == text).count() <= 1, "{text} came twice: {heard:?}");
        }
        begin(one.unsubscribe(std::slice::from_ref(&topic))).await;
        one.unsubscribe(std::slice::from_ref(&topic)).await.expect("the end of it");
    }
    assert_all_silent(two, one, &listener, &dropped).await;
}

/// Polls a future once and drops it; whether it was dropped before its end.
async fn begin(future: impl Future) -> bool {
    poll_immediate(pin!(future)).await.is_none()
}

/// None of the topics is subscribed, after a while at the latest.
async fn assert_all_silent(publisher: &impl Bus, bus: &impl Bus, listener: &Listener, topics: &[Topic]) {
    let fence = fresh_room();
    bus.subscribe(std::slice::from_ref(&fence)).await.expect("a subscription");
    let deadline = Instant::now() + PATIENCE;
    for attempt in 1.. {
        // For whatever runs on though nobody asks for it.
        sleep(Duration::from_millis(10) * attempt).await;
        let text = attempt.to_string();
        for topic in topics.iter().chain([&fence]) {
            publish(publisher, topic, &text).await;
        }
        listener.until(|heard| heard.has(&fence, &text)).await;
        if !topics.iter().any(|topic| listener.with(|heard| heard.has(topic, &text))) {
            return;
        }
        assert!(Instant::now() < deadline, "a subscription that was dropped stays");
    }
}

/// What the trait says of `close`: no event comes after it has resolved, and the others go on.
pub async fn closed_is_silent(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let peers = backplane.peers();
    let (listeners, _) = listening(peers, &topic).await;
    let ([closed, others @ ..], [silent, listening @ ..]) = (peers, &*listeners) else { return };
    timeout(PATIENCE, closed.close()).await.expect("a close in time");
    let before = silent.with(Heard::count);
    for (n, peer) in others.iter().enumerate() {
        publish(peer, &topic, &n.to_string()).await;
    }
    for listener in listening {
        listener.until(|heard| heard.has(&topic, "1")).await;
    }
    assert_eq!(silent.with(Heard::count), before, "an event came after the close");
}
