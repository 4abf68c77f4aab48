//! RFC 6455, section 8.1: text that is not UTF-8 is refused where it breaks, wherever its fragments end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/frames.rs"]
mod frames;

use futures::StreamExt as _;
use proptest::prelude::*;
use rooms_core::{
    Limits,
    ws::{self, Incoming, WsError},
};
use tokio::io::AsyncWriteExt as _;

use frames::{
    BINARY, CONTINUATION, FIN, Heard, MASK, MASKED, PING, TEXT, accepts, frame, header, heard, refuses, refuses_within,
    text,
};

#[tokio::test(start_paused = true)]
async fn text_may_be_cut_anywhere_even_inside_a_character() {
    let whole = "aé€𝄞z";
    for cut in 0..=whole.len() {
        let (head, tail) = whole.as_bytes().split_at(cut);
        let bytes = [frame(TEXT, head), frame(FIN | PING, ""), frame(FIN | CONTINUATION, tail)].concat();
        accepts(bytes, &[Incoming::Ping("".into()), text(whole)]).await;
    }
}

/// Section 8.1: the connection fails for bad text; that is seen where the text breaks, and not when its message ends.
#[tokio::test(start_paused = true)]
async fn a_text_message_that_is_not_utf8_is_refused_at_the_fragment_where_it_breaks() {
    for bad in [
        &b"ok \xFF"[..],
        b"\x80",              // a continuation byte alone
        b"\xC0\xAF",          // overlong
        b"\xED\xA0\x80",      // a surrogate
        b"\xF4\x90\x80\x80",  // above U+10FFFF
        b"\xE2\x82a",         // two of three bytes, and then something else
        b"\xF0\x9D\x84\xC3",  // three of four
        b"\xE2\x82\xAC\xE2a", // a whole character, and then the first byte of one
    ] {
        refuses(frame(FIN | TEXT, bad), 1007, "not UTF-8").await;
        // Nothing that follows the bad fragment is heard, whichever of its bytes came in a fragment before.
        for cut in 0..bad.len() {
            let (head, tail) = bad.split_at(cut);
            refuses([frame(TEXT, head), frame(CONTINUATION, tail), frame(FIN | PING, "")].concat(), 1007, "not UTF-8")
                .await;
        }
        accepts(frame(FIN | BINARY, bad), &[Incoming::Binary(bad.to_vec())]).await;
        accepts([frame(BINARY, bad), frame(FIN | CONTINUATION, "")].concat(), &[Incoming::Binary(bad.to_vec())]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_bad_text_is_refused_before_it_is_whole() {
    let (mut client, server) = tokio::io::duplex(1024);
    let (mut stream, _sink) = ws::over(server, &[], &Limits::default());
    // A thousand bytes are announced, and ten come.
    client.write_all(&[&header(TEXT, MASKED, 1_000)[..], &MASK, &[0; 10]].concat()).await.unwrap();
    assert!(matches!(stream.next().await, Some(Err(WsError::InvalidText))));
}

#[tokio::test(start_paused = true)]
async fn a_character_that_is_cut_off_by_the_end_of_its_message_is_refused_there() {
    for bad in [&b"cut off: \xE2\x82"[..], b"cut off: \xF0\x9D\x84", b"\xC3"] {
        refuses(frame(FIN | TEXT, bad), 1007, "not UTF-8").await;
        let ping = Incoming::Ping("".into());
        let start = [frame(TEXT, bad), frame(FIN | PING, "")].concat();
        for end in [&b""[..], b"rest", b"\xC3"] {
            let bytes = [&start[..], &frame(FIN | CONTINUATION, end)].concat();
            refuses_within(&Limits::default(), bytes, std::slice::from_ref(&ping), 1007, "not UTF-8").await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the bytes are and wherever the fragments end: what is heard is what `std` says of the whole.
    #[test]
    fn text_in_fragments_is_what_it_is_whole(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
                1 => prop::collection::vec(any::<u8>(), 0..3),
                2 => "[ -~]{0,20}".prop_map(String::into_bytes),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(bytes.len());
        let fragments: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let last = fragments.len() - 1;
        let mut sent = Vec::new();
        for (n, fragment) in fragments.iter().enumerate() {
            let fin = if n == last { FIN } else { 0 };
            sent.extend(frame(fin | if n == 0 { TEXT } else { CONTINUATION }, fragment));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let heard = runtime.block_on(heard(&sent, &Limits::default()));
        match std::str::from_utf8(&bytes) {
            Ok(whole) => prop_assert_eq!(heard, Heard { messages: vec![text(whole)], fault: None }),
            Err(_) => prop_assert_eq!(heard.fault.map(|(code, _)| code), Some(1007)),
        }
    }
}
