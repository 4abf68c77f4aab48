//! Fuzz targets: one function for everything that reads bytes from elsewhere. None may panic, hang, or take memory beyond its
//! bound, whatever the bytes are; what else holds for each is asserted here.
//!
//! `cargo fuzz run frames` explores by coverage, and needs nightly. `cargo run -p rooms-fuzz --bin run -- --seconds 60` mutates
//! the corpus without coverage, and needs nothing.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a target fails by panicking")]

use std::{
    future::Future,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, Bus as _, Endpoint, HookError, Identity, JoinOptions, JwkSet, JwtAlgorithm,
    JwtAuthenticator, JwtKey, Kind, Limits, LocalBus, Member, Message, MessageKind, RoomKey, RoomManager,
    adapter::Handshake,
    bus::{BusEvent, BusReceiver, Topic},
    ws::{self, Incoming},
};
use serde_json::value::RawValue;

/// A target, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("frames", frames),
    ("deflated", deflated),
    ("commands", commands),
    ("binary_commands", binary_commands),
    ("bus_payloads", bus_payloads),
    ("node_messages", node_messages),
    ("room_keys", room_keys),
    ("tokens", tokens),
    ("handshakes", handshakes),
];

/// Runs a future with a clock that does not wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

type Rooms = RoomManager<mpsc::UnboundedSender<Message>>;

fn rooms(bus: LocalBus) -> Rooms {
    RoomManager::build_for()
        .bus(bus)
        .kind("post", Kind::authenticated().allow_publish().allow_binary())
        .kind("chat", Kind::authenticated().list_members().on_binary_message(echo))
        .build()
        .expect("rooms")
}

/// What a client sends, in pieces: the first byte says how long they are.
pub fn frames(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let limits = Limits::default();
    let total: usize = run(async {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut stream, sink) = ws::over(server, &[], &limits);
        let write = async move {
            for piece in data.chunks(usize::from(*piece).max(1)) {
                if tokio::io::AsyncWriteExt::write_all(&mut client, piece).await.is_err() {
                    return;
                }
            }
        };
        let read = async move {
            let mut total = 0;
            while let Some(Ok(incoming)) = stream.next().await {
                total += match incoming {
                    Incoming::Text(text) => text.len(),
                    Incoming::Binary(data) => data.len(),
                    Incoming::Ping(data) => data.len(),
                    _ => 0,
                };
            }
            // Where it stops reading, its end of the stream is gone, and the client is told.
            drop((stream, sink));
            total
        };
        futures::future::join(read, write).await.0
    });
    assert!(total <= data.len(), "{total} bytes of {}", data.len());
}

/// Lets everybody in, as a guest.
#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, _: &Attempt<'_>) -> Result<Identity, AuthError> {
        Ok(Identity::guest())
    }
}

