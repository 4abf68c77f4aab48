//! Who is sent what compressed, and by what it was agreed on, over byte streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/deflated.rs"]
mod deflated;

use std::iter::repeat_n;

use http::{Method, Uri};
use rooms_core::{Endpoint, adapter::Opening};
use serde_json::{Value, json};

use deflated::{Client, Frame, OFFER, headers, manager, packed, post};

const NINE: &str = "permessage-deflate; server_max_window_bits=9";

/// JSON as services send it: some hundred bytes for each of so many comments.
fn comments(count: usize) -> Value {
    let comments = (0..count).map(|n| {
        json!({"id": 7_000 + n, "author": format!("user{}", n * 37 % 101), "text": format!("comment {n} of {count}"), "likes": n * n % 59})
    });
    json!({"type": "comments", "comments": comments.collect::<Vec<_>>()})
}

#[tokio::test(start_paused = true)]
async fn it_is_agreed_on_where_the_endpoint_and_the_client_want_it() {
    let rooms = manager(|_| {});
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offer, answer) in [
        (Some(OFFER), Some(both.to_owned())),
        (Some(NINE), Some(format!("{both}; server_max_window_bits=9"))),
        (Some("permessage-deflate; server_max_window_bits=15"), Some(format!("{both}; server_max_window_bits=15"))),
        (Some("permessage-deflate; server_max_window_bits=8"), None),
        (Some("permessage-deflate; unknown"), None),
        (Some("permessage-deflate; server_max_window_bits=\"\""), None),
        (None, None),
    ] {
        assert_eq!(Client::connect(&rooms, "/?token=5", offer, false).await.extensions, answer, "{offer:?}");
    }

    let (uri, headers) = (Uri::from_static("/"), headers(Some(OFFER)));
    let plain = rooms.admit(&Endpoint::new(), &Method::GET, &uri, &headers, None).await.unwrap();
    assert!(!plain.response().headers().contains_key("sec-websocket-extensions"), "off unless asked for");
    let opening = Opening::EventStream(&Method::GET);
    let events = rooms.admit(&Endpoint::new().deflate(), opening, &uri, &headers, None).await.unwrap();
    assert!(!events.response().headers().contains_key("sec-websocket-extensions"), "of an event stream");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_compressed_where_that_is_smaller_in_both_directions() {
    let rooms = manager(|limits| limits.min_deflate_bytes = 256);
    let mut one = Client::joined(&rooms, Some(OFFER)).await;
    let mut other = Client::joined(&rooms, Some(OFFER)).await;
    let mut plain = Client::joined(&rooms, None).await;
    let mut many = Client::connect(&rooms, "/?token=6", Some(OFFER), true).await;
    many.send(0x81, br#"{"type":"join","room":"post:42"}"#).await;
    assert_eq!(many.json().await["type"], "room_joined");

    let repeats: Vec<u8> = repeat_n([0xff, 0, 1], 1_000).flatten().collect();
    rooms.to(&post()).binary(repeats.clone()).await.unwrap();
    let frame = one.broadcast().await;
    assert_eq!((frame.first, frame.unpacked_bytes(15)), (0xC2, repeats.clone()), "final, RSV1, binary");
    assert!(10 * frame.payload.len() < repeats.len(), "{}", frame.payload.len());
    assert_eq!(other.broadcast().await, frame, "the same bytes");
    assert_eq!(plain.broadcast().await, Frame { first: 0x82, payload: repeats.clone() });
    let in_many = [b"\x01\x07post:42\0", &repeats[..]].concat();
    let frame = many.broadcast().await;
    assert_eq!((frame.first, frame.unpacked_bytes(15)), (0xC2, in_many.clone()));

    let noise: Vec<u8> = (0..1_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for no_smaller in [noise, vec![0; 255]] {
        rooms.to(&post()).binary(no_smaller.clone()).await.unwrap();
        for member in [&mut one, &mut other, &mut plain] {
            assert_eq!(member.broadcast().await, Frame { first: 0x82, payload: no_smaller.clone() });
        }
        assert_eq!(many.broadcast().await.first, 0x82);
    }

    many.send(0xC2, &packed(&in_many)).await;
    assert_eq!(plain.broadcast().await, Frame { first: 0x82, payload: repeats });
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_compressed_for_the_members_who_agreed_and_plain_for_the_others() {
    let rooms = manager(|limits| limits.min_deflate_bytes = 256);
    let mut one = Client::joined(&rooms, Some(OFFER)).await;
    let mut other = Client::joined(&rooms, Some(OFFER)).await;
    let mut plain = Client::joined(&rooms, None).await;
    let mut nine = Client::joined(&rooms, Some(NINE)).await;

    let long = comments(30);
    rooms.broadcast(&post(), &long).await.unwrap();
    let frame = one.broadcast().await;
    assert_eq!(frame.unpacked(15), long);
    assert!(3 * frame.payload.len() < long.to_string().len(), "{}", frame.payload.len());
    assert_eq!(other.broadcast().await, frame, "the same bytes");
    assert_eq!(plain.broadcast().await.plain(), long);
    assert_eq!(nine.broadcast().await.plain(), long, "it is longer than the window");

    let fits = comments(6);
    assert!((256..=512).contains(&fits.to_string().len()), "{}", fits.to_string().len());
    rooms.broadcast(&post(), &fits).await.unwrap();
    let frame = nine.broadcast().await;
    assert_eq!(frame.unpacked(9), fits);
    assert_eq!(one.broadcast().await, frame);
    assert_eq!(plain.broadcast().await.plain(), fits);

    let noise: String =
        (0..2_000_u32).map(|n| char::from(b' ' + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 94)).collect();
    for stays in [comments(1), json!(noise.replace(['"', '\\'], "~")), comments(2)] {
        let compressible = stays.to_string().len() > 256 && stays.is_object();
        rooms.broadcast(&post(), &stays).await.unwrap();
        let frame = one.broadcast().await;
        if frame.is_compressed() {
            assert!(frame.payload.len() < stays.to_string().len());
            assert_eq!(frame.unpacked(15), stays);
        } else {
            assert_eq!((frame.plain(), compressible), (stays, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_compressed_from_the_limit_on() {
    let length = comments(9).to_string().len();
    for (least, compressed) in [(length, true), (length + 1, false)] {
        let rooms = manager(|limits| limits.min_deflate_bytes = least);
        let mut member = Client::joined(&rooms, Some(OFFER)).await;
        rooms.broadcast(&post(), &comments(9)).await.unwrap();
        assert_eq!(member.broadcast().await.is_compressed(), compressed, "{length} bytes, from {least} on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_of_many_rooms_is_given_its_own_form_compressed() {
    let rooms = manager(|_| {});
    let mut many = Client::connect(&rooms, "/?token=5", Some(OFFER), true).await;
    many.send(0xC1, &packed(br#"{"type":"join","room":"post:42"}"#)).await;
    assert_eq!(many.json().await["type"], "room_joined");
    let mut single = Client::joined(&rooms, Some(OFFER)).await;
    let mut plain = Client::connect(&rooms, "/?token=6", None, true).await;
    plain.send(0x81, br#"{"type":"join","room":"post:42"}"#).await;
    assert_eq!(plain.json().await["type"], "room_joined");

    let said = comments(30);
    rooms.broadcast(&post(), &said).await.unwrap();
    assert_eq!(single.broadcast().await.unpacked(15), said);
    let wrapped = plain.broadcast().await.plain();
    assert_eq!(wrapped["room"], "post:42");
    assert_eq!(many.broadcast().await.unpacked(15), wrapped);
}

#[tokio::test(start_paused = true)]
async fn what_a_member_publishes_comes_and_goes_compressed_and_answers_are_plain() {
    let rooms = manager(|_| {});
    let mut one = Client::connect(&rooms, "/?token=5", Some(OFFER), true).await;
    one.send(0x81, br#"{"type":"join","room":"post:42"}"#).await;
    let mut two = Client::joined(&rooms, Some(OFFER)).await;
    let said = comments(20);
    let publish = json!({"type": "publish", "room": "post:42", "data": said}).to_string();
    one.send(0xC1, &packed(publish.as_bytes())).await;
    assert_eq!(two.broadcast().await.unpacked(15), said);
    // More than the limit of what is compressed, and an answer to one connection.
    let unknown = json!({"type": "x".repeat(2_000)}).to_string();
    two.send(0xC1, &packed(unknown.as_bytes())).await;
    assert_eq!(two.broadcast().await.plain()["code"], "unknown_type");
}

#[tokio::test(start_paused = true)]
async fn a_token_may_come_in_a_compressed_first_message() {
    let rooms = manager(|_| {});
    let mut client = Client::connect(&rooms, "/", Some(OFFER), false).await;
    client.send(0xC1, &packed(br#"{"type":"auth","token":"5"}"#)).await;
    assert_eq!(client.json().await["type"], "room_joined");
}
