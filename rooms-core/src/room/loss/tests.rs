use std::sync::Arc;

use super::*;
use crate::{
    kind::Kind,
    room::{
        Flusher, Logged,
        bed::{Bed, at},
        flush,
    },
};

fn bed() -> Bed {
    Bed::of(Kind::authenticated())
}

/// How many words of a loss wait in the room.
fn words(bed: &Bed) -> usize {
    bed.state(|state| state.log.since(0).filter(|entry| entry.about.is_loss()).count())
}

async fn served(bed: &Bed) {
    flush(Flusher::counted(&Arc::clone(&bed.0))).await;
}

#[tokio::test]
async fn what_is_lost_together_is_said_once_and_what_is_lost_after_a_message_once_more() {
    let (bed, effects) = (bed(), Effects::default());
    assert!(!effects.flush);
    assert!(bed.0.gap().lost.is_none(), "nobody is there");
    let seat = bed.live(1);
    let first = bed.0.gap();
    assert!(first.flush && first.lost == Some(Reason::BusGap));
    for _ in 0..3 {
        assert!(bed.0.gap().lost.is_none(), "the word is ahead of everybody");
    }
    assert_eq!(words(&bed), 1);
    _ = bed.0.append(crate::message::Message::text("kept"), None, crate::envelope::Carried::Bare, None);
    assert!(bed.0.gap().lost.is_some(), "a message was kept between");
    assert_eq!(words(&bed), 2);
    served(&bed).await;
    let told = seat.takes();
    let brief: Vec<bool> = told.iter().map(|text| text.contains("resync")).collect();
    assert_eq!(brief, [true, false, true], "{told:?}");
    assert!(bed.0.gap().lost.is_some(), "all have had that word, so this is another loss");
}

#[tokio::test]
async fn what_is_lost_while_some_have_the_word_already_is_said_once_more_with_the_next_round() {
    let bed = bed();
    let [early, late] = [bed.live(1), bed.live(2)];
    assert!(bed.0.gap().lost.is_some());
    // A flusher has served the first of them.
    bed.state(|state| {
        let head = state.log.head();
        state.members[early.slot].as_mut().unwrap().cursor = head;
        state.ahead = head;
    });
    for _ in 0..3 {
        assert!(bed.0.gap().lost.is_none(), "one more is due, and it is said later");
    }
    assert_eq!(words(&bed), 1);
    served(&bed).await;
    let count = |told: Vec<String>| told.iter().filter(|text| text.contains("resync")).count();
    assert_eq!(count(early.takes()), 1, "the one that is due, as the first was taken out of its hands here");
    assert_eq!(count(late.takes()), 2);
    assert_eq!(words(&bed), 0, "and no more of them");
    assert!(bed.0.gap().lost.is_some());
}

#[tokio::test]
async fn what_is_lost_in_the_round_that_says_it_again_is_not_said_a_third_time() {
    let bed = bed();
    let seat = bed.live(1);
    _ = bed.0.gap();
    bed.state(|state| state.ahead = state.log.head());
    _ = bed.0.gap();
    bed.state(|state| bed.0.say_again(state, None));
    assert_eq!(words(&bed), 2);
    assert!(bed.0.gap().lost.is_none(), "the word that was just said is ahead of everybody");
    served(&bed).await;
    assert_eq!(seat.takes().len(), 2);
}

#[tokio::test]
async fn what_is_said_again_has_the_reason_of_what_was_lost_then() {
    let bed = bed();
    let seat = bed.live(1);
    _ = bed.state(|state| bed.0.lost(state, Reason::BusGap, None));
    bed.state(|state| state.ahead = state.log.head());
    _ = bed.state(|state| bed.0.lost(state, Reason::Epoch, None));
    served(&bed).await;
    let told = seat.takes();
    assert!(told.len() == 2 && told[0].contains("bus_gap") && told[1].contains("epoch"), "{told:?}");
}

#[tokio::test]
async fn what_is_due_is_said_before_the_next_message() {
    let bed = bed();
    let seat = bed.live(1);
    _ = bed.state(|state| bed.0.lost(state, Reason::BusGap, None));
    bed.state(|state| state.ahead = state.log.head());
    _ = bed.state(|state| bed.0.lost(state, Reason::Epoch, None));
    bed.say("next").await;
    served(&bed).await;
    let told = seat.takes();
    assert!(told.len() == 3 && told[1].contains("epoch") && told[2] == "next", "{told:?}");
}

#[tokio::test]
async fn the_position_of_a_loss_is_behind_all_that_was_lost_since_it_was_said() {
    let bed = Bed::new();
    let seat = bed.live(1);
    bed.arrive(1..=1).await;
    let poison = "[".repeat(100) + &"]".repeat(100);
    let lost = |offset| {
        let read = Logged::read(&bed.0.key, poison.as_bytes(), at(offset), tokio::time::Instant::now(), 1_000);
        bed.0.arrive(read.0, None).1
    };
    let effects = lost(2);
    _ = lost(3);
    assert_eq!(words(&bed), 1, "nobody has been told yet");
    bed.act(effects).await;
    bed.arrive(4..=4).await;
    let told = seat.takes();
    assert!(told.len() == 3 && told[1].contains(&format!(r#""position":"{}""#, at(3))), "{told:?}");
    // One that is not there yet when the history begins is told none.
    let bed = Bed::new();
    let seat = bed.live(1);
    let effects = bed.0.gap();
    bed.act(effects).await;
    assert!(!seat.takes()[0].contains("position"));
}

#[tokio::test]
async fn a_gap_before_anything_is_known_of_a_history_concerns_members_and_nobody_who_joins() {
    let bed = Bed::new();
    let joins = bed.enter(1);
    assert!(bed.0.gap().lost.is_none(), "it begins with what is read later");
    let member = bed.live(2);
    let effects = bed.0.gap();
    assert!(effects.lost == Some(Reason::BusGap) && !effects.read, "there is one who may have missed something");
    bed.act(effects).await;
    assert_eq!(member.takes().len(), 1);
    bed.go_live(&joins);
    bed.arrive(1..=1).await;
    let effects = bed.0.gap();
    assert!(effects.lost.is_none() && effects.read, "what is missing can be read now");
}
