//! The clauses about a backplane that goes and comes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Backplane, Cut, PATIENCE, fresh_room,
    listener::{Heard, Listener},
    listening, publish,
};
use crate::bus::{Bus, BusError, Topic};

/// Clause 4: down is said, publishing is refused as such, and the bus comes back with its subscriptions.
pub async fn down_is_not_silence(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let (listeners, _) = listening(backplane.peers(), &topic).await;
    if backplane.cut().await == Cut::Impossible {
        return;
    }
    for listener in &listeners {
        listener.until(Heard::is_down).await;
    }
    for peer in backplane.peers() {
        let refused = until_down(peer, &topic).await;
        assert!(refused, "a bus that is down must say so to publishers");
    }
    backplane.mend().await;
    for listener in &listeners {
        listener.until(|heard| !heard.is_down()).await;
        let again = listener.with(|heard| heard.is_up_with(&topic));
        assert!(again, "a bus subscribes again, and says so, before it says that it is up");
    }
    for (number, peer) in backplane.peers().iter().enumerate() {
        publish(peer, &topic, &format!("back {number}")).await;
        for listener in &listeners {
            listener.until(|heard| heard.has(&topic, &format!("back {number}"))).await;
        }
    }
}

/// Publishes until the answer is that the bus is down: a bus with several connections may lose one after the other.
async fn until_down(bus: &impl Bus, topic: &Topic) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match timeout(PATIENCE, bus.publish(topic, Bytes::from_static(b"down?"))).await.expect("an answer in time") {
            Err(BusError::Down) => return true,
            Ok(()) | Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
    false
}

/// Clause 5: while the backplane goes and comes, nothing arrives twice, and nothing whose publisher was told `Down` or
/// `Overloaded` or `Refused` arrives at all.
pub async fn unknown_is_not_down(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let (listeners, _) = listening(backplane.peers(), &topic).await;
    let answers = through_an_outage(backplane, &topic, &listeners).await;
    let Some(answers) = answers else { return };
    for listener in &listeners {
        let heard = listener.heard(&topic);
        for (number, answer) in answers.iter().enumerate() {
            let times = heard.iter().filter(|text| **text == number.to_string()).count();
            let most = usize::from(matches!(answer, Ok(()) | Err(BusError::Unknown(_))));
            assert!(times <= most, "message {number}, answered {answer:?}, arrived {times} times");
        }
    }
}

/// Clause 6: a message whose publisher was told that it happened arrives, or a gap is said after what came before it.
pub async fn loss_is_said(backplane: &mut impl Backplane) {
    let topic = fresh_room();
    let (listeners, _) = listening(backplane.peers(), &topic).await;
    let [first, ..] = backplane.peers() else { return };
    for n in 0..100 {
        publish(first, &topic, &format!("fair {n}")).await;
    }
    for listener in &listeners {
        listener.messages(&topic, 100).await;
    }
    let Some(answers) = through_an_outage(backplane, &topic, &listeners).await else { return };
    let published = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok());
    let published: Vec<String> = published.map(|(number, _)| number.to_string()).collect();
    for listener in &listeners {
        listener.assert_losses_are_said(&topic, &published);
    }
}

/// Publishes numbers from the first peer while the backplane is taken away and given back, until what is published
/// arrives everywhere again. Gives the answers, or `None` where it can't be taken away.
async fn through_an_outage(
    backplane: &mut impl Backplane,
    topic: &Topic,
    listeners: &[Listener],
) -> Option<Vec<Result<(), BusError>>> {
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(publish_next(backplane, topic, answers.len()).await);
    }
    if backplane.cut().await == Cut::Impossible {
        return None;
    }
    for _ in 0..50 {
        answers.push(publish_next(backplane, topic, answers.len()).await);
    }
    for listener in listeners {
        listener.until(Heard::is_down).await;
    }
    answers.push(publish_next(backplane, topic, answers.len()).await);
    backplane.mend().await;
    let deadline = Instant::now() + PATIENCE;
    let up = |listener: &Listener| listener.with(|heard| !heard.is_down());
    while !listeners.iter().all(up) {
        assert!(Instant::now() < deadline, "the bus does not come up again");
        answers.push(publish_next(backplane, topic, answers.len()).await);
        sleep(Duration::from_millis(1)).await;
    }
    let [first, ..] = backplane.peers() else { return None };
    for n in 0..50 {
        publish(first, topic, &format!("fair again {n}")).await;
    }
    publish(first, topic, "the last").await;
    for listener in listeners {
        listener.until(|heard| heard.has(topic, "the last")).await;
        let heard = listener.heard(topic);
        let again = heard.iter().filter(|text| text.starts_with("fair again")).count();
        assert_eq!(again, 50, "of what was published after `Up`: {heard:?}");
    }
    Some(answers)
}

async fn publish_next(backplane: &impl Backplane, topic: &Topic, number: usize) -> Result<(), BusError> {
    let [first, ..] = backplane.peers() else { return Err(BusError::Down) };
    timeout(PATIENCE, first.publish(topic, number.to_string().into())).await.expect("an answer in time")
}
