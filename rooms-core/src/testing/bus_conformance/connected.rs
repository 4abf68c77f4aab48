//! The clauses that hold while the backplane is there.

use std::{pin::pin, time::Duration};

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
    for (peer, listener) in peers.iter().zip(&listeners) {
        listener.subscribe(peer, &[topic.clone(), topic.clone()]).await;
    }
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

/// Clause 3: what is published after the answer to `subscribe` arrives, and in the end nothing of what was unsubscribed
/// does; each call is answered, both take any number of topics, none among them, and may be called again.
pub async fn confirmed(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    one.subscribe(&[]);
    one.unsubscribe(&[fresh_room()]);
    let topic = fresh_room();
    for round in 0..20 {
        for _ in 0..2 {
            listener.subscribe(one, std::slice::from_ref(&topic)).await;
        }
        publish(two, &topic, &format!("in {round}")).await;
        listener.until(|heard| heard.has(&topic, &format!("in {round}"))).await;
        for _ in 0..2 {
            one.unsubscribe(std::slice::from_ref(&topic));
        }
    }
    assert_all_silent(two, one, &listener, std::slice::from_ref(&topic)).await;

    let many: Vec<Topic> = (0..2_000).map(|_| fresh_room()).collect();
    listener.subscribe(one, &many).await;
    for topic in many.iter().step_by(100).chain(many.last()) {
        publish(two, topic, "many").await;
        listener.until(|heard| heard.has(topic, "many")).await;
    }
    one.unsubscribe(&many);
    assert_all_silent(two, one, &listener, &many[..10]).await;
}

/// Clause 3: whatever was wanted in between, it ends as the last call says; no answer comes after `unsubscribe` has
/// returned.
pub async fn the_last_call_counts(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    let (wanted, unwanted): (Vec<Topic>, Vec<Topic>) = (0..20).map(|_| (fresh_room(), fresh_room())).unzip();
    for turn in 0..10 {
        one.subscribe(&unwanted);
        one.unsubscribe(&wanted);
        if turn % 3 == 0 {
            // For the backplane to be at work on it.
            sleep(Duration::from_millis(1)).await;
        }
        one.unsubscribe(&unwanted);
        one.subscribe(&wanted);
    }
    let answers = |topic: &Topic| listener.with(|heard| heard.answers(topic));
    let before: Vec<usize> = unwanted.iter().map(answers).collect();
    listener.subscribe(one, &wanted).await;
    for topic in &wanted {
        publish(two, topic, "wanted").await;
        listener.until(|heard| heard.has(topic, "wanted")).await;
    }
    assert_all_silent(two, one, &listener, &unwanted).await;
    assert_eq!(unwanted.iter().map(answers).collect::<Vec<_>>(), before, "answers that nobody waits for");
}

/// Clause 3: a topic that is refused, or for which no answer comes, holds up no other.
pub async fn no_topic_holds_up_another(backplane: &mut impl Backplane) {
    let Some(stubborn) = backplane.stubborn() else { return };
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    let [together, later] = [fresh_room(), fresh_room()];
    one.subscribe(std::slice::from_ref(&stubborn));
    listener.subscribe_beside(one, std::slice::from_ref(&together), std::slice::from_ref(&stubborn)).await;
    listener.subscribe(one, std::slice::from_ref(&later)).await;
    for topic in [&together, &later] {
        publish(two, topic, "beside").await;
        listener.until(|heard| heard.has(topic, "beside")).await;
    }
    assert_eq!(listener.with(|heard| heard.answers(&stubborn)), 0, "what the backplane refuses is not subscribed");
    one.unsubscribe(&[stubborn]);
}

/// Clause 7: a flood is taken at its publishers' pace, whatever the listeners do: nobody polls anything here.
pub async fn nobody_waits(backplane: &mut impl Backplane) {
    const FLOOD: usize = 5_000;
    let topic = fresh_room();
    let peers = backplane.peers();
    let [first, second, muted, ..] = peers else { panic!("the suite needs three peers") };
    let listeners = [Listener::attach(first), Listener::attach(second)];
    for (peer, listener) in [first, second].into_iter().zip(&listeners) {
        listener.subscribe(peer, std::slice::from_ref(&topic)).await;
    }
    // The third has no receiver, and nobody may wait for that either.
    muted.subscribe(std::slice::from_ref(&topic));
    for n in 0..FLOOD {
        publish(first, &topic, &n.to_string()).await;
    }
    for listener in &listeners {
        listener.messages(&topic, FLOOD).await;
    }
}

/// Clause 8: a publication that is dropped when it has begun happens once or not at all, and the next one happens.
pub async fn dropping_is_safe(backplane: &mut impl Backplane) {
    let [one, two, ..] = backplane.peers() else { panic!("the suite needs three peers") };
    let listener = Listener::attach(one);
    for _ in 0..20 {
        let topic = fresh_room();
        listener.subscribe(one, std::slice::from_ref(&topic)).await;
        // Polled once and dropped.
        _ = poll_immediate(pin!(two.publish(&topic, Bytes::from_static(b"dropped")))).await;
        publish(two, &topic, "wanted").await;
        listener.until(|heard| heard.has(&topic, "wanted")).await;
        let heard = listener.heard(&topic);
        for text in ["dropped", "wanted"] {
            assert!(heard.iter().filter(|heard| *heard == text).count() <= 1, "{text} came twice: {heard:?}");
        }
        one.unsubscribe(std::slice::from_ref(&topic));
    }
}

/// None of the topics is subscribed, after a while at the latest.
async fn assert_all_silent(publisher: &impl Bus, bus: &impl Bus, listener: &Listener, topics: &[Topic]) {
    let fence = fresh_room();
    listener.subscribe(bus, std::slice::from_ref(&fence)).await;
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
        assert!(Instant::now() < deadline, "a subscription that was ended stays");
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
