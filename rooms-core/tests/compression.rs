//! Who is sent what compressed, and what comes compressed from clients, over byte streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{io, iter::repeat_n};

use async_trait::async_trait;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, Limits, RoomKey, RoomManager,
    adapter::{Handshake, Opening},
    ws,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const NINE: &str = "permessage-deflate; server_max_window_bits=9";

#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        attempt
            .token()
            .map_or_else(|| Ok(Identity::guest()), |user| Identity::new(user).map_err(|_| AuthError::Subject))
    }
}

fn manager(limits: impl FnOnce(&mut Limits)) -> RoomManager {
    RoomManager::builder()
        .authenticator(Anybody)
        .endpoint(Endpoint::new().query_token("token").first_message_token().deflate())
        .kind("post", Kind::public().allow_publish().allow_binary())
        .limits(limits)
        .build()
        .unwrap()
}

fn post() -> RoomKey {
    RoomKey::new("post", 42).unwrap()
}

/// JSON as services send it: some hundred bytes for each of so many comments.
fn comments(count: usize) -> Value {
    let comments = (0..count).map(|n| {
        json!({"id": 7_000 + n, "author": format!("user{}", n * 37 % 101), "text": format!("comment {n} of {count}"), "likes": n * n % 59})
    });
    json!({"type": "comments", "comments": comments.collect::<Vec<_>>()})
}

/// A client that unpacks nothing.
struct Client {
    io: DuplexStream,
    extensions: Option<String>,
}

/// A frame of the server.
#[derive(Debug, PartialEq)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
}

