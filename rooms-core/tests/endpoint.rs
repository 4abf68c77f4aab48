//! Where a token may be, which pages may connect, and who is asked about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Mutex};

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, BadToken, BuildError, Endpoint, EndpointError, Identity, Kind, RoomManager,
    adapter::{Admission, Handshake, Opening, Refusal},
};
use serde_json::{Value, json};

const UPGRADE: [(&str, &str); 5] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("host", "rooms.example"),
];
const APP: (&str, &str) = ("origin", "https://app.example");

fn headers(more: &[(&str, &str)]) -> HeaderMap {
    let all = UPGRADE.iter().chain(more);
    all.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}

fn read(endpoint: &Endpoint, uri: &str, more: &[(&str, &str)]) -> Result<Handshake, Refusal> {
    Handshake::read(endpoint, &Method::GET, &uri.parse().unwrap(), &headers(more))
}

fn token(endpoint: &Endpoint, uri: &str, more: &[(&str, &str)]) -> Result<Option<String>, String> {
    let handshake = read(endpoint, uri, more).map_err(|refusal| refusal.to_string())?;
    handshake.token().map(|token| token.map(ToOwned::to_owned)).map_err(|error| error.to_string())
}

/// Every source at once.
fn all() -> Endpoint {
    Endpoint::new()
        .query_token("token")
        .cookie_token("session")
        .protocol_token("app.v1")
        .origins(["https://app.example"])
        .unwrap()
}

#[test]
fn each_source_gives_the_token() {
    let found = |uri: &str, more: &[(&str, &str)]| token(&all(), uri, &[&[APP], more].concat());
    let good = Ok(Some("abc.def-_".to_owned()));
    assert_eq!(found("/", &[("authorization", "Bearer abc.def-_")]), good);
    assert_eq!(found("/?token=abc.def-_", &[]), good);
    for cookie in [
        "session=abc.def-_",
        "a=b; session=abc.def-_; c=d",
        "session=\"abc.def-_\"",
        " session = abc.def-_ ;",
        "sessions=no; session=abc.def-_; Session=no; xsession=no; session2=no",
        "broken; =; ; a==b;session=abc.def-_",
        "other=\u{e9}\u{ff}; session=abc.def-_",
    ] {
        assert_eq!(found("/", &[("cookie", cookie)]), good, "{cookie}");
    }
    for protocols in [
        &["app.v1, bearer, abc.def-_"][..],
        &["bearer,abc.def-_,app.v1"],
        &["app.v1", "bearer, abc.def-_"],
        &["app.v1, bearer", "abc.def-_"],
        &[" other , bearer , abc.def-_ , app.v1 "],
    ] {
        let headers: Vec<_> = protocols.iter().map(|value| ("sec-websocket-protocol", *value)).collect();
        assert_eq!(found("/", &headers), good, "{protocols:?}");
    }
    for empty in ["Bearer", "bearer ", "BEARER\t "] {
        assert_eq!(found("/", &[("authorization", empty)]), Ok(Some(String::new())), "{empty:?}");
    }
    for none in ["Bearers", "Basic", ""] {
        assert_eq!(found("/", &[("authorization", none)]), Ok(None), "{none:?}");
    }
    for none in ["a=b", "session", "session=; x", "Session=abc"] {
        assert_eq!(found("/", &[("cookie", none)]).map(Option::unwrap_or_default), Ok(String::new()), "{none}");
    }
    for none in ["bearer", "app.v1", "app.v1, Bearer, abc", "bearers, abc", ""] {
        assert_eq!(found("/", &[("sec-websocket-protocol", none)]), Ok(None), "{none}");
    }
    assert_eq!(found("/", &[("cookie", "session=%41")]), Ok(Some("%41".into())), "as it stands");
}

