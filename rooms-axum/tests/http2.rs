//! Beside HTTP/2: what a WebSocket over HTTP/2 is answered, and upgrades of HTTP/1.1 on the same port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support module serves other tests, too")]

#[path = "support/log.rs"]
mod log;
#[path = "support/service.rs"]
mod service;

use std::net::SocketAddr;

use axum::{Router, routing::any};
use h2::{client::SendRequest, ext::Protocol};
use http::{Method, Request, Version};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rooms_core::RoomManager;
use tokio::net::{TcpListener, TcpStream};

use service::{Service, next_json, token};

fn routes() -> Router<RoomManager> {
    Router::new().route("/posts/{id}/live", any(service::live)).route("/", any(|| async { "a page" }))
}

/// A client of HTTP/2 that knows the server's settings.
async fn client(address: SocketAddr) -> SendRequest<&'static [u8]> {
    let (client, connection) =
        h2::client::Builder::new().handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let (page, mut client) = request(client, Method::GET, "/").await;
    assert_eq!(page.unwrap(), (200, "a page".to_owned()));
    client = client.ready().await.unwrap();
    client
}

type Answer = Result<(u16, String), h2::Error>;

/// Asks, with `:protocol` where the method is CONNECT.
async fn request(
    client: SendRequest<&'static [u8]>,
    method: Method,
    path: &str,
) -> (Answer, SendRequest<&'static [u8]>) {
    let mut client = client.ready().await.unwrap();
    let mut request =
        Request::builder().method(&method).uri(format!("https://rooms.example{path}")).version(Version::HTTP_2);
    if method == Method::CONNECT {
        request = request.extension(Protocol::from_static("websocket")).header("sec-websocket-version", "13");
    }
    let end = method != Method::CONNECT;
    let (response, _stream) = client.send_request(request.body(()).unwrap(), end).unwrap();
    let answer = async {
        let (head, mut body) = response.await?.into_parts();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data?);
        }
        Ok((head.status.as_u16(), String::from_utf8(text).unwrap()))
    };
    (answer.await, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http_2_is_refused_and_said_once_in_the_log() {
    let log = log::Log::start();
    let service = Service::start().await;
    let mut client = client(service.address).await;
    assert!(client.is_extended_connect_protocol_enabled(), "`axum::serve` announces it");
    for _ in 0..3 {
        let (answer, same) = request(client, Method::CONNECT, "/posts/42/live").await;
        client = same;
        if cfg!(feature = "http2") {
            assert_eq!(answer.unwrap_err().reason(), Some(h2::Reason::HTTP_1_1_REQUIRED));
        } else {
            let why = "WebSocket over HTTP/2 is not supported here: use HTTP/1.1".to_owned();
            assert_eq!(answer.unwrap(), (501, why));
        }
    }
    assert_eq!(log.ours().iter().filter(|line| line.contains("SETTINGS_ENABLE_CONNECT_PROTOCOL")).count(), 1);
    assert_eq!(service.rooms.stats().connections, 0);

    let mut socket = service.connect("/posts/42/live", &token("5")).await;
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    let (page, _) = request(client, Method::GET, "/").await;
    assert_eq!(page.unwrap().0, 200, "the connection lives");
}

#[tokio::test]
async fn the_server_of_the_docs_does_not_announce_websockets_over_http_2() {
    let Service { rooms, .. } = Service::start().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = routes().with_state(rooms.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let app = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), app).await;
            });
        }
    });
    assert!(!client(address).await.is_extended_connect_protocol_enabled());
    let mut socket = Service { rooms, address }.connect("/posts/42/live", &token("5")).await;
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
}
