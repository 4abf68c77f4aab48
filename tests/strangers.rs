//! Whatever a stranger brings in the place of a token, the answer is the same for all behind both adapters, and a neighbour in
//! the room loses nothing and waits for nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/neighbour.rs"]
mod neighbour;
#[path = "support/served.rs"]
mod served;
#[path = "support/stranger.rs"]
mod stranger;
#[path = "support/tokens.rs"]
mod tokens;

use std::{
    future::{pending, ready},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use futures::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rooms::{Endpoint, JwkSet, JwtAlgorithm, JwtAuthenticator, JwtKey, jwks};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};

use neighbour::Neighbour;
use served::{Adapter, BOTH, PATIENCE, Served};
use stranger::{
    Answer::{self, Closed, Joined, Refused},
    Stranger, request,
};
use tokens::{Claims, now, sign, token, token_with, with_header};

const RSA: &str = include_str!("../rooms-core/tests/keys/rsa.pub.pem");
const ED25519: &str = include_str!("../rooms-core/tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../rooms-core/tests/keys/ed25519.pub.pem");

/// What a stranger brings: what it is, the target, headers, and what is answered.
type Case<'a> = (&'a str, String, String, Answer);

/// An endpoint for pages, and one whose tokens are another issuer's.
fn endpoints() -> Vec<(&'static str, Endpoint)> {
    let browsers = Endpoint::new().query_token("token").cookie_token("session").protocol_token("app.v1");
    let services = JwtAuthenticator::new([JwtKey::pem(JwtAlgorithm::RS256, RSA).unwrap()]);
    vec![("browsers", browsers.origins(["https://app.example"]).unwrap()), ("services", with_tokens(services))]
}

fn with_tokens(tokens: JwtAuthenticator) -> Endpoint {
    Endpoint::new().query_token("token").authenticator(tokens)
}

/// Longer than the test waits for an answer: none comes because the time for it is over.
const NEVER: Duration = PATIENCE.saturating_mul(2);

/// Lets a stranger try each case step by step, with a message to the neighbour after each step.
async fn each_beside_a_neighbour(
    adapter: Adapter,
    handshake_timeout: Duration,
    endpoints: Vec<(&'static str, Endpoint)>,
    cases: &[Case<'_>],
) {
    let limits = move |limits: &mut rooms::Limits| limits.handshake_timeout = handshake_timeout;
    let service = Served::start(adapter, endpoints, move |builder| builder.limits(limits)).await;
    let mut neighbour = Neighbour::join(&service).await;
    for (what, target, headers, expected) in cases {
        let what = &format!("{adapter:?}, {what}");
        let request = request(target, headers);
        let (begin, rest) = request.split_at(request.len() / 2);
        let mut stranger = Stranger::connect(service.address, 2).await;
        for words in ["", begin, rest] {
            stranger.says(words.as_bytes()).await;
            neighbour.is_told(what).await;
        }
        assert_eq!(stranger.answer().await, *expected, "{what}");
        // And while it holds on.
        neighbour.is_told(what).await;
    }
    neighbour.leaves(&format!("{adapter:?}, {} cases", cases.len()));
    service.connections(0).await;
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
        .map(|(what, token)| (what, format!("/posts/42?token={token}"), String::new(), Closed(1008)))
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
        ("a good one", format!("/posts/42?token={good}"), String::new(), Joined),
    ]);
    for adapter in BOTH {
        each_beside_a_neighbour(adapter, NEVER, endpoints(), &cases).await;
    }
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
    let cases = [
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
    ];
    for adapter in BOTH {
        each_beside_a_neighbour(adapter, NEVER, endpoints(), &cases).await;
    }
}

fn gives(text: impl Fn() -> String + Send + Sync + 'static) -> JwtAuthenticator {
    JwtAuthenticator::fetched(move || ready(JwkSet::parse(text())))
}

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// A set of one key under this id.
fn set(kid: &str) -> String {
    let x = URL_SAFE_NO_PAD.encode(der(ED25519_PUBLIC).split_off(12));
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#)
}

/// A token of the provider's.
fn provided(kid: &str) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, &Claims::of("5").build(), &EncodingKey::from_ed_der(&der(ED25519))).unwrap()
}