#[test]
fn two_tokens_in_enabled_sources_are_refused_and_others_are_not_seen() {
    type Place = (&'static str, &'static str);
    let places: [Place; 4] = [
        ("authorization", "Bearer abc"),
        ("query", "/?token=abc"),
        ("cookie", "session=abc"),
        ("sec-websocket-protocol", "app.v1, bearer, abc"),
    ];
    let ask = |endpoint: &Endpoint, places: &[Place]| {
        let uri = places.iter().find(|place| place.0 == "query").map_or("/", |place| place.1);
        let more: Vec<_> = places.iter().copied().filter(|place| place.0 != "query").chain([APP]).collect();
        token(endpoint, uri, &more)
    };
    for (at, one) in places.iter().enumerate() {
        for other in &places[at + 1..] {
            assert_eq!(ask(&all(), &[*one, *other]), Err(Refusal::ManyTokens.to_string()), "{one:?} {other:?}");
        }
    }
    for empty in ["Bearer", "Bearer "] {
        let two = ask(&all(), &[("authorization", empty), ("query", "/?token=abc")]);
        assert_eq!(two, Err(Refusal::ManyTokens.to_string()), "{empty:?}");
    }
    for twice in [
        [("cookie", "session=abc; session=abc"), APP],
        [("sec-websocket-protocol", "bearer, abc, bearer, abc"), APP],
        [("sec-websocket-protocol", "bearer, abc, app.v1, bearer, d"), APP],
    ] {
        assert_eq!(token(&all(), "/", &twice), Err(Refusal::ManyTokens.to_string()), "{twice:?}");
    }
    // Every source alone, with tokens in all the places.
    let off = || Endpoint::new().without_header_token().origins(["https://app.example"]).unwrap();
    for endpoint in
        [Endpoint::new(), off().query_token("token"), off().cookie_token("session"), off().protocol_token("app.v1")]
    {
        let endpoint = endpoint.origins(["https://app.example"]).unwrap();
        assert_eq!(ask(&endpoint, &places), Ok(Some("abc".into())), "{endpoint:?}");
    }
    assert_eq!(ask(&off(), &places), Ok(None));
}

#[test]
fn the_answer_names_the_applications_protocol_and_never_the_token() {
    let answer = |endpoint: &Endpoint, offered: &str| {
        let handshake = read(endpoint, "/", &[APP, ("sec-websocket-protocol", offered)]).unwrap();
        handshake.response().headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned())
    };
    let two = all().protocol_token("app.v2");
    for (offered, answered) in [
        ("app.v1, bearer, abc", Some("app.v1")),
        ("app.v2, app.v1, bearer, abc", Some("app.v2")),
        ("app.v1, app.v2", Some("app.v1")),
        ("app.v2, bearer, app.v1", Some("app.v2")),
        ("bearer, app.v1", None),
        ("bearer", None),
        ("bearer, abc", None),
        ("APP.V1, bearer, abc", None),
        ("app.v1", Some("app.v1")),
        ("other", None),
    ] {
        assert_eq!(answer(&two, offered).as_deref(), answered, "{offered}");
    }
    assert_eq!(answer(&Endpoint::new().origins(["https://app.example"]).unwrap(), "app.v1, bearer, abc"), None);
}

