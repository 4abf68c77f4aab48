//! WebSockets over HTTP/2, and upgrades of HTTP/1.1 on the same port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support module serves other tests, too")]
#![cfg_attr(not(feature = "http2"), allow(unused_imports, reason = "most tests need the feature"))]

#[path = "support/log.rs"]
mod log;
#[path = "support/service.rs"]
mod service;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::Request as AxumRequest,
    middleware::map_request,
    routing::{any, get},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{HeaderMap, Method, Request, Version};
use rooms_core::{RoomKey, RoomManager};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use service::{Service, next_json, token};

type Client = SendRequest<Bytes>;

fn routes() -> Router<RoomManager> {
    Router::new()
        .route("/posts/{id}/live", any(service::live))
        .route("/http1/{id}", get(service::live))
        .route("/", any(|| async { "a page" }))
        .layer(map_request(|request: AxumRequest| async {
            let is_of_flood = request.uri().query().is_some_and(|query| query.contains("&flood"));
            FLOOD.fetch_add(usize::from(is_of_flood), Ordering::Relaxed);
            request
        }))
}

/// The requests of the flood that were seen.
static FLOOD: AtomicUsize = AtomicUsize::new(0);

/// A client of HTTP/2 that knows the server's settings.
async fn client(address: SocketAddr) -> Client {
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let client = page(client).await;
    assert!(client.is_extended_connect_protocol_enabled(), "`axum::serve` announces it");
    client
}

/// Loads the page, as proof that the connection lives.
async fn page(client: Client) -> Client {
    let mut client = client.ready().await.unwrap();
    let request = Request::builder().uri("https://rooms.example/").version(Version::HTTP_2).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let (head, body) = response.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), text(body).await), (200, "a page".to_owned()));
    client.ready().await.unwrap()
}

async fn text(mut body: RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// A WebSocket that is a stream of an HTTP/2 connection.
struct Socket {
    to_server: SendStream<Bytes>,
    from_server: RecvStream,
    rest: Vec<u8>,
}

/// Asks for a WebSocket; the status and the text where that is refused.
async fn connect(client: &mut Client, protocol: &str, path: &str, headers: HeaderMap) -> Result<Socket, (u16, String)> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://rooms.example{path}"))
        .version(Version::HTTP_2)
        .extension(Protocol::from(protocol))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    request.headers_mut().extend(headers);
    let mut ready = client.clone().ready().await.unwrap();
    let (response, to_server) = ready.send_request(request, false).unwrap();
    let (head, from_server) = response.await.unwrap().into_parts();
    match head.status.as_u16() {
        200 => Ok(Socket { to_server, from_server, rest: Vec::new() }),
        refused => Err((refused, text(from_server).await)),
    }
}

/// A member of `post:42` that has had its `room_joined`.
#[cfg(feature = "http2")]
async fn joined(client: &mut Client, user: &str) -> Socket {
    let path = format!("/posts/42/live?token={}", token(user));
    let mut socket = connect(client, "websocket", &path, HeaderMap::new()).await.unwrap();
    assert_eq!(socket.json().await["type"], "room_joined");
    socket
}

impl Socket {
    /// The payload of the next frame, which is short.
    async fn json(&mut self) -> Value {
        loop {
            if let [_, length @ 0..126, payload @ ..] = &*self.rest
                && let Some(text) = payload.get(..usize::from(*length))
            {
                let value = serde_json::from_slice(text).unwrap();
                self.rest.drain(..2 + usize::from(*length));
                return value;
            }
            let data = self.from_server.data().await.expect("a frame").unwrap();
            self.from_server.flow_control().release_capacity(data.len()).unwrap();
            self.rest.extend_from_slice(&data);
        }
    }
}

#[cfg(feature = "http2")]
fn post() -> RoomKey {
    RoomKey::new("post", 42).unwrap()
}

#[cfg(not(feature = "http2"))]
#[tokio::test(flavor = "multi_thread")]
async fn without_the_feature_it_is_refused_and_said_once_in_the_log() {
    let log = log::Log::start();
    let service = Service::start().await;
    let mut client = client(service.address).await;
    for _ in 0..3 {
        let refused = connect(&mut client, "websocket", "/posts/42/live", HeaderMap::new()).await.err().unwrap();
        assert_eq!(refused, (501, "WebSocket over HTTP/2 is not supported here: use HTTP/1.1".to_owned()));
    }
    assert_eq!(log.ours().iter().filter(|line| line.contains("SETTINGS_ENABLE_CONNECT_PROTOCOL")).count(), 1);
    assert_eq!(service.rooms.stats().connections, 0);

    let mut socket = service.connect("/posts/42/live", &token("5")).await;
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    page(client).await;
}

