//! What comes compressed from clients, broken and hostile messages included, over byte streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/deflated.rs"]
mod deflated;

use std::iter::repeat_n;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;

use deflated::{Client, Frame, OFFER, manager, packed};

#[tokio::test(start_paused = true)]
async fn a_compressed_message_costs_what_it_is_when_unpacked_and_twice_what_it_has_at_least() {
    let rooms = manager(|_| {});
    let mut client = Client::connect(&rooms, "/?token=5", Some(OFFER), true).await;
    // Of 64 KiB: sixteen are all that may come at once by their bytes, and 200 by their number.
    let unknown = json!({"type": "x".repeat(64 * 1024 - 11)}).to_string();
    let small = packed(unknown.as_bytes());
    assert_eq!((unknown.len(), small.len() < 125), (64 * 1024, true), "{}", small.len());
    for _ in 0..17 {
        client.send(0xC1, &small).await;
    }
    let mut before = 0;
    while client.json().await["code"] != "rate_limited" {
        before += 1;
    }
    assert_eq!(before, 16);

    // Of 32 KiB, nearly all of which unpacks to nothing.
    let mut client = Client::connect(&rooms, "/?token=5", Some(OFFER), true).await;
    let short = packed(br#"{"type":"x"}"#);
    let empty = b"\x00\x00\x00\xff\xff".repeat((32 * 1024 - short.len()) / 5);
    for _ in 0..17 {
        client.send(0xC1, &[&*empty, &short].concat()).await;
    }
    let mut before = 0;
    while client.json().await["code"] != "rate_limited" {
        before += 1;
    }
    assert_eq!(before, 16, "each byte counts twice");
}

#[tokio::test(start_paused = true)]
async fn a_reserved_bit_where_it_may_not_be_is_closed_with_1002() {
    let rooms = manager(|_| {});
    let ping = packed(br#"{"type":"ping"}"#);
    for (offer, frames, what) in [
        (None, &[(0xC1, &*ping)][..], "nothing was agreed on"),
        (Some("permessage-deflate; unknown"), &[(0xC1, &ping)], "the offer was declined"),
        (Some(OFFER), &[(0xC9, b"")], "a ping"),
        (Some(OFFER), &[(0xCA, b"")], "a pong"),
        (Some(OFFER), &[(0xC8, b"\x03\xe8")], "a close"),
        (Some(OFFER), &[(0x41, &ping[..3]), (0xC0, &ping[3..])], "a continuation"),
        (Some(OFFER), &[(0xE1, &ping)], "another bit beside it"),
    ] {
        let mut client = Client::joined(&rooms, offer).await;
        for (first, payload) in frames {
            client.send(*first, payload).await;
        }
        assert_eq!(client.close().await, 1002, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_compressed_message_is_closed_and_what_is_an_odd_one_is_read() {
    let rooms = manager(|_| {});
    let ping = packed(br#"{"type":"ping"}"#);
    let padded = [&*ping, b"\xff\xff"].concat();
    let not_text = packed(b"\xff\xfe");
    for (payload, code, what) in [
        (&ping[..ping.len() - 2], 1002, "cut"),
        (&*padded, 1002, "padded"),
        (b"\x06", 1002, "a kind of block that there is not"),
        (&not_text, 1007, "not UTF-8"),
    ] {
        let mut client = Client::joined(&rooms, Some(OFFER)).await;
        client.send(0xC1, payload).await;
        assert_eq!(client.close().await, code, "{what}");
    }

    let mut client = Client::joined(&rooms, Some(OFFER)).await;
    // A block that says that it is the last, and the byte of zero behind it (RFC 7692 section 7.2.3.4).
    let mut last = Vec::with_capacity(100);
    Compress::new(Compression::best(), false)
        .compress_vec(br#"{"type":"ping"}"#, &mut last, FlushCompress::Finish)
        .unwrap();
    last.push(0);
    let several = [&packed(br#"{"type":"#), &[0, 0, 0xFF, 0xFF][..], &packed(br#""ping"}"#)].concat();
    let emptied: Vec<u8> = repeat_n([0, 0, 0, 0xFF, 0xFF], 100).flatten().chain(ping.iter().copied()).collect();
    for odd in [&last, &several, &emptied] {
        client.send(0xC1, odd).await;
        assert_eq!(client.json().await, json!({"type": "pong"}));
    }
    for piece in [(0x41, &ping[..4]), (0x00, &ping[4..9]), (0x89, b"between"), (0x80, &ping[9..])] {
        client.send(piece.0, piece.1).await;
    }
    assert_eq!(client.frame().await, Frame { first: 0x8A, payload: b"between".to_vec() });
    assert_eq!(client.json().await, json!({"type": "pong"}), "in fragments");
    client.send(0x81, br#"{"type":"ping"}"#).await;
    assert_eq!(client.json().await, json!({"type": "pong"}), "plain is right, too");
    for empty in [&b""[..], &[0]] {
        client.send(0xC1, empty).await;
        assert_eq!(client.json().await["code"], "bad_message", "nothing, compressed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bomb_of_a_gigabyte_is_closed_with_1009() {
    // A thousand times what it is: each block of a million zeros follows a full flush, so all are the same bytes.
    let zeros = vec![0; 1 << 20];
    let mut zlib = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(16 * 1024);
    zlib.compress_vec(&zeros, &mut block, FlushCompress::Full).unwrap();
    let mut bomb: Vec<u8> = repeat_n(block, 1 << 10).flatten().collect();
    bomb.truncate(bomb.len() - 4);
    assert!((900_000..1_300_000).contains(&bomb.len()), "{} bytes", bomb.len());

    let rooms = manager(|limits| limits.max_message_bytes = 2 << 20);
    let mut client = Client::joined(&rooms, Some(OFFER)).await;
    client.send(0xC1, &bomb).await;
    assert_eq!(client.close().await, 1009);
    let mut client = Client::joined(&manager(|_| {}), Some(OFFER)).await;
    client.send(0xC1, &bomb[..60_000]).await;
    assert_eq!(client.close().await, 1009, "within the bound of what comes, and not of what it holds");
}
