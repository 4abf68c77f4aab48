//! The suite for buses catches buses that break one clause each. Time is paused, so nothing waits for what never comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/breakable.rs"]
mod breakable;

use rooms_core::{bus_conformance, testing::bus_conformance as suite};

use breakable::{
    Breakable,
    Fault::{self, *},
};

mod a_right_bus_with_outages_passes {
    use super::{Breakable, Fault, bus_conformance};

    bus_conformance!(Breakable::with(Fault::Nothing));
}

/// Runs a clause against each of these faults, and expects that it fails.
macro_rules! caught {
    ($($name:ident: $clause:ident catches $($fault:expr),+;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                for fault in [$($fault),+] {
                    let proof = tokio::spawn(async move { suite::$clause(&mut Breakable::with(fault)).await });
                    let outcome = proof.await;
                    assert!(outcome.is_err_and(|error| error.is_panic()), "{fault:?} got through");
                }
            }
        )*
    };
}

caught! {
    clause_1_catches_what_is_not_heard_by_all_in_one_order: one_order catches DoesNotHearItself, HearsAnotherOrder;
    clause_2_catches_what_comes_twice: at_most_once catches DeliversTwice;
    clause_3_catches_answers_that_come_too_early_or_never: confirmed
        catches AnswersTooEarly, AnswersOnlyOnce, KeepsWhatIsUnsubscribed;
    clause_3_catches_what_does_not_end_as_the_last_call_says: the_last_call_counts
        catches EndsAsWantedFirst, AnswersAfterTheEnd;
    clause_3_catches_a_topic_that_holds_up_others: no_topic_holds_up_another catches HoldsUpOthers;
    clause_4_catches_silence: down_is_not_silence
        catches GoesDownSilently, TakesWhileDown, ForgetsSubscriptions, SubscribesAgainSilently;
    clause_5_catches_a_second_try: unknown_is_not_down catches PublishesWhatItCalledDown, TriesAgain;
    clause_6_catches_a_loss_that_is_not_said: loss_is_said catches LosesSilently;
    clause_7_catches_a_bus_that_waits: nobody_waits catches WaitsForListeners;
    clause_8_catches_a_publication_that_is_dropped_and_comes_twice: dropping_is_safe catches PublishesTwiceAfterADrop;
    clause_9_catches_what_is_not_heard_as_it_was_appended: appending_publishes
        catches AppendsSilently, PublishesWithoutAPosition, AnswersAnotherPosition, KeepsWhatIsPublished;
    clause_10_catches_reads_with_holes: reads_have_no_holes catches ReadsWithAHole, ReadsBehind, TakesForeignPositions;
    clause_11_catches_logs_that_are_not_trimmed: logs_are_trimmed
        catches IgnoresTheNumber, IgnoresTheBytes, IgnoresTheAge, TellsNoAges;
    clause_12_catches_an_epoch_of_two_logs: another_log_is_another_epoch catches GoesOnInTheSameEpoch;
    clause_13_catches_keys_that_do_not_count_once: a_key_counts_once
        catches IgnoresKeys, PublishesRepetitions, HidesRepetitions, AnswersRepetitionsWithTheHead, HasKeysOfAllTopics,
        KeepsKeysForEver;
    clause_14_catches_what_is_not_heard_as_it_was_set: setting_publishes
        catches SetsSilently, SetsAsAMessage, LeavesOutTheChange;
    clause_15_and_16_catch_writers_that_overwrite_each_other_and_old_reads: one_writer_wins
        catches LetsEverybodyWin, KeepsTheFirst, TellsNobodyWhatThereIs;
    clause_17_catches_an_epoch_of_two_states: a_lost_state_is_another_epoch catches SetsInTheSameEpoch;
    an_outage_catches_what_is_missing_or_did_not_happen: an_outage_leaves_no_holes
        catches AppendsWhatItCalledDown, LosesAppends;
    the_close_must_be_the_end: closed_is_silent catches TalksAfterTheClose;
}