#[cfg(feature = "http2")]
#[tokio::test(flavor = "multi_thread")]
async fn members_over_both_versions_are_in_one_room() {
    let service = Service::start().await;
    let mut client = client(service.address).await;
    let mut over_2 = joined(&mut client, "5").await;
    let mut over_1 = service.joined("6").await;
    assert_eq!(over_2.json().await, json!({"type": "viewer_joined", "viewers": 2}));
    service.rooms.broadcast(&post(), &json!({"type": "liked"})).await.unwrap();
    assert_eq!(over_2.json().await, json!({"type": "liked"}));
    assert_eq!(next_json(&mut over_1).await, json!({"type": "liked"}));
    page(client).await;
}

#[cfg(feature = "http2")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_or_closed_by_half_has_left_and_no_other_of_its_connection() {
    let service = Service::start().await;
    let mut client = client(service.address).await;
    let mut stays = joined(&mut client, "5").await;
    let mut streams = Vec::new();
    for n in 0..20 {
        streams.push(joined(&mut client, &format!("u{n}")).await);
    }
    service.viewers("post:42", 21).await;
    for (n, mut stream) in streams.into_iter().enumerate() {
        match n % 3 {
            0 => stream.to_server.send_reset(Reason::CANCEL),
            1 => stream.to_server.send_data(Bytes::new(), true).unwrap(),
            // Within a frame.
            _ => stream.to_server.send_data(Bytes::from_static(&[0x81]), true).unwrap(),
        }
    }
    service.viewers("post:42", 1).await;
    service.rooms.broadcast(&post(), &json!({"type": "liked"})).await.unwrap();
    while stays.json().await["type"] != "liked" {}
    page(client).await;
}

#[cfg(feature = "http2")]
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_that_are_reset_leaves_nothing_behind_and_delays_nobody() {
    let service = Service::start().await;
    let mut neighbour = service.joined("5").await;
    let path = format!("/posts/42/live?token={}&flood", token("6"));
    for _ in 0..5 {
        let (client, connection) =
            h2::client::handshake(TcpStream::connect(service.address).await.unwrap()).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = page(client).await;
        let before = FLOOD.load(Ordering::Relaxed);
        for n in 0..100 {
            // Past a number of resets the server ends the connection.
            let Ok(mut ready) = client.clone().ready().await else { break };
            let request = Request::builder()
                .method(Method::CONNECT)
                .uri(format!("https://rooms.example{path}"))
                .extension(Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13");
            let Ok((_, mut stream)) = ready.send_request(request.body(()).unwrap(), false) else { break };
            // The first of a connection is let in before it is reset.
            while n == 0 && FLOOD.load(Ordering::Relaxed) == before {
                tokio::task::yield_now().await;
            }
            stream.send_reset(Reason::CANCEL);
            client = ready;
        }
        // Its answer, or its end, comes after all that was sent before it.
        if let Ok(mut ready) = client.ready().await
            && let Ok((answer, _)) =
                ready.send_request(Request::builder().uri("https://rooms.example/").body(()).unwrap(), true)
        {
            _ = answer.await;
        }
        connection.abort();
    }
    let seen = FLOOD.load(Ordering::Relaxed);
    assert!(seen >= 5, "{seen} of the flood were served");
    service.viewers("post:42", 1).await;
    let left = async {
        while service.rooms.stats().connections > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), left).await.expect("nothing is left of it");
    service.rooms.broadcast(&post(), &json!({"type": "liked"})).await.unwrap();
    while next_json(&mut neighbour).await["type"] != "liked" {}
}

#[cfg(feature = "http2")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_request_is_refused() {
    let service = Service::start().await;
    let mut client = client(service.address).await;
    let path = format!("/posts/42/live?token={}", token("5"));
    let header = |name: &'static str, value: &'static str| {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    };
    for (what, protocol, path, headers, status) in [
        ("another protocol", "connect-udp", &*path, HeaderMap::new(), 501),
        ("another version", "websocket", &*path, header("sec-websocket-version", "8"), 426),
        ("a foreign page", "websocket", &*path, header("origin", "https://evil.example"), 403),
        ("a route for GET alone", "websocket", "/http1/42", HeaderMap::new(), 405),
    ] {
        let refused = connect(&mut client, protocol, path, headers).await.err();
        assert_eq!(refused.map(|(status, _)| status), Some(status), "{what}");
    }
    assert!(connect(&mut client, "websocket", &path, header("origin", "https://rooms.example")).await.is_ok());
    page(client).await;
}