/// Answers every HTTP request alike; returns where, and how many there were.
async fn provider(answer: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            _ = stream.read(&mut [0; 4096]).await;
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, requests)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_provider_of_keys_costs_a_neighbour_nothing() {
    // Chooses jsonwebtoken's cryptography for the process.
    _ = token("5");
    let (known, unknown) = (provided("a"), provided("b"));
    let case =
        |what, name: &str, token: &str, answer| (what, format!("/{name}/42?token={token}"), String::new(), answer);
    let cases = [
        case("keys of a megabyte", "huge", &known, Closed(1013)),
        case("no keys", "empty", &known, Closed(1013)),
        case("a secret among them", "secret", &known, Closed(1013)),
        case("nobody there", "down", &known, Closed(1013)),
        case("keys that are elsewhere", "redirects", &known, Closed(1013)),
        case("keys without an end over HTTP", "endless", &known, Closed(1013)),
        case("a key that it does not have", "good", &unknown, Closed(1008)),
        case("a key that it has", "good", &known, Joined),
        case("a key that it has, over HTTP", "http", &known, Joined),
    ];
    let no_answer = [case("no answer", "slow", &known, Closed(1013))];
    let (elsewhere, requests) = provider(ok(&set("a"))).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (redirects, _) = provider(redirect).await;
    let (endless, _) = provider(format!("HTTP/1.1 200 OK\r\n\r\n{}{}", set("a"), " ".repeat(2_000_000))).await;
    let (good, _) = provider(ok(&set("a"))).await;
    let over_http = |address| jwks::jwks(&format!("http://{address}/")).unwrap();
    for adapter in BOTH {
        let endpoints = [
            ("good", gives(|| set("a"))),
            ("huge", gives(|| set("a") + &" ".repeat(1_000_000))),
            ("empty", gives(|| r#"{"keys":[]}"#.to_owned())),
            ("secret", gives(|| r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#.to_owned())),
            ("down", JwtAuthenticator::fetched(|| async { Err(io::Error::other("no route to host")) })),
            ("redirects", over_http(redirects)),
            ("endless", over_http(endless)),
            ("http", over_http(good)),
        ];
        let endpoints = endpoints.into_iter().map(|(name, tokens)| (name, with_tokens(tokens))).collect();
        each_beside_a_neighbour(adapter, NEVER, endpoints, &cases).await;
        let slow = with_tokens(JwtAuthenticator::fetched(pending::<Result<JwkSet, io::Error>>));
        each_beside_a_neighbour(adapter, Duration::from_millis(500), vec![("slow", slow)], &no_answer).await;
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nobody was sent there");
}

/// A provider that answers once it may.
#[derive(Clone)]
struct Held {
    asked: Arc<Semaphore>,
    may: Arc<Semaphore>,
}

impl Held {
    fn new() -> (Self, JwtAuthenticator) {
        let held = Self { asked: Arc::new(Semaphore::new(0)), may: Arc::new(Semaphore::new(0)) };
        let asked = held.clone();
        // It has exchanged its keys by then.
        let fetch = move || {
            let held = asked.clone();
            async move {
                held.asked.add_permits(1);
                held.may.acquire().await.unwrap().forget();
                JwkSet::parse(set("b"))
            }
        };
        (held, JwtAuthenticator::fetched(fetch))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_whose_provider_exchanges_its_keys_meanwhile_keep_nobody_waiting() {
    // Chooses jsonwebtoken's cryptography for the process.
    _ = token("5");
    for adapter in BOTH {
        let (held, tokens) = Held::new();
        let patient = |limits: &mut rooms::Limits| limits.handshake_timeout = PATIENCE;
        let endpoints = vec![("held", with_tokens(tokens))];
        let service = Served::start(adapter, endpoints, move |builder| builder.limits(patient)).await;
        let mut neighbour = Neighbour::join(&service).await;
        // Half of them have a token of a key that is withdrawn.
        let strangers = (0..50).map(|n| {
            let (address, kid) = (service.address, if n % 2 == 0 { "a" } else { "b" });
            let target = format!("/held/42?token={}", provided(kid));
            tokio::spawn(async move { Stranger::asks(address, 2, &target, "").await.answer().await })
        });
        let strangers: Vec<_> = strangers.collect();
        timeout(PATIENCE, held.asked.acquire()).await.expect("the provider is asked").unwrap().forget();
        for _ in 0..20 {
            neighbour.is_told("fifty wait for keys").await;
        }
        let newcomer = format!("/posts/42?token={}", token("newcomer"));
        assert_eq!(Stranger::asks(service.address, 3, &newcomer, "").await.answer().await, Joined);
        // All of that came before any of them had its answer.
        assert!(strangers.iter().all(|stranger| !stranger.is_finished()));
        held.may.add_permits(1);
        let answers = join_all(strangers).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(answers, [Closed(1008), Joined].repeat(25), "{adapter:?}");
        assert_eq!(held.asked.available_permits(), 0, "it was asked once");
        neighbour.is_told("they have their answers").await;
        neighbour.leaves("fifty that waited for keys");
    }
}