#[test]
fn a_subprotocol_is_chosen_by_the_order_of_the_client_or_required() {
    let endpoint = Endpoint::new().subprotocols(["v1", "v2"]).subprotocols(["v2", "v3"]);
    let chosen = |endpoint: &Endpoint, offers: &[&str]| {
        let offers: Vec<_> = offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
        read(endpoint, "/", &offers).map(|handshake| handshake.subprotocol().map(str::to_owned))
    };
    let required = endpoint.clone().require_subprotocol();
    for (offers, answered) in [
        (&["v2, v1"][..], "v2"),
        (&["v1,v2"], "v1"),
        (&["other, v3", "v1"], "v3"),
        (&["other", "v2, v2"], "v2"),
        (&["\"v1\", v2"], "v2"),
        (&[",, ,v3"], "v3"),
    ] {
        for endpoint in [&endpoint, &required] {
            assert_eq!(chosen(endpoint, offers), Ok(Some(answered.to_owned())), "{offers:?}");
        }
    }
    let long = "v, ".repeat(1_300);
    for none in [&[][..], &[""], &["V1"], &["v1;q=1"], &["v1 v2"], &["bearer, v1"], &[&*long]] {
        assert_eq!(chosen(&endpoint, none), Ok(None), "{none:?}");
        let refusal = chosen(&required, none).unwrap_err();
        let response = refusal.response();
        assert_eq!(response.status(), 400, "{none:?}");
        assert_eq!(response.body(), "offer one of these in `Sec-WebSocket-Protocol`: v1, v2, v3");
    }
    let check = Endpoint::new().require_subprotocol().check();
    assert_eq!(check, Err(EndpointError::NoProtocol));
    for bad in ["", "bearer", "v 1", "v1,v2", "\r\n"] {
        assert!(matches!(Endpoint::new().subprotocols([bad]).check(), Err(EndpointError::Protocol(_))), "{bad:?}");
    }
    let opening = Opening::EventStream(&Method::GET);
    let stream = Handshake::read(&required, opening, &"/".parse().unwrap(), &headers(&[])).unwrap();
    assert_eq!(stream.subprotocol(), None, "an event stream has none, and is not refused for it");
}

#[tokio::test]
async fn a_cookie_needs_a_list_of_pages() {
    let cookie = || Endpoint::new().cookie_token("session");
    for open in [cookie(), cookie().any_origin()] {
        assert_eq!(open.check(), Err(EndpointError::CookieWithoutOrigins));
        let built = RoomManager::builder().endpoint(open.clone()).build();
        assert_eq!(built.unwrap_err(), BuildError::Endpoint(EndpointError::CookieWithoutOrigins));
        // At a route of its own.
        let refusal = read(&open, "/", &[("origin", "https://rooms.example"), ("cookie", "session=abc")]).unwrap_err();
        assert_eq!((refusal.clone(), refusal.response().status().as_u16()), (Refusal::Misconfigured, 500));
    }
    let listed = cookie().origins(["https://app.example"]).unwrap();
    RoomManager::builder().endpoint(listed.clone()).build().unwrap();
    let with_cookie = ("cookie", "session=abc");
    assert!(read(&listed, "/", &[APP, with_cookie]).is_ok());
    for foreign in [
        "https://evil.example",
        "null",
        "file://",
        "",
        "https://app.example.evil.example",
        "https://xapp.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example/",
        "https://app.example@evil.example",
        "https://rooms.example",
    ] {
        let refused = read(&listed, "/", &[("origin", foreign), with_cookie]).err();
        assert_eq!(refused, Some(Refusal::Origin), "{foreign}");
    }
    assert_eq!(read(&listed, "/", &[with_cookie]).err(), Some(Refusal::Origin), "no browser, and whose cookie?");
    assert_eq!(read(&listed, "/", &[APP, APP, with_cookie]).err(), Some(Refusal::Origin));
    assert!(read(&listed, "/", &[("authorization", "Bearer abc")]).is_ok(), "a service has no origin");
}

#[test]
fn an_event_stream_of_an_own_page_has_a_cookie_and_no_origin() {
    let own = Endpoint::new().cookie_token("session").origins(["https://rooms.example"]).unwrap();
    let other = Endpoint::new().cookie_token("session").origins(["https://app.example"]).unwrap();
    let read = |endpoint: &Endpoint, more: &[(&str, &str)]| {
        let more = [&[("cookie", "session=abc")], more].concat();
        Handshake::read(endpoint, Opening::EventStream(&Method::GET), &"/events".parse().unwrap(), &headers(&more))
            .err()
    };
    assert_eq!(read(&own, &[("sec-fetch-site", "same-origin")]), None);
    for site in ["same-site", "cross-site", "none", ""] {
        assert_eq!(read(&own, &[("sec-fetch-site", site)]), Some(Refusal::Origin), "{site}");
    }
    assert_eq!(read(&own, &[]), Some(Refusal::Origin));
    assert_eq!(read(&other, &[("sec-fetch-site", "same-origin")]), Some(Refusal::Origin), "its pages are not listed");
    assert_eq!(read(&other, &[APP, ("sec-fetch-site", "cross-site")]), None);
}

