use std::num::NonZeroU64;

use super::*;
use crate::room::bed::{Bed, Seat, at};

fn numbers(told: &[String]) -> Vec<u64> {
    told.iter().filter_map(|text| text.parse().ok()).collect()
}

/// A flusher has given a member something that it could not take, and comes back to say so.
fn falls_behind(bed: &Bed, slot: usize, seat: &Seat, first: u64) {
    bed.state(|state| state.fall_behind(&bed.0, slot, &seat.recipient, NonZeroU64::new(first).unwrap()));
}

/// A member in a room of which it has all up to 30, and is given what it could not take.
async fn one_behind() -> (Bed, Seat) {
    let bed = Bed::new();
    let seat = bed.live(1);
    bed.arrive(1..=30).await;
    assert_eq!(bed.behind(), [seat.slot]);
    (bed, seat)
}

#[tokio::test]
async fn what_a_flusher_says_of_one_that_has_left_is_not_of_who_is_in_its_slot_now() {
    let bed = Bed::new();
    bed.arrive(1..=3).await;
    let left = bed.live(1);
    _ = bed.0.leave(left.slot);
    let stays = bed.live(2);
    assert_eq!(stays.slot, left.slot);
    falls_behind(&bed, stays.slot, &left, 2);
    assert_eq!((bed.behind(), stays.recipient.behind()), (vec![], vec![]));
    bed.arrive(4..=5).await;
    assert_eq!(stays.takes(), ["4", "5"]);
}

#[tokio::test]
async fn what_a_flusher_says_of_one_that_has_left_and_is_joining_again_is_of_its_time_before() {
    let bed = Bed::new();
    bed.arrive(1..=3).await;
    let seat = bed.live(1);
    _ = bed.0.leave(seat.slot);
    let (slot, _) = bed.0.enter(Arc::clone(&seat.recipient));
    assert_eq!(slot, seat.slot);
    falls_behind(&bed, slot, &seat, 2);
    assert_eq!(bed.behind(), [0_usize; 0]);
    bed.arrive(4..=4).await;
    bed.go_live(&seat);
    bed.arrive(5..=5).await;
    assert_eq!(seat.takes(), ["welcome", "4", "5"]);
}

#[tokio::test]
async fn who_has_left_takes_nothing_of_what_is_owed_to_who_is_in_its_slot_now() {
    let bed = Bed::new();
    let left = bed.live(1);
    _ = bed.0.leave(left.slot);
    let stays = bed.live(2);
    bed.arrive(1..=30).await;
    assert_eq!((bed.behind(), stays.slot), (vec![left.slot], left.slot));
    _ = bed.0.heal(left.slot, &left.recipient);
    assert_eq!((left.takes(), bed.behind()), (vec![], vec![stays.slot]));
    assert_eq!(numbers(&bed.heal(&stays)), (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_that_leaves_while_it_is_behind_leaves_nothing_of_that() {
    let (bed, left) = one_behind().await;
    _ = bed.0.leave(left.slot);
    assert_eq!((bed.behind(), left.recipient.behind()), (vec![], vec![]));
    let next = bed.live(2);
    bed.arrive(31..=32).await;
    assert_eq!(next.takes(), ["31", "32"]);
}

#[tokio::test]
async fn one_that_is_behind_is_told_what_the_history_does_not_have_and_owed_the_rest_once() {
    let (bed, seat) = one_behind().await;
    bed.say("bare").await;
    bed.arrive(31..=33).await;
    bed.say("bare again").await;
    let told = bed.heal(&seat);
    let bare: Vec<_> = told.iter().filter(|text| text.starts_with("bare")).collect();
    assert_eq!(bare, ["bare", "bare again"]);
    assert_eq!(numbers(&told), (1..=33).collect::<Vec<_>>());
    // And from here on what all others are.
    bed.arrive(34..=35).await;
    assert_eq!((seat.takes(), bed.behind()), (vec!["34".to_owned(), "35".to_owned()], vec![]));
}

#[tokio::test]
async fn what_came_before_it_fell_behind_is_not_told_again() {
    let bed = Bed::new();
    let seat = bed.live(1);
    bed.say("bare").await;
    bed.arrive(1..=30).await;
    bed.say("bare again").await;
    let told = bed.heal(&seat);
    assert_eq!(told.iter().filter(|text| text.starts_with("bare")).count(), 2, "{told:?}");
}

#[tokio::test]
async fn a_loss_that_all_are_told_of_ends_what_is_owed_and_what_follows_it_is_given() {
    let (bed, seat) = one_behind().await;
    let effects = bed.0.left_out();
    bed.act(effects).await;
    assert_eq!((bed.behind(), seat.recipient.behind()), (vec![], vec![]), "it has been told to fetch");
    bed.arrive(31..=32).await;
    let told = seat.takes();
    assert!(told.iter().any(|text| text.contains("resync")), "{told:?}");
    assert_eq!(numbers(&told).iter().filter(|number| **number > 30).collect::<Vec<_>>(), [&31, &32]);
}

#[tokio::test]
async fn what_follows_a_loss_and_does_not_fit_is_owed_from_there_on() {
    let (bed, seat) = one_behind().await;
    let effects = bed.0.left_out();
    bed.act(effects).await;
    bed.arrive(31..=60).await;
    assert_eq!(bed.behind(), [seat.slot], "it has fallen behind again");
    let told = bed.heal(&seat);
    let place = told.iter().position(|text| text.contains("resync")).unwrap();
    assert_eq!(numbers(&told[place..]), (31..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_that_the_log_has_overtaken_is_told_and_goes_on_from_there() {
    let kind = crate::kind::Kind::authenticated().overflow(crate::outbox::Overflow::Resync);
    let bed = Bed::of(kind.history(crate::bus::Retention::messages(10)));
    let seat = bed.live(1);
    bed.arrive(1..=100).await;
    // Its position is before the copy, so the log is asked; it has no more than the copy.
    let effects = bed.0.heal(seat.slot, &seat.recipient);
    assert!(effects.read && bed.0.begin_read().is_some());
    let messages = bed.state(|state| state.replay.as_ref().unwrap().newest(at(100)).cloned().collect::<Vec<_>>());
    let messages = messages.into_iter().rev().collect();
    let read = crate::room::Read { head: at(100), earlier: Vec::new(), messages };
    _ = bed.0.end_read(Ok(read));
    assert!(bed.0.begin_read().is_none());
    let told = bed.heal(&seat);
    assert!(told.last().is_some_and(|text| text.contains("history_gap")), "{told:?}");
    bed.arrive(101..=102).await;
    assert_eq!(seat.takes(), ["101", "102"]);
}

#[tokio::test]
async fn a_read_that_is_given_up_is_a_loss_to_who_waits_for_it() {
    let kind = crate::kind::Kind::authenticated().overflow(crate::outbox::Overflow::Resync);
    let bed = Bed::of(kind.history(crate::bus::Retention::messages(10)));
    let waits = bed.live(1);
    bed.arrive(1..=100).await;
    assert!(bed.0.heal(waits.slot, &waits.recipient).read);
    let refused = crate::bus::BusError::Unknown("no".into());
    while bed.0.begin_read().is_some() {
        _ = bed.0.end_read(Err(&refused));
    }
    let told = bed.heal(&waits);
    assert!(told.iter().any(|text| text.contains("bus_gap")), "{told:?}");
}
