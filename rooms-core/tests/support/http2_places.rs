//! The places of HTTP/2 connections, of which each has many streams, for a server with [`streams::rooms`](super::streams::rooms):
//! `/live` is a stream of `post:42`, `/socket` a WebSocket of it, and `/` answers anything.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request, StatusCode};
use rooms_core::RoomManager;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// A stream of a connection, until it is dropped.
struct Stream(#[expect(dead_code, reason = "it is open")] SendStream<Bytes>, RecvStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let (requests, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
        let connection = tokio::spawn(async move { _ = connection.await });
        Self { requests, connection }
    }

    async fn ask(&self, request: Request<()>, is_whole: bool) -> Stream {
        let mut ready = self.requests.clone().ready().await.unwrap();
        let (response, to_server) = ready.send_request(request, is_whole).unwrap();
        let response = timeout(PATIENCE, response).await.expect("an answer in time").unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Stream(to_server, response.into_body())
    }

    /// Whether it is served: one that has no place waits.
    async fn page(&self) {
        let request = Request::builder().uri("https://rooms.example/").body(()).unwrap();
        let Stream(_, mut body) = self.ask(request, true).await;
        assert_eq!(body.data().await.unwrap().unwrap(), "here");
    }

    async fn events(&self, user: &str) -> Stream {
        let request = Request::builder().uri(format!("https://rooms.example/live?token={user}")).body(()).unwrap();
        self.joined(request, true).await
    }

    async fn socket(&self, user: &str) -> Stream {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://rooms.example/socket?token={user}"))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        self.joined(request, false).await
    }

    async fn joined(&self, request: Request<()>, is_whole: bool) -> Stream {
        let mut stream = self.ask(request, is_whole).await;
        let first = timeout(PATIENCE, stream.1.data()).await.expect("an event in time").unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("room_joined"), "{first:?}");
        stream
    }
}

/// While it has streams that count as connections it has no place; then it takes one, or ends.
pub(crate) async fn a_connection_with_streams_of_rooms_keeps_nobody_out(address: SocketAddr, rooms: &RoomManager) {
    let client = Client::connect(address).await;
    client.page().await;
    let streams = [client.events("5").await, client.socket("6").await];
    let others = [Client::connect(address).await, Client::connect(address).await];
    for other in &others {
        other.page().await;
    }
    client.page().await;

    let [events, socket] = streams;
    drop(events);
    while rooms.stats().connections > 1 {
        tokio::task::yield_now().await;
    }
    client.page().await;
    drop(socket);
    timeout(PATIENCE, client.connection).await.expect("there is no place for it").unwrap();
    for other in &others {
        other.page().await;
    }

    // With a place it goes on.
    let [one, other] = others;
    drop(other);
    drop(one.events("7").await);
    while rooms.stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    one.page().await;
    assert!(!one.connection.is_finished());
}