#[test]
fn a_protocol_has_a_name() {
    for bad in ["", "bearer", "a b", "a,b", "é", "a\r\nx: y", "a/b"] {
        let check = Endpoint::new().protocol_token(bad).check();
        assert!(matches!(check, Err(EndpointError::Protocol(_))), "{bad:?}");
    }
    assert_eq!(Endpoint::new().protocol_token("app.v1+json").check(), Ok(()));
}

#[test]
fn origins_are_as_apps_have_them() {
    let endpoint = Endpoint::new()
        .origins([
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://5d9a0bd0-6f3c-4f6a-9c1b-0a2b3c4d5e6f",
            "https://*.example.com",
            "http://*.dev.example.com:8080",
            "http://[::1]:3000",
        ])
        .unwrap();
    let allowed = |endpoint: &Endpoint, origin: &str| read(endpoint, "/", &[("origin", origin)]).is_ok();
    for good in [
        "capacitor://localhost",
        "tauri://localhost",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://5d9a0bd0-6f3c-4f6a-9c1b-0a2b3c4d5e6f",
        "https://a.example.com",
        "https://a.b.example.com",
        "https://A.Example.COM:443",
        "http://x.dev.example.com:8080",
        "http://[::1]:3000",
    ] {
        assert!(allowed(&endpoint, good), "{good}");
    }
    for bad in [
        "capacitor://localhost:1",
        "ionic://localhost",
        "http://localhost",
        "https://localhost",
        "chrome-extension://bbcdefghijklmnopabcdefghijklmnop",
        "https://example.com",
        "https://.example.com",
        "https://xexample.com",
        "https://a.example.com.evil.example",
        "https://evil.example/.example.com",
        "https://evil.example?.example.com",
        "https://evil.example#.example.com",
        "https://user@a.example.com",
        "https://a.example.com:8443",
        "http://a.example.com",
        "http://x.dev.example.com",
        "null",
        "NULL",
        "*",
        "https://*.example.com",
    ] {
        assert!(!allowed(&endpoint, bad), "{bad}");
    }
    let null = Endpoint::new().origins(["null"]).unwrap();
    assert!(allowed(&null, "null") && !allowed(&null, "https://rooms.example") && !allowed(&null, "Null"));
    let any = Endpoint::new().any_origin();
    assert!(allowed(&any, "null") && allowed(&any, "https://evil.example") && allowed(&any, "anything"));
    let asked = Endpoint::new().origins_by(|origin| origin == "https://a.example");
    assert!(allowed(&asked, "https://a.example") && !allowed(&asked, "https://b.example") && !allowed(&asked, "null"));
    for no_origin in [
        "*",
        "*.example.com",
        "https://*",
        "https://*.com",
        "https://*.*.com",
        "https://a.*.com",
        "https://**.example.com",
        "ws://app.example",
        "wss://app.example",
        "file://",
        "file://localhost",
        "capacitor://",
        "://localhost",
        "1a://localhost",
        "a b://localhost",
        "https://app.example/",
        "https://app.example:",
        "https://app.example:+80",
        "https://app.example:65536",
        "https://user@app.example",
        "https://[::1",
        "https://::1",
        "https://a[b]",
        "https://app.example https://b.example",
        "https://é.example",
        "Null",
        "",
    ] {
        assert!(Endpoint::new().origins([no_origin]).is_err(), "{no_origin}");
    }
}

/// Notes what it saw, and lets everybody in.
#[derive(Debug, Default)]
struct Witness(std::sync::Arc<Mutex<Vec<Seen>>>);