fn headers(offer: Option<&'static str>) -> HeaderMap {
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let offer = offer.map(|offer| ("sec-websocket-extensions", offer));
    let all = upgrade.into_iter().chain(offer);
    all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

impl Client {
    async fn connect(rooms: &RoomManager, uri: &'static str, offer: Option<&'static str>, in_many: bool) -> Self {
        let headers = headers(offer);
        let admission =
            rooms.admit(rooms.endpoint(), &Method::GET, &Uri::from_static(uri), &headers, None).await.unwrap();
        let answered = admission.response().headers().get("sec-websocket-extensions").cloned();
        let (io, server) = duplex(4 * 1024 * 1024);
        let limits = rooms.limits().clone();
        let socket = async move { Ok::<_, io::Error>(ws::over(server, &[], &limits)) };
        if in_many {
            admission.serve(socket);
        } else {
            admission.serve_room(post(), socket);
        }
        Self { io, extensions: answered.map(|value| value.to_str().unwrap().to_owned()) }
    }

    /// A member of `post:42` that has heard of that.
    async fn joined(rooms: &RoomManager, offer: Option<&'static str>) -> Self {
        let mut client = Self::connect(rooms, "/?token=5", offer, false).await;
        assert_eq!(client.json().await["type"], "room_joined");
        client
    }

    async fn frame(&mut self) -> Frame {
        let mut header = [0; 2];
        self.io.read_exact(&mut header).await.unwrap();
        let length = match header[1] {
            126 => usize::from(self.io.read_u16().await.unwrap()),
            127 => usize::try_from(self.io.read_u64().await.unwrap()).unwrap(),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.unwrap();
        Frame { first: header[0], payload }
    }

    /// The next frame that is no event of the server's own.
    async fn broadcast(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if !frame.payload.starts_with(b"{\"type\":\"viewer") {
                return frame;
            }
        }
    }

    async fn json(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame.first, 0x81, "plain text");
        serde_json::from_slice(&frame.payload).unwrap()
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            middle @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.io.write_all(&frame).await.unwrap();
    }

    /// The code of the close frame, after whatever comes before it.
    async fn close(&mut self) -> u16 {
        loop {
            let frame = self.frame().await;
            if frame.first == 0x88 {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }
}

impl Frame {
    fn is_compressed(&self) -> bool {
        self.first == 0xC1
    }

    /// The payload, unpacked by zlib with a window of so many bits.
    fn unpacked(&self, window_bits: u8) -> Value {
        assert!(self.is_compressed(), "{:#x}", self.first);
        serde_json::from_slice(&self.unpacked_bytes(window_bits)).unwrap()
    }

    fn unpacked_bytes(&self, window_bits: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        let input = [&*self.payload, &[0, 0, 0xFF, 0xFF]].concat();
        let mut zlib = Decompress::new_with_window_bits(false, window_bits);
        zlib.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
        out
    }

    fn plain(&self) -> Value {
        assert_eq!(self.first, 0x81);
        serde_json::from_slice(&self.payload).unwrap()
    }
}

fn packed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() / 2 + 1024);
    let mut zlib = Compress::new(Compression::best(), false);
    zlib.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(zlib.total_in(), payload.len() as u64);
    out.truncate(out.len() - 4);
    out
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

/// In stored blocks of so many bytes (RFC 1951 section 3.2.4), and without the last flush's end.
fn stored(payload: &[u8], of: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for block in payload.chunks(of) {
        let length = block.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.push(0);
    out
}

#[tokio::test(start_paused = true)]
async fn a_message_of_the_limit_that_gets_longer_when_it_is_compressed_is_read_and_one_byte_more_is_not() {
    let rooms = manager(|_| {});
    let most = 64 * 1024;
    let publish = |length: usize| {
        let frame = b"\x01\x07post:42\0";
        let noise = (0..).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
        frame.iter().copied().chain(noise).take(length).collect::<Vec<u8>>()
    };
    // Of 127 bytes: zlib's with the least memory.
    for of in [u16::MAX.into(), 16 * 1024 - 1, 127] {
        let mut plain = Client::joined(&rooms, None).await;
        let mut many = Client::connect(&rooms, "/?token=6", Some(OFFER), true).await;
        many.send(0x81, br#"{"type":"join","room":"post:42"}"#).await;
        assert_eq!(many.json().await["type"], "room_joined");
        let longest = publish(most);
        let came = stored(&longest, of);
        assert!(came.len() > most);
        many.send(0xC2, &came).await;
        assert_eq!(plain.broadcast().await, Frame { first: 0x82, payload: longest[10..].to_vec() }, "{of}");
        many.send(0xC2, &stored(&publish(most + 1), of)).await;
        assert_eq!(many.close().await, 1009, "{of}");
    }
    let on_the_wire = most + most / 16 + 64;
    for (empty, code) in [(on_the_wire, 1002), (on_the_wire + 1, 1009)] {
        let mut client = Client::joined(&rooms, Some(OFFER)).await;
        client.send(0xC1, &vec![0xFF; empty]).await;
        assert_eq!(client.close().await, code, "{empty} bytes of nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_window_of_512_bytes_is_sent_almost_nothing_compressed_unless_the_limit_is_lowered() {
    let sizes = |member: Frame| (member.is_compressed(), member.payload.len());
    for (least, compressed) in [(512, false), (128, true)] {
        let rooms = manager(|limits| limits.min_deflate_bytes = least);
        let mut nine = Client::joined(&rooms, Some(NINE)).await;
        for length in [400, 511, 512, 513, 2_000] {
            rooms.broadcast(&post(), &json!("a".repeat(length - 2))).await.unwrap();
            let expected = length == 512 || (compressed && length < 512);
            let (is_compressed, came) = sizes(nine.broadcast().await);
            assert_eq!((is_compressed, came < length), (expected, expected), "{length} bytes, from {least} on");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_read_by_hand_agrees_on_nothing_that_the_session_does_not_do() {
    let endpoint = Endpoint::new().deflate();
    let handshake = Handshake::read(&endpoint, &Method::GET, &Uri::from_static("/"), &headers(Some(OFFER))).unwrap();
    assert!(!handshake.response().headers().contains_key("sec-websocket-extensions"));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_to_be_compressed_is_plain_beside_one_that_is() {
    let rooms = RoomManager::builder()
        .authenticator(Anybody)
        .endpoint(Endpoint::new().query_token("token").deflate())
        .kind("post", Kind::public())
        .kind("invoice", Kind::public().allow_publish().uncompressed())
        .build()
        .unwrap();
    let mut many = Client::connect(&rooms, "/?token=5", Some(OFFER), true).await;
    for room in ["post:42", "invoice:1"] {
        many.send(0x81, json!({"type": "join", "room": room}).to_string().as_bytes()).await;
        assert_eq!(many.json().await["room"], room);
    }
    let said = comments(30);
    rooms.broadcast(&RoomKey::new("invoice", 1).unwrap(), &said).await.unwrap();
    assert_eq!(many.broadcast().await.plain()["data"], said);
    rooms.broadcast(&post(), &said).await.unwrap();
    assert_eq!(many.broadcast().await.unpacked(15)["data"], said);
    let mut other = Client::connect(&rooms, "/?token=6", Some(OFFER), true).await;
    other.send(0x81, br#"{"type":"join","room":"invoice:1"}"#).await;
    assert_eq!(other.json().await["type"], "room_joined");
    let publish = json!({"type": "publish", "room": "invoice:1", "data": said}).to_string();
    many.send(0xC1, &packed(publish.as_bytes())).await;
    assert_eq!(other.broadcast().await.plain()["data"], said, "what a member sends may come compressed");
}
