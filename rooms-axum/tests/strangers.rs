//! Whatever a stranger brings in the place of a token, the answer is the same for all, and a neighbour in the room loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support module serves other tests, too")]

#[path = "support/service.rs"]
mod service;

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Extension, Router,
    extract::Path,
    response::Response,
    routing::{MethodRouter, any},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rooms_axum::RoomUpgrade;
use rooms_core::{Endpoint, JwkSet, JwtAlgorithm, JwtAuthenticator, JwtKey, RoomKey, RoomManager};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use service::{Claims, Service, next_json, now, sign, token, token_with, with_header};

const RSA: &str = include_str!("../../rooms-core/tests/keys/rsa.pub.pem");
const ED25519: &str = include_str!("../../rooms-core/tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../../rooms-core/tests/keys/ed25519.pub.pem");
/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stranger is answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Refused(u16),
    /// Upgraded, and closed with this code.
    Closed(u16),
    Joined,
}

use Answer::{Closed, Joined, Refused};

fn routes() -> Router<RoomManager> {
    let of_browsers = Endpoint::new().query_token("token").cookie_token("session").protocol_token("app.v1");
    let of_browsers = of_browsers.origins(["https://app.example"]).unwrap();
    let of_services = Endpoint::new().query_token("token").authenticator(JwtAuthenticator::new([JwtKey::pem(
        JwtAlgorithm::RS256,
        RSA,
    )
    .unwrap()]));
    let mut routes = Router::new()
        .route("/posts/{id}/live", any(service::live))
        .route("/browsers/{id}", at(of_browsers))
        .route("/services/{id}", at(of_services));
    for (name, tokens) in providers() {
        routes =
            routes.route(&format!("/{name}/{{id}}"), at(Endpoint::new().query_token("token").authenticator(tokens)));
    }
    routes
}

fn at(endpoint: Endpoint) -> MethodRouter<RoomManager> {
    async fn live(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
        upgrade.room("post", id)
    }
    any(live).layer(Extension(endpoint))
}

/// Of the provider that answers when it is let to: that it is asked, and that it may.
static ASKED: Notify = Notify::const_new();
static LET: Notify = Notify::const_new();

/// Providers of keys by what is wrong with them.
fn providers() -> [(&'static str, JwtAuthenticator); 7] {
    fn gives(text: impl Fn() -> String + Send + Sync + 'static) -> JwtAuthenticator {
        JwtAuthenticator::fetched(move || {
            let text = text();
            async move { JwkSet::parse(text) }
        })
    }
    let x = URL_SAFE_NO_PAD.encode(der(ED25519_PUBLIC).split_off(12));
    let good = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
    let padded = format!("{}{}", good, " ".repeat(1_000_000));
    [
        ("good", gives(move || good.clone())),
        ("huge", gives(move || padded.clone())),
        ("empty", gives(|| r#"{"keys":[]}"#.to_owned())),
        ("secret", gives(|| r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#.to_owned())),
        ("down", JwtAuthenticator::fetched(|| async { Err(io::Error::other("no route to host")) })),
        ("slow", JwtAuthenticator::fetched(std::future::pending::<Result<JwkSet, io::Error>>)),
        (
            "held",
            JwtAuthenticator::fetched(|| async {
                ASKED.notify_one();
                LET.notified().await;
                Err(io::Error::other("too late"))
            }),
        ),
    ]
}

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// A token of the provider's.
fn provided(kid: &str) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    let claims = Claims::of("5").build();
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&der(ED25519))).unwrap()
}

/// Asks for a WebSocket over bare TCP, and reads until it is refused, closed, or in the room.
async fn attempt(address: SocketAddr, target: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    // The server may have said no before all of it is out.
    _ = stream.write_all(head.as_bytes()).await;
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let status = String::from_utf8_lossy(&read[9..12]).parse().unwrap();
            match (status, &read[end + 4..]) {
                (101, [0x88, _, high, low, ..]) => return Closed(u16::from_be_bytes([*high, *low])),
                (101, frame) if frame.windows(11).any(|text| text == b"room_joined") => return Joined,
                (101, _) => {}
                _ => return Refused(status),
            }
        }
        let length = timeout(PATIENCE, stream.read_buf(&mut read)).await.expect("an answer in time").unwrap_or(0);
        assert!(length > 0, "the end in place of an answer: {}", String::from_utf8_lossy(&read));
    }
}

