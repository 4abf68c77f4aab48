//! What the filter does beyond the contract that all adapters share, which is in `conformance.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use rooms_core::{Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, RoomKey, RoomManager};
use rooms_warp::RoomUpgrade;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, ClientRequestBuilder, Message, protocol::frame::coding::CloseCode},
};
use warp::{
    Filter,
    reply::{Reply as _, Response},
};

/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes a user's id for their token, if it is a number.
#[derive(Debug)]
struct Numbers;

#[async_trait]
impl Authenticator for Numbers {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let token = attempt.token().ok_or(AuthError::Missing)?;
        _ = token.parse::<u64>().map_err(|_| AuthError::Refused("no number"))?;
        Identity::new(token).map_err(|_| AuthError::Subject)
    }
}

fn manager() -> RoomManager {
    RoomManager::builder()
        .authenticator(Numbers)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated())
        .kind("user", Kind::owner_only())
        .build()
        .unwrap()
}

/// `/posts/{id}` is a room, `/mine` the room of whoever connects, and everything else a page.
fn routes(rooms: &RoomManager) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + use<> {
    let post = warp::path!("posts" / String)
        .and(rooms_warp::upgrade(rooms))
        .map(|id: String, upgrade: RoomUpgrade| upgrade.room("post", id));
    let mine = warp::path!("mine").and(rooms_warp::upgrade(rooms)).map(|upgrade: RoomUpgrade| {
        let user = upgrade.identity().map_or_else(|| "nobody".to_owned(), |identity| identity.user().to_owned());
        upgrade.room("user", user)
    });
    let page = warp::any().map(|| "a page".into_response());
    post.or(mine).unify().or(page).unify()
}

async fn served(rooms: &RoomManager) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(routes(rooms)).incoming(listener).run());
    address
}

async fn connect(address: SocketAddr, target: &str) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(format!("ws://{address}{target}"), stream).await.map(|(socket, _)| socket)
}

async fn refusal(address: SocketAddr, target: &str) -> u16 {
    match connect(address, target).await {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("refused over HTTP, not {other:?}"),
    }
}

async fn next<S>(socket: &mut WebSocketStream<S>) -> Message
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(PATIENCE, socket.next()).await.expect("a message in time").expect("a message").unwrap()
}

async fn next_json<S>(socket: &mut WebSocketStream<S>) -> Value
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

async fn close_of(socket: &mut WebSocketStream<TcpStream>) -> (CloseCode, String) {
    match next(socket).await {
        Message::Close(Some(frame)) => (frame.code, frame.reason.to_string()),
        other => panic!("a close frame instead of {other:?}"),
    }
}

fn invalid_token() -> (CloseCode, String) {
    (CloseCode::Policy, "Invalid token".to_owned())
}

#[tokio::test]
async fn a_handler_chooses_the_room_by_who_connects() {
    let address = served(&manager()).await;
    let mut socket = connect(address, "/mine?token=5").await.unwrap();
    assert_eq!(next_json(&mut socket).await, json!({"type": "room_joined", "room": "user:5", "viewers": 1}));
}

#[tokio::test]
async fn a_handler_sees_the_subprotocol_that_was_chosen() {
    let rooms = manager();
    let endpoint = Endpoint::new().query_token("token").subprotocols(["app.v1", "app.v2"]).require_subprotocol();
    let versioned = rooms_warp::upgrade_at(&rooms, endpoint).map(|upgrade: RoomUpgrade| {
        let version = upgrade.subprotocol().unwrap_or("none").to_owned();
        upgrade.room("post", version)
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(versioned).incoming(listener).run());
    let request = ClientRequestBuilder::new(format!("ws://{address}/?token=5").parse().unwrap());
    let request = request.with_sub_protocol("app.v2").with_sub_protocol("app.v1");
    let (mut socket, response) = client_async(request, TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "app.v2");
    assert_eq!(next_json(&mut socket).await["room"], "post:app.v2");
    assert_eq!(refusal(address, "/?token=5").await, 400);
}

#[tokio::test]
async fn a_handler_that_sees_nobody_joins_nobody_whatever_room_it_names() {
    let rooms = manager();
    let address = served(&rooms).await;
    let mut socket = connect(address, "/mine?token=garbage").await.unwrap();
    assert_eq!(close_of(&mut socket).await, invalid_token());
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test]
async fn a_room_that_a_page_has_escaped_is_decoded_once() {
    let rooms = manager();
    let address = served(&rooms).await;
    let mut socket = connect(address, "/posts/auth0%7C5f%3a7c?token=%35").await.unwrap();
    assert_eq!(next_json(&mut socket).await["room"], "post:auth0|5f:7c");
    for id in ["a%2541", "a%", "a%zz", "a%FF"] {
        assert_eq!(refusal(address, &format!("/posts/{id}?token=5")).await, 400, "{id}");
    }
    for token in ["5%", "%zz", "%FF"] {
        let mut socket = connect(address, &format!("/posts/42?token={token}")).await.unwrap();
        assert_eq!(close_of(&mut socket).await, invalid_token(), "{token}");
    }
    assert_eq!(rooms.stats().rooms, 1);
}

#[tokio::test]
async fn a_bad_room_is_told_only_to_a_good_token_on_a_good_request() {
    let rooms = manager();
    let address = served(&rooms).await;
    assert_eq!(refusal(address, "/posts/%2A?token=5").await, 400);
    let mut socket = connect(address, "/posts/%2A?token=garbage").await.unwrap();
    assert_eq!(close_of(&mut socket).await, invalid_token());
    assert_eq!(refusal(address, "/posts/%2A?token=5&token=5").await, 400, "two tokens");
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test]
async fn what_is_refused_is_answered_and_no_later_filter_is_tried() {
    for (method, status) in [("GET", 426), ("POST", 405), ("CONNECT", 501)] {
        let answer = warp::test::request().method(method).path("/posts/42").reply(&routes(&manager())).await;
        assert_eq!(answer.status(), status, "{method}");
    }
    let answer = warp::test::request().path("/posts").reply(&routes(&manager())).await;
    assert_eq!(answer.body(), "a page");
}

#[tokio::test]
async fn a_request_that_nobody_can_upgrade_is_426() {
    // As hyper leaves it over HTTP/2: all headers are right, and there is nothing to upgrade.
    let request = warp::test::request()
        .path("/posts/42?token=5")
        .header("host", "rooms.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let rooms = manager();
    assert_eq!(request.reply(&routes(&rooms)).await.status(), 426);
    assert_eq!(rooms.stats().connections, 0);
}

#[tokio::test]
async fn a_listener_that_is_not_tcp_is_served_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms");
    let rooms = manager();
    tokio::spawn(warp::serve(routes(&rooms)).incoming(UnixListener::bind(&path).unwrap()).run());
    let stream = UnixStream::connect(&path).await.unwrap();
    let (mut socket, _) = client_async("ws://rooms.example/posts/42?token=5", stream).await.unwrap();
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    let large = json!({"text": "é".repeat(20_000)});
    for n in 0..20 {
        rooms.broadcast(&RoomKey::new("post", 42).unwrap(), &json!([n, large])).await.unwrap();
    }
    for n in 0..20 {
        assert_eq!(next_json(&mut socket).await, json!([n, large]));
    }
    drop(socket);
    timeout(PATIENCE, async {
        while rooms.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the client is counted out");
}
