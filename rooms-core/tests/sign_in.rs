//! Who is asked about a token, who a guest is, and what a token says of rooms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/upgrade.rs"]
mod upgrade;

use std::{net::SocketAddr, sync::Mutex};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, BadToken, Endpoint, Identity, Kind, RoomManager,
    adapter::{Admission, Refusal},
};
use serde_json::{Value, json};

use upgrade::{APP, all, headers};

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