/// The payload of a compressed message, from a client that agreed on that; the first byte says after how many bytes of it a
/// second fragment begins.
pub fn deflated(data: &[u8]) {
    let Some((first, payload)) = data.split_first() else { return };
    let (one, two) = payload.split_at(usize::from(*first).min(payload.len()));
    // Text with RSV1, and the rest of it.
    let frames = [frame(0x41, one), frame(0x80, two), frame(0x81, br#"{"type":"ping"}"#)].concat();
    run(async {
        let rooms: RoomManager = RoomManager::builder()
            .authenticator(Anybody)
            .endpoint(Endpoint::new().deflate())
            .kind("post", Kind::public())
            .limits(|limits| limits.max_message_bytes = 32 * 1024)
            .build()
            .expect("rooms");
        let offer = [("sec-websocket-extensions", "permessage-deflate")];
        let headers = UPGRADE.iter().chain(&offer);
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let uri = Uri::from_static("/");
        let admitted = rooms.admit(rooms.endpoint(), &Method::GET, &uri, &headers.collect(), None).await;
        let admission = admitted.expect("an admission");
        assert!(admission.response().headers().contains_key("sec-websocket-extensions"));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let halves = ws::over(server, &[], rooms.limits());
        admission.serve_room(RoomKey::new("post", 42).expect("a room"), async move { Ok::<_, std::io::Error>(halves) });
        tokio::io::AsyncWriteExt::write_all(&mut client, &frames).await.expect("space");
        let mut said = Vec::new();
        while !said.windows(6).any(|bytes| bytes == b"\"pong\"") && !said.contains(&0x88) {
            let read = tokio::io::AsyncReadExt::read_buf(&mut client, &mut said).await.expect("a stream");
            assert!(read > 0, "the end, and neither a pong nor a close frame");
        }
    });
}

/// A frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("the longest input is 16 KiB");
    let mut frame = vec![first];
    match length {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend(long.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// What a client says, a command a line; to a connection for many rooms, and to one for one room.
pub fn commands(data: &[u8]) {
    let lines: Vec<String> =
        data.split(|byte| *byte == b'\n').take(32).filter_map(|line| String::from_utf8(line.to_vec()).ok()).collect();
    run(async {
        let rooms = rooms(LocalBus::new());
        let said = || stream::iter(lines.clone()).map(|text| Ok(Incoming::Text(text)));
        let (sink, received) = mpsc::unbounded();
        let identity = || Identity::new("5").expect("a user");
        rooms.serve(said(), sink, identity()).await;
        let (single, also_received) = mpsc::unbounded();
        rooms.serve_room(said(), single, identity(), RoomKey::new("post", 42).expect("a room")).await;
        drop(rooms);
        // Each answer is JSON.
        for message in received.chain(also_received).collect::<Vec<_>>().await {
            if let Some(text) = message.as_text() {
                assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text}");
            }
        }
    });
}

/// Repeats what is said to the application.
async fn echo(member: Member, bytes: Bytes) -> Result<(), HookError> {
    member.send_binary(bytes);
    Ok(())
}

/// What a client says in binary messages, each behind a byte with its length, or a text message where that is 0: to a connection
/// for many rooms, to one for one room, and to one for one room that is told positions.
pub fn binary_commands(data: &[u8]) {
    let mut said = vec![Incoming::Text(r#"{"type":"join","room":"chat:1"}"#.into())];
    let (mut rest, mut longest) = (data, 0);
    while let Some((length, more)) = rest.split_first().filter(|_| said.len() < 32) {
        let (message, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        longest = longest.max(message.len());
        said.push(if message.is_empty() {
            Incoming::Text(r#"{"type":"join","room":"post:42"}"#.into())
        } else {
            Incoming::Binary(message.to_vec())
        });
    }
    run(async {
        let rooms = rooms(LocalBus::new());
        let stream = || stream::iter(said.clone()).map(Ok);
        let identity = || Identity::new("5").expect("a user");
        let room = || RoomKey::new("post", 42).expect("a room");
        let (sink, received) = mpsc::unbounded();
        rooms.serve(stream(), sink.clone(), identity()).await;
        rooms.serve_room(stream(), sink.clone(), identity(), room()).await;
        rooms.serve_room_with(stream(), sink, identity(), room(), JoinOptions::new().newest(1)).await;
        drop(rooms);
        for message in received.collect::<Vec<_>>().await {
            if let Some(text) = message.as_text() {
                assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text}");
            } else if message.kind() == MessageKind::Binary {
                // The head of `post:42` has ten bytes.
                assert!(message.payload().len() <= longest + 10, "{message:?}");
            }
        }
    });
}

/// Ears of nobody: a bus delivers to somebody.
struct Nobody;

impl BusReceiver for Nobody {
    fn event(&self, _: BusEvent) {}
}

/// Publishes to a node with a member in `post:42`, and one in `chat:1`.
fn publish(topic: impl Fn(&Rooms) -> Topic, data: &[u8]) {
    run(async {
        let bus = LocalBus::new();
        let other = bus.peer();
        other.attach(Arc::new(Nobody));
        let rooms = rooms(bus);
        let (sink, _received) = mpsc::unbounded();
        let mut member = rooms.connect(Identity::new("5").expect("a user"), sink).expect("a connection");
        for room in ["post:42", "chat:1"] {
            member.join(&room.parse().expect("a room")).await.expect("a join");
        }
        _ = other.publish(&topic(&rooms), Bytes::copy_from_slice(data)).await;
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rooms.local_viewers(&"post:42".parse().expect("a room")), 1);
    });
}

/// What another publisher publishes in a room: JSON, or an envelope with JSON or bytes inside.
pub fn bus_payloads(data: &[u8]) {
    publish(|_| Topic::Room("post:42".parse().expect("a room")), data);
}

/// What another node says; the first byte chooses to whom.
pub fn node_messages(data: &[u8]) {
    let Some((to, data)) = data.split_first() else { return };
    let topic = |rooms: &Rooms| match to % 4 {
        0 => Topic::Nodes,
        1 => Topic::Node(rooms.node()),
        2 => Topic::Control("post:42".parse().expect("a room")),
        _ => Topic::Control("chat:1".parse().expect("a room")),
    };
    publish(topic, data);
}

/// Names of rooms, as they are, from a URL, and encoded.
pub fn room_keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<RoomKey>() {
        assert_eq!(key.as_str(), text);
        if let Some(id) = key.decode_id() {
            assert_eq!(RoomKey::encode(key.kind(), id).expect("it was one"), key);
        }
    }
    let (kind, id) = text.split_once('/').unwrap_or(("post", text));
    if let Ok(key) = RoomKey::encode(kind, id) {
        assert_eq!(key.decode_id().as_deref(), Some(id));
    }
    if let Ok(key) = RoomKey::from_url(kind, id) {
        assert!(!key.as_str().contains('%'));
    }
}

const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

static CHECKS: LazyLock<[JwtAuthenticator; 2]> = LazyLock::new(|| {
    let secret = JwtAuthenticator::hs256("a secret of at least 32 bytes....").expect("a key");
    let public = JwtKey::pem(JwtAlgorithm::EdDSA, ED25519).expect("a key");
    [secret.user_claim("user"), JwtAuthenticator::new([public.id("1")])]
});

/// A token, a JWK set, and a key.
pub fn tokens(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        let [secret, public] = &*CHECKS;
        run(async {
            _ = secret.verify(token).await;
            assert!(public.verify(token).await.is_err(), "nobody has the private key");
        });
        _ = JwtKey::pem(JwtAlgorithm::ES256, token);
    }
    _ = JwkSet::parse(data);
    for algorithm in [JwtAlgorithm::RS256, JwtAlgorithm::ES384, JwtAlgorithm::EdDSA] {
        _ = JwtKey::der(algorithm, data);
    }
}

/// What every upgrade has.
const UPGRADE: [(&str, &str); 5] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("host", "rooms.example"),
];

/// The head of an upgrade: the target, and a header a line.
pub fn handshakes(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in UPGRADE {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for line in lines.take(32) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    let cookie = Endpoint::new().cookie_token("session").query_token("token").protocol_token("app.v1");
    let listed = cookie.deflate().origins(["https://app.example", "https://*.example.com"]).expect("origins");
    for endpoint in [Endpoint::new().query_token("t/k").first_message_token(), listed] {
        let Ok(handshake) = Handshake::read(&endpoint, &Method::GET, &uri, &headers) else { continue };
        let answer = handshake.response();
        let protocol = answer.headers().get("sec-websocket-protocol");
        assert!(protocol.is_none_or(|protocol| protocol == "app.v1"), "{protocol:?}");
        let extensions = answer.headers().get("sec-websocket-extensions");
        assert!(extensions.is_none(), "{extensions:?}: who reads a handshake by hand does not compress");
    }
}