/// Its token, its URI, its peer, and whether it has a header `x-device`.
type Seen = (Option<String>, String, Option<SocketAddr>, bool);

#[async_trait]
impl Authenticator for Witness {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let seen = (
            attempt.token().map(ToOwned::to_owned),
            attempt.uri().to_string(),
            attempt.peer(),
            attempt.headers().contains_key("x-device"),
        );
        self.0.lock().unwrap().push(seen);
        match attempt.token() {
            Some("bad") => Err(AuthError::Refused("bad")),
            Some(_) => Identity::new("5").map_err(|_| AuthError::Subject),
            None => Ok(Identity::guest()),
        }
    }
}

async fn admit(
    rooms: &RoomManager,
    endpoint: &Endpoint,
    uri: &str,
    more: &[(&str, &str)],
) -> Result<Admission, Refusal> {
    let peer = Some("192.0.2.1:5000".parse().unwrap());
    rooms.admit(endpoint, &Method::GET, &uri.parse::<Uri>().unwrap(), &headers(more), peer).await
}

#[tokio::test]
async fn an_authenticator_sees_the_request_and_an_endpoint_has_its_own() {
    let rooms = RoomManager::builder().kind("post", Kind::authenticated()).build().unwrap();
    let seen = Witness::default();
    let endpoint = Endpoint::new().query_token("token").authenticator(Witness(seen.0.clone()));
    let admitted = admit(&rooms, &endpoint, "/live?token=abc&page=2", &[("x-device", "7")]).await.unwrap();
    assert_eq!(admitted.identity().unwrap().unwrap().user(), "5");
    let expected = (Some("abc".to_owned()), "/live?page=2".to_owned(), Some("192.0.2.1:5000".parse().unwrap()), true);
    assert_eq!(*seen.0.lock().unwrap(), [expected]);
    // The manager's, which was not set, lets nobody in.
    let plain = Endpoint::new().bad_token(BadToken::Refuse);
    let refused = admit(&rooms, &plain, "/", &[("authorization", "Bearer abc")]);
    assert_eq!(refused.await.unwrap_err(), Refusal::Token);
}

#[tokio::test]
async fn a_guest_is_somebody_without_a_token_and_a_bad_token_is_no_guest() {
    let rooms = RoomManager::builder().authenticator(Witness::default()).build().unwrap();
    let endpoint = Endpoint::new().query_token("token");
    let guest = async |uri: &str| {
        let admitted = admit(&rooms, &endpoint, uri, &[]).await.unwrap();
        admitted.identity().map(|identity| identity.unwrap().clone()).map_err(ToString::to_string)
    };
    let (one, other) = (guest("/").await.unwrap(), guest("/?token=").await.unwrap());
    assert!(one.is_guest() && other.is_guest() && one.user() != other.user(), "{one:?} {other:?}");
    assert!(!guest("/?token=abc").await.unwrap().is_guest());
    assert_eq!(guest("/?token=bad").await, Err("1008 Invalid token".to_owned()));
    assert_eq!(guest("/?token=%zz").await, Err("1008 Invalid token".to_owned()), "and not asked about");
}