/// A member that reads until the last of the numbered messages, and says which it was given.
async fn neighbour(service: &Service, last: u64) -> JoinHandle<Vec<u64>> {
    let mut socket = service.connect("/posts/42/live", &token("neighbour")).await;
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    tokio::spawn(async move {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            numbers.extend(next_json(&mut socket).await["number"].as_u64());
        }
        numbers
    })
}

/// Lets a stranger try each case, with a numbered message to the room before and after each.
async fn each_with_a_neighbour(cases: Vec<(&str, String, String, Answer)>) {
    let service = Service::with(|limits| limits.handshake_timeout = Duration::from_millis(500)).await;
    let last = cases.len() as u64;
    let neighbour = neighbour(&service, last).await;
    let room = RoomKey::new("post", 42).unwrap();
    for (number, (what, target, headers, expected)) in cases.into_iter().enumerate() {
        service.rooms.broadcast(&room, &json!({"number": number})).await.unwrap();
        assert_eq!(attempt(service.address, &target, &headers).await, expected, "{what}");
    }
    service.rooms.broadcast(&room, &json!({"number": last})).await.unwrap();
    let numbers = timeout(PATIENCE, neighbour).await.expect("all messages in time").unwrap();
    assert_eq!(numbers, (0..=last).collect::<Vec<_>>(), "the neighbour lost something");
    service.viewers("post:42", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_told_so_and_costs_a_neighbour_nothing() {
    let spoilt = |name: &str, value: Value| token_with(Claims::of("5").set(name, value));
    let claims = || Claims::of("5").build();
    let good = token("5");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let tokens = [
        ("nothing", String::new()),
        ("no token", "garbage".to_owned()),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("an empty signature", format!("{signed}.")),
        ("a cut signature", good[..good.len() - 2].to_owned()),
        ("a signature of another secret", sign(&claims(), b"another secret of at least 32 bytes!")),
        ("padding", format!("{good}=")),
        ("an algorithm that is none", with_header(r#"{"alg":"none"}"#, &claims())),
        ("none in other letters", with_header(r#"{"alg":"nOnE"}"#, &claims())),
        ("another algorithm of the family", with_header(r#"{"alg":"HS512"}"#, &claims())),
        ("an algorithm of a public key", with_header(r#"{"alg":"RS256"}"#, &claims())),
        ("no algorithm", with_header("{}", &claims())),
        ("an algorithm twice", with_header(r#"{"alg":"HS256","alg":"none"}"#, &claims())),
        ("a critical extension", with_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &claims())),
        ("a key of its own", with_header(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YQ"}}"#, &claims())),
        ("a header that is deep", with_header(&format!("{}1", "[".repeat(2_000)), &claims())),
        ("an end in the past", spoilt("exp", json!(now() - 60))),
        ("an end in milliseconds", spoilt("exp", json!(now() * 1_000))),
        ("an end that is text", spoilt("exp", json!((now() + 60).to_string()))),
        ("an end past all time", spoilt("exp", json!(u64::MAX))),
        ("no end", token_with(Claims::of("5").without("exp"))),
        ("a beginning in the future", spoilt("nbf", json!(now() + 600))),
        ("made in the future", spoilt("iat", json!(now() + 600))),
        ("no user", token_with(Claims::of("5").without("sub"))),
        ("a user with a line end", token_with(Claims::of("5\r\nX: y"))),
        ("a user that is a pattern", token_with(Claims::of("*"))),
        ("a user of 300 letters", token_with(Claims::of(&"x".repeat(300)))),
        ("nine thousand letters", "a".repeat(9_000)),
        ("bad escapes", format!("{good}%zz")),
        ("no UTF-8", format!("{good}%FF")),
    ];
    let mut cases: Vec<_> = tokens
        .into_iter()
        .map(|(what, token)| (what, format!("/posts/42/live?token={token}"), String::new(), Closed(1008)))
        .collect();
    // The text of a public key is no secret.
    let confused = sign(&claims(), RSA.as_bytes());
    let confused_as = |header| {
        let (_, rest) = confused.split_once('.').unwrap();
        format!("/services/42?token={}.{rest}", URL_SAFE_NO_PAD.encode(header))
    };
    cases.extend([
        ("the public key as a secret", format!("/services/42?token={confused}"), String::new(), Closed(1008)),
        ("and as itself", confused_as(r#"{"alg":"RS256"}"#), String::new(), Closed(1008)),
        ("the other service's token", format!("/services/42?token={good}"), String::new(), Closed(1008)),
        ("a good one", format!("/posts/42/live?token={good}"), String::new(), Joined),
    ]);
    each_with_a_neighbour(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_and_foreign_cookies_are_refused_and_cost_a_neighbour_nothing() {
    let good = token("5");
    let (app, evil) = ("Origin: https://app.example\r\n", "Origin: https://evil.example\r\n");
    let cookie = format!("Cookie: session={good}\r\n");
    let bearer = format!("Authorization: Bearer {good}\r\n");
    let protocol = format!("Sec-WebSocket-Protocol: app.v1, bearer, {good}\r\n");
    let in_query = format!("/browsers/42?token={good}");
    let plain = "/browsers/42".to_owned();
    each_with_a_neighbour(vec![
        ("query and header", in_query.clone(), format!("{app}{bearer}"), Refused(400)),
        ("query and cookie", in_query.clone(), format!("{app}{cookie}"), Refused(400)),
        ("header and protocol", plain.clone(), format!("{app}{bearer}{protocol}"), Refused(400)),
        ("twice in the query", format!("{in_query}&token={good}"), app.to_owned(), Refused(400)),
        ("two cookies", plain.clone(), format!("{app}{cookie}{cookie}"), Refused(400)),
        ("a cookie from elsewhere", plain.clone(), format!("{evil}{cookie}"), Refused(403)),
        ("a cookie from nowhere", plain.clone(), cookie.clone(), Refused(403)),
        ("a cookie from `null`", plain.clone(), format!("Origin: null\r\n{cookie}"), Refused(403)),
        ("a cookie from two places", plain.clone(), format!("{app}{evil}{cookie}"), Refused(403)),
        (
            "a cookie from a like name",
            plain.clone(),
            format!("Origin: https://app.example.evil\r\n{cookie}"),
            Refused(403),
        ),
        ("a bad cookie", plain.clone(), format!("{app}Cookie: session=garbage\r\n"), Closed(1008)),
        ("a good cookie", plain.clone(), format!("{app}{cookie}"), Joined),
        ("a good protocol", plain, format!("{app}{protocol}"), Joined),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_provider_of_keys_costs_a_neighbour_nothing() {
    // Chooses jsonwebtoken's cryptography for the process.
    _ = token("5");
    let (known, unknown) = (provided("a"), provided("b"));
    let case = |what, provider: &str, token: &str, answer| {
        (what, format!("/{provider}/42?token={token}"), String::new(), answer)
    };
    each_with_a_neighbour(vec![
        case("keys of a megabyte", "huge", &known, Closed(1013)),
        case("no keys", "empty", &known, Closed(1013)),
        case("a secret among them", "secret", &known, Closed(1013)),
        case("nobody there", "down", &known, Closed(1013)),
        case("no answer", "slow", &known, Closed(1013)),
        case("a key that it does not have", "good", &unknown, Closed(1008)),
        case("a key that it has", "good", &known, Joined),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_whose_provider_does_not_answer_keep_nobody_waiting() {
    let service = Service::with(|limits| limits.handshake_timeout = PATIENCE).await;
    let mut neighbour = service.joined("neighbour").await;
    let (address, target) = (service.address, format!("/held/42?token={}", provided("a")));
    let attempts = (0..50).map(|_| {
        let target = target.clone();
        tokio::spawn(async move { attempt(address, &target, "").await })
    });
    let strangers: Vec<_> = attempts.collect();
    timeout(PATIENCE, ASKED.notified()).await.expect("the provider is asked");
    let room = RoomKey::new("post", 42).unwrap();
    for number in 0..10 {
        service.rooms.broadcast(&room, &json!({"number": number})).await.unwrap();
        while next_json(&mut neighbour).await["number"] != number {}
    }
    drop(service.joined("newcomer").await);
    // All of that came before any of them had its answer.
    assert!(strangers.iter().all(|stranger| !stranger.is_finished()));
    LET.notify_one();
    for stranger in strangers {
        assert_eq!(stranger.await.unwrap(), Closed(1013));
    }
}
