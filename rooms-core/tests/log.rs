//! What an operator finds in the log, and that a flood of it does not fill a disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/log.rs"]
mod log;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jsonwebtoken::{EncodingKey, Header};
use rooms_core::{
    Bus, Endpoint, JwtAuthenticator, Kind, LocalBus, RoomManager,
    adapter::Refusal,
    bus::{BusError, BusReceiver, Topic},
};
use serde_json::{Value, json};
use tokio::time::advance;

use log::Log;
use rig::{Client, Rooms, idle, key};
use talk::Talk;

const SECRET: &str = "a secret of at least 32 bytes....";
/// The time after which a line is written again.
const WHILE: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_flood_of_bad_payloads_is_one_line_and_the_next_counts_it() {
    let log = Log::start();
    let bus = LocalBus::new();
    let rooms: Rooms = RoomManager::build_for().kind("post", Kind::authenticated()).bus(bus.peer()).build().unwrap();
    let _member = Client::join(&rooms, "a", "post:42").await;
    let flood = async || {
        for _ in 0..10_000 {
            bus.publish(&Topic::Room(key("post:42")), Bytes::from_static(b"secret")).await.unwrap();
        }
    };
    flood().await;
    let line = log.line();
    assert!(line.contains("WARN") && line.contains("a payload from the bus was dropped"), "{line}");
    assert!(line.contains("left_out=0") && line.contains("post:42") && !line.contains("secret"), "{line}");
    assert_eq!(rooms.stats().bad_payloads, 10_000);
    advance(WHILE).await;
    flood().await;
    assert!(log.line().contains("left_out=9999"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_messages_that_a_room_has_no_place_for_is_one_line() {
    let log = Log::start();
    let bus = LocalBus::new();
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 4)
        .bus(bus.peer())
        .build()
        .unwrap();
    let _member = Client::join(&rooms, "a", "post:42").await;
    idle().await;
    let mut lines = Vec::new();
    for _ in 0..2 {
        for _ in 0..1_000 {
            bus.publish(&Topic::Room(key("post:42")), Bytes::from_static(b"1")).await.unwrap();
        }
        lines.push(log.line());
        advance(WHILE).await;
        idle().await;
    }
    assert!(lines[0].contains("the room's log is full") && lines[0].contains("left_out=0"), "{lines:?}");
    // One for the line itself, and the few that the room's log had place for.
    let left_out = lines[1].split_once("left_out=").unwrap().1.trim().parse::<u64>().unwrap();
    assert!((900..1_000).contains(&left_out), "{lines:?}");
}

/// Publishes nothing.
#[derive(Debug)]
struct Away(LocalBus);

#[async_trait]
impl Bus for Away {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        match topic {
            Topic::Room(_) => Err(BusError::Unknown("no answer".into())),
            _ => self.0.publish(topic, payload).await,
        }
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.0.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.unsubscribe(topics);
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_publish_while_the_bus_is_away_do_not_fill_the_log() {
    let log = Log::start();
    let kind = Kind::authenticated().allow_publish();
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).bus(Away(LocalBus::new())).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    assert_eq!(talk.ask(r#"{"type":"join","room":"post:42"}"#).await["type"], "room_joined");
    for _ in 0..50 {
        assert_eq!(talk.ask(r#"{"type":"publish","room":"post:42","data":"secret"}"#).await["type"], "error");
    }
    let line = log.line();
    assert!(line.contains("what a member published did not go out") && !line.contains("secret"), "{line}");
    advance(WHILE).await;
    assert_eq!(talk.ask(r#"{"type":"publish","room":"post:42","data":"secret"}"#).await["type"], "error");
    assert!(log.line().contains("left_out=49"));
}

/// The headers of an upgrade, with the page's origin and the host that the request was sent to.
fn headers(origin: &str, host: &str) -> HeaderMap {
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", origin),
        ("host", host),
    ];
    let parsed = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    parsed.into_iter().collect()
}

async fn refused(rooms: &RoomManager, endpoint: &Endpoint, origin: &str, host: &str) {
    let uri = Uri::from_static("/live?token=secret");
    let refused = rooms.admit(endpoint, &Method::GET, &uri, &headers(origin, host), None).await;
    assert_eq!(refused.unwrap_err(), Refusal::Origin);
}

#[tokio::test(start_paused = true)]
async fn behind_a_proxy_that_does_not_pass_host_one_warning_names_both_hosts() {
    let log = Log::start();
    let rooms: RoomManager = RoomManager::builder().build().unwrap();
    let endpoint = Endpoint::new().query_token("token");
    for _ in 0..1_000 {
        refused(&rooms, &endpoint, "https://app.example", "10.0.0.7:3000").await;
    }
    let line = log.line();
    assert!(line.contains("WARN") && line.contains("left_out=0"), "{line}");
    assert!(line.contains("https://app.example") && line.contains("10.0.0.7:3000"), "{line}");
    assert!(line.contains("let the proxy pass `Host` on") && line.contains("Endpoint::origins"), "{line}");
    assert!(!line.contains("secret"), "{line}");
    advance(WHILE).await;
    refused(&rooms, &endpoint, "https://app.example", "10.0.0.7:3000").await;
    assert!(log.line().contains("left_out=999"));
    advance(WHILE).await;
    refused(&rooms, &endpoint.origins(["https://app.example"]).unwrap(), "https://evil.example", "app.example").await;
    assert!(log.line().contains("https://evil.example"), "an origin that is not in the list is told, too");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_host_is_not_repeated_in_the_log() {
    let log = Log::start();
    let rooms: RoomManager = RoomManager::builder().build().unwrap();
    for hostile in ["evil\tline", "<evil>", "evil evil", "evil:evil@app.example", &"evil".repeat(1_000)] {
        refused(&rooms, &Endpoint::new(), &format!("https://{hostile}"), &format!("{hostile}.x")).await;
        let line = log.line();
        assert!(!line.contains("evil") && line.len() < 400, "{line}");
        advance(WHILE).await;
    }
}

fn token(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_writes_milliseconds_is_told_of_in_the_log() {
    let tokens = JwtAuthenticator::hs256(SECRET).unwrap().issuer("us").audience("rooms");
    let rooms: RoomManager = RoomManager::builder().authenticator(tokens).build().unwrap();
    let log = Log::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let milliseconds = token(&json!({"sub": "5", "exp": u64::try_from(now).unwrap()}));
    for _ in 0..100 {
        rooms.authenticate(Some(&milliseconds)).await.unwrap_err();
        rooms.authenticate(Some("garbage")).await.unwrap_err();
    }
    let line = log.line();
    assert!(line.contains("`exp` is more than 100 years ahead") && !line.contains(&milliseconds), "{line}");
}

#[tokio::test]
async fn claims_that_are_not_checked_are_told_of_once_and_at_the_first_token() {
    let log = Log::start();
    let both = JwtAuthenticator::hs256(SECRET).unwrap();
    let again = both.clone();
    assert_eq!(log.lines(), [""; 0], "not before it is used");
    for authenticator in [&both, &again, &both] {
        authenticator.verify("garbage").await.unwrap_err();
    }
    let line = log.line();
    assert!(line.contains("WARN") && line.contains(r#"iss="not checked" aud="not checked""#), "{line}");
    let one = JwtAuthenticator::hs256(SECRET).unwrap().audience("rooms");
    one.verify("garbage").await.unwrap_err();
    assert!(log.line().contains(r#"iss="not checked" aud="checked""#));
    one.clone().issuer("us").verify("garbage").await.unwrap_err();
    JwtAuthenticator::hs256(SECRET).unwrap().issuer("us").audience("rooms").verify("garbage").await.unwrap_err();
    assert_eq!(log.lines(), [""; 0]);
}
