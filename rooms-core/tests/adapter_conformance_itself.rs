//! The suite for adapters catches adapters that break one clause each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/adapter.rs"]
mod adapter;

use std::time::Duration;

use rooms_core::{
    adapter_conformance,
    testing::adapter_conformance::{self as suite, Suite},
};

use adapter::{Fault::*, serve};

adapter_conformance!(|stage| serve(stage, Nothing));

/// Runs a clause against each of these faults, and expects that it fails.
macro_rules! caught {
    ($($name:ident: $clause:ident catches $($fault:expr),+;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for fault in [$($fault),+] {
                    // Some faults show in that nothing comes; a right adapter is given far more time above.
                    let suite = Suite::new(move |stage| serve(stage, fault)).patience(Duration::from_secs(2));
                    let proof = tokio::spawn(async move { suite::$clause(&suite).await });
                    assert!(proof.await.is_err_and(|error| error.is_panic()), "{fault:?} got through");
                }
            }
        )*
    };
}

caught! {
    a_refusal_without_a_reason_is_caught: refusals catches SaysNothingButNo;
    a_foreign_page_let_in_is_caught: origins catches IgnoresOrigins;
    a_bad_token_that_a_page_can_not_see_is_caught: bad_tokens catches TellsBadTokensOverHttp;
    a_header_overlooked_is_caught: token_places catches OverlooksHeaders;
    a_way_in_that_is_not_as_the_endpoint_says_is_caught:
        ways_in catches AnswersNoProtocol, KnowsOneEndpoint, LosesThePeer, AddsNoClaims;
    a_way_in_that_is_open_is_caught: closed_ways_in catches IgnoresOrigins, KnowsOneEndpoint;
    an_end_that_is_not_told_is_caught: ends catches TellsNoEnd;
    an_escaped_room_is_caught: escapes catches KeepsEscapes;
    a_wrong_room_is_caught: one_room catches JoinsAnotherRoom;
    a_query_that_is_lost_is_caught: resumption catches LosesTheQuery;
    one_room_for_many_is_caught: many_rooms catches ServesOneRoomOnly;
    what_is_lost_or_spoilt_is_caught: fidelity catches LosesWhatCameEarly, SpoilsLongFrames;
    bytes_that_are_spoilt_or_go_elsewhere_are_caught:
        binary catches SpoilsLongFrames, LosesTheQuery, JoinsAnotherRoom;
    a_close_frame_that_does_not_arrive_is_caught: closes_arrive catches SwallowsCloses;
    a_socket_that_is_never_full_is_caught: slow_is_alone catches TakesEverything;
    a_stream_that_ends_inside_a_frame_is_caught: slow_readers_are_told_why catches TakesEverything;
    an_end_before_the_answer_is_caught: the_answer_to_a_close_is_waited_for catches EndsWithTheClose, NeverEnds;
    an_end_overlooked_is_caught: a_vanished_client_is_counted_out catches OverlooksTheEnd;
    a_ping_that_does_not_arrive_is_caught: silence_is_noticed catches SwallowsPings;
    a_drain_that_says_something_else_is_caught: a_drain_ends_well catches GoesOnWhileDraining;
    a_wrong_room_as_events_is_caught: a_room_as_events catches JoinsAnotherRoom;
    an_event_stream_for_a_foreign_page_is_caught: refused_events catches IgnoresOrigins, SaysNothingButNo;
    a_last_id_that_is_lost_is_caught: resumed_events catches LosesTheLastId;
    an_event_stream_that_is_never_full_is_caught: the_end_of_events catches TakesEverything;
}