#[tokio::test]
async fn a_token_that_is_no_text_is_a_bad_token_wherever_it_is() {
    let rooms = RoomManager::builder().authenticator(Witness::default()).build().unwrap();
    let endpoint = all().first_message_token();
    let admit = async |uri: &str, more: &[(&str, &[u8])]| {
        let mut headers = headers(&[APP]);
        for (name, value) in more {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        rooms.admit(&endpoint, &Method::GET, &uri.parse::<Uri>().unwrap(), &headers, None).await
    };
    let places: [(&str, &[u8]); 4] = [
        ("authorization", b"Bearer caf\xe9"),
        ("authorization", b"bearer\tcaf\xe9"),
        ("cookie", b"session=caf\xe9"),
        ("sec-websocket-protocol", b"app.v1, bearer, caf\xe9"),
    ];
    for place in places {
        let admitted = admit("/", &[place]).await.unwrap();
        assert_eq!(admitted.identity().unwrap_err().to_string(), "1008 Invalid token", "{place:?}");
        assert_eq!(admit("/?token=good", &[place]).await.unwrap_err(), Refusal::ManyTokens, "{place:?}");
    }
    // What is no token there is none.
    for none in [("authorization", b"Basic caf\xe9".as_slice()), ("sec-websocket-protocol", b"caf\xe9, app.v1")] {
        assert!(!admit("/?token=good", &[none]).await.unwrap().identity().unwrap().unwrap().is_guest(), "{none:?}");
    }
}

#[tokio::test]
async fn guests_join_public_kinds_alone() {
    let rooms =
        RoomManager::build_for().kind("public", Kind::public()).kind("members", Kind::authenticated()).build().unwrap();
    let (sink, _received) = futures::channel::mpsc::unbounded();
    let mut guest = rooms.connect(Identity::guest(), sink).unwrap();
    assert!(guest.join(&"public:1".parse().unwrap()).await.is_ok());
    assert!(guest.join(&"members:1".parse().unwrap()).await.is_err());
}

#[test]
fn claims_are_added_and_the_later_one_holds() {
    let identity = Identity::new("5").unwrap().with_claims(r#"{"role":"viewer","big":123456789012345678901234567890}"#);
    let more = identity.clone().and_claims([("role", json!("editor")), ("ip", json!("192.0.2.1"))]).unwrap();
    let claims: Value = more.claims().unwrap();
    assert_eq!((&claims["role"], &claims["ip"]), (&json!("editor"), &json!("192.0.2.1")));
    let raw: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> = more.claims().unwrap();
    assert_eq!(raw["big"].get(), "123456789012345678901234567890");
    assert!(identity.with_claims("[]").and_claims([("a", json!(1))]).is_err());
}

#[tokio::test]
async fn a_token_may_name_the_rooms_to_join() {
    let rooms = RoomManager::build_for().kind("post", Kind::new().join_claim("rooms")).build().unwrap();
    let (sink, _received) = futures::channel::mpsc::unbounded();
    let reader = Identity::new("5").unwrap().with_claims(r#"{"rooms":["post:4*"]}"#);
    let mut reader = rooms.connect(reader, sink).unwrap();
    assert!(reader.join(&"post:42".parse().unwrap()).await.is_ok());
    assert!(reader.join(&"post:52".parse().unwrap()).await.is_err());
    let (sink, _received) = futures::channel::mpsc::unbounded();
    let mut nobody = rooms.connect(Identity::new("6").unwrap(), sink).unwrap();
    assert!(nobody.join(&"post:42".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_token_may_name_the_rooms_to_publish_in() {
    let post = Kind::authenticated().publish_claim("publishes_in");
    let rooms = RoomManager::build_for().kind("post", post).build().unwrap();
    let who = Identity::new("5").unwrap().with_claims(r#"{"publishes_in":"post:42"}"#);
    let said = [42, 43].into_iter().flat_map(|id| {
        let join = json!({"type": "join", "room": format!("post:{id}")});
        let publish = json!({"type": "publish", "room": format!("post:{id}"), "data": "hello", "ref": id});
        [join, publish]
    });
    let said = futures::stream::iter(said.map(|text| Ok(rooms_core::ws::Incoming::Text(text.to_string()))));
    let (sink, mut received) = futures::channel::mpsc::unbounded();
    tokio::spawn(rooms.serve(futures::StreamExt::chain(said, futures::stream::pending()), sink, who));
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let message: rooms_core::Message = futures::StreamExt::next(&mut received).await.unwrap();
        let event: Value = serde_json::from_str(message.as_text().unwrap()).unwrap();
        if event["ref"].is_u64() {
            answers.push((event["ref"].clone(), event["type"].clone()));
        }
    }
    assert_eq!(answers, [(json!(42), json!("published")), (json!(43), json!("error"))]);
}
