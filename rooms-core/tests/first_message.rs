//! The token that comes with the first message, over a byte stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::SinkExt as _;
use http::{HeaderMap, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, Close, Endpoint, Identity, Kind, Limits, Message, RoomManager,
    adapter::{Admission, Refusal},
    reports::IncidentKind,
    ws,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{Instant, sleep},
};

#[derive(Debug)]
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        match attempt.token() {
            Some("good") => Identity::new("5").map_err(|_| AuthError::Subject),
            Some("away") => Err(AuthError::Unavailable),
            Some(_) => Err(AuthError::Refused("bad")),
            None => Ok(Identity::guest()),
        }
    }
}

fn manager(limits: impl FnOnce(&mut Limits)) -> RoomManager {
    let post = Kind::public()
        .on_join(|member| async move { member.identity().claims::<Value>().map_err(|_| Close::INTERNAL.into()) });
    RoomManager::builder()
        .authenticator(Tokens)
        .endpoint(Endpoint::new().query_token("token").first_message_token())
        .kind("post", post)
        .limits(limits)
        .build()
        .unwrap()
}

async fn admit(rooms: &RoomManager, uri: &'static str) -> Result<Admission, Refusal> {
    let headers: HeaderMap = [
        (http::header::CONNECTION, "upgrade"),
        (http::header::UPGRADE, "websocket"),
        (http::header::SEC_WEBSOCKET_VERSION, "13"),
        (http::header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    .into_iter()
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .collect();
    rooms.admit(rooms.endpoint(), &Method::GET, &Uri::from_static(uri), &headers, None).await
}

/// The client's end.
struct Client(DuplexStream);

impl Client {
    fn of(admission: Admission) -> Self {
        let (ours, theirs) = duplex(64 * 1024);
        let limits = admission.limits().clone();
        let socket = std::future::ready(Ok::<_, std::io::Error>(ws::over(theirs, &[], &limits)));
        admission.serve_room("post:42".parse().unwrap(), socket);
        Self(ours)
    }

    async fn open(rooms: &RoomManager) -> Self {
        Self::of(admit(rooms, "/").await.unwrap())
    }

    /// Sends a frame with a mask of zeros.
    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.expect("a frame");
        let length = match head[1] {
            126 => usize::from(self.0.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        (head[0] & 15, payload)
    }

    async fn json(&mut self) -> Value {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 1, "{payload:?}");
        serde_json::from_slice(&payload).unwrap()
    }

    async fn code(&mut self) -> u16 {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, 8, "{:?}", String::from_utf8_lossy(&payload));
        u16::from_be_bytes([payload[0], payload[1]])
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_message_has_the_token_and_what_follows_is_heard() {
    let rooms = manager(|_| {});
    let mut client = Client::open(&rooms).await;
    client.send(9, b"ping").await;
    client.send(10, b"").await;
    client.send(1, br#"{"type":"auth","token":"good"}"#).await;
    client.send(1, br#"{"type":"ping"}"#).await;
    assert_eq!(client.json().await["type"], "room_joined");
    assert_eq!(client.json().await["type"], "pong");
    // A token elsewhere needs no message.
    let mut other = Client::of(admit(&rooms, "/?token=good").await.unwrap());
    assert_eq!(other.json().await["type"], "room_joined");
    let mut guest = Client::open(&rooms).await;
    guest.send(1, br#"{"type":"auth"}"#).await;
    assert_eq!(guest.json().await["type"], "room_joined");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_good_token_is_closed() {
    let rooms = manager(|_| {});
    let long = format!(r#"{{"type":"auth","token":"{}"}}"#, "x".repeat(60_000));
    for (opcode, first, code) in [
        (1, r#"{"type":"auth","token":"bad"}"#, 1008),
        (1, r#"{"type":"auth","token":"away"}"#, 1013),
        (1, r#"{"type":"auth","token":5}"#, 1008),
        (1, r#"{"type":"auth","token":"good","token":"good"}"#, 1008),
        (1, r#"{"type":"ping"}"#, 1008),
        (1, r#"{"type":"join","room":"post:42"}"#, 1008),
        (1, "good", 1008),
        (1, "", 1008),
        (1, &long, 1008),
        (2, r#"{"type":"auth","token":"good"}"#, 1008),
        (8, "", 1000),
        (3, "", 1002),
    ] {
        let mut client = Client::open(&rooms).await;
        client.send(opcode, first.as_bytes()).await;
        assert_eq!(client.code().await, code, "{first:.60}");
    }
    let mut pings = Client::open(&rooms).await;
    for _ in 0..17 {
        pings.send(9, b"").await;
    }
    assert_eq!(pings.code().await, 1008);
    assert_eq!(rooms.stats().connections, 0);
    // All but the one that said good-bye are noted for whoever operates the node.
    let incidents = &rooms.inspect().await.incidents;
    assert!(incidents.iter().all(|one| one.kind == IncidentKind::BadToken && one.user.is_none()), "{incidents:?}");
    let mut codes: Vec<_> = incidents.iter().filter_map(|one| one.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [&[1002][..], &[1008; 10], &[1013]].concat());
}

#[tokio::test(start_paused = true)]
async fn two_thousand_silent_sockets_leave_room_for_others_and_are_closed_after_ten_seconds() {
    let rooms = manager(|_| {});
    let mut neighbour = Client::of(admit(&rooms, "/?token=good").await.unwrap());
    assert_eq!(neighbour.json().await["type"], "room_joined");
    let (mut silent, mut refused) = (Vec::new(), 0);
    for _ in 0..2_000 {
        match admit(&rooms, "/").await {
            Ok(admission) => silent.push(Client::of(admission)),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::TooManyUnauthenticated);
                assert_eq!(refusal.response().status(), 503);
                assert!(refusal.response().headers().contains_key("retry-after"));
                refused += 1;
            }
        }
    }
    assert_eq!((silent.len(), refused), (1_000, 1_000));
    // Whoever sends a token with the request needs no place.
    drop(Client::of(admit(&rooms, "/?token=good").await.unwrap()));
    rooms.broadcast(&"post:42".parse().unwrap(), &json!({"n": 1})).await.unwrap();
    loop {
        let event = neighbour.json().await;
        if event == json!({"n": 1}) {
            break;
        }
    }
    let start = Instant::now();
    assert_eq!(silent[0].code().await, 4408);
    assert_eq!(start.elapsed().as_secs(), 10);
    sleep(Duration::from_secs(5)).await;
    drop(silent);
    let mut newcomer = Client::open(&rooms).await;
    newcomer.send(1, br#"{"type":"auth","token":"good"}"#).await;
    assert_eq!(newcomer.json().await["type"], "room_joined");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_however_a_socket_ends() {
    let rooms = manager(|limits| limits.max_unauthenticated = 1);
    for end in 0..4 {
        let admission = admit(&rooms, "/").await.expect("the place is free");
        assert!(matches!(admission.identity(), Ok(None)));
        assert_eq!(admit(&rooms, "/").await.unwrap_err(), Refusal::TooManyUnauthenticated, "{end}");
        match end {
            0 => drop(admission),
            1 => drop(Client::of(admission)),
            2 => {
                let mut client = Client::of(admission);
                client.send(1, b"garbage").await;
                client.code().await;
            }
            _ => {
                let mut client = Client::of(admission);
                client.send(1, br#"{"type":"auth","token":"good"}"#).await;
                client.json().await;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(admit(&rooms, "/").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_the_answer_to_the_upgrade_keeps_no_place_for_longer() {
    let rooms = manager(|limits| limits.max_unauthenticated = 1);
    let (_client, theirs) = duplex(16);
    let (stream, mut sink) = ws::over(theirs, &[], rooms.limits());
    sink.feed(Message::text("what stands for the answer, and does not fit")).await.unwrap();
    let admission = admit(&rooms, "/").await.unwrap();
    admission.serve_room("post:42".parse().unwrap(), std::future::ready(Ok::<_, std::io::Error>((stream, sink))));
    sleep(Duration::from_secs(9)).await;
    assert_eq!(admit(&rooms, "/").await.unwrap_err(), Refusal::TooManyUnauthenticated);
    sleep(Duration::from_secs(2)).await;
    assert!(admit(&rooms, "/").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn claims_are_added_and_the_end_is_told_once() {
    let rooms = manager(|_| {});
    let closes = Arc::new(Mutex::new(Vec::new()));
    let told = |who: &'static str| {
        let closes = Arc::clone(&closes);
        move |close: Close| closes.lock().unwrap().push((who, close.to_string()))
    };
    let admission = admit(&rooms, "/").await.unwrap().with_claims([("device", json!("phone"))]).on_close(told("first"));
    let mut client = Client::of(admission);
    client.send(1, br#"{"type":"auth","token":"good"}"#).await;
    assert_eq!(client.json().await["device"], "phone");
    client.send(8, &1000_u16.to_be_bytes()).await;
    assert_eq!(client.code().await, 1000);
    drop(client);
    sleep(Duration::from_secs(5)).await;
    let mut bad = Client::of(admit(&rooms, "/?token=bad").await.unwrap().on_close(told("bad")));
    assert_eq!(bad.code().await, 1008);
    drop(bad);
    sleep(Duration::from_secs(5)).await;
    drop(admit(&rooms, "/?token=good").await.unwrap().on_close(told("never served")));
    let failed = admit(&rooms, "/?token=good").await.unwrap().on_close(told("no upgrade"));
    failed.serve(std::future::ready(Err("the client went away")));
    sleep(Duration::from_secs(5)).await;
    let expected = [("first", "1000"), ("bad", "1008 Invalid token"), ("never served", "1001"), ("no upgrade", "1001")];
    assert_eq!(*closes.lock().unwrap(), expected.map(|(who, close)| (who, close.to_owned())));
}
