//! WebSockets over HTTP/2 behind hyper-util: streams that are reset, closed by half, and a flood of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest, ext::Protocol};
use http::{Method, Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rooms_core::{Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, RoomKey, RoomManager};
use rooms_warp::RoomUpgrade;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};
use warp::Filter as _;

const PATIENCE: Duration = Duration::from_secs(30);

/// The token is the user.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        Identity::new(attempt.token().ok_or(AuthError::Missing)?).map_err(|_| AuthError::Subject)
    }
}

struct Service {
    rooms: RoomManager,
    address: SocketAddr,
    /// The upgrades that were let in.
    upgrades: Arc<AtomicUsize>,
}

impl Service {
    async fn start() -> Self {
        let rooms = RoomManager::builder()
            .authenticator(Names)
            .endpoint(Endpoint::new().query_token("token"))
            .kind("post", Kind::authenticated())
            .build()
            .unwrap();
        let upgrades = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&upgrades);
        let live = warp::path!("live").and(rooms_warp::upgrade(&rooms)).map(move |upgrade: RoomUpgrade| {
            counted.fetch_add(1, Ordering::Relaxed);
            upgrade.room("post", 42)
        });
        let app = TowerToHyperService::new(warp::service(warp::path::end().map(|| "a page".to_owned()).or(live)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let app = app.clone();
                tokio::spawn(async move {
                    let mut server = Builder::new(TokioExecutor::new());
                    server.http2().enable_connect_protocol();
                    _ = server.serve_connection_with_upgrades(TokioIo::new(stream), app).await;
                });
            }
        });
        Self { rooms, address, upgrades }
    }

    async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let client = Client(requests);
        client.page().await;
        client
    }

    async fn until(&self, settled: impl Fn(&RoomManager) -> bool + Send + Sync) {
        let waits = async {
            while !settled(&self.rooms) {
                yield_now().await;
            }
        };
        timeout(PATIENCE, waits).await.expect("so it is in time");
    }

    async fn like(&self) {
        self.rooms.broadcast(&post(), &json!({"type": "liked"})).await.unwrap();
    }
}

/// A connection that knows the server's settings.
struct Client(SendRequest<Bytes>);

impl Client {
    /// Loads the page, as proof that the connection lives.
    async fn page(&self) {
        let mut ready = self.0.clone().ready().await.unwrap();
        let request = Request::builder().uri("https://rooms.example/").body(()).unwrap();
        let (response, _) = ready.send_request(request, true).unwrap();
        let mut body = timeout(PATIENCE, response).await.expect("an answer in time").unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "a page");
    }

    async fn joined(&self, user: &str) -> Socket {
        let mut ready = self.0.clone().ready().await.unwrap();
        let (response, to_server) = ready.send_request(upgrade(user), false).unwrap();
        let response = timeout(PATIENCE, response).await.expect("an answer in time").unwrap();
        assert_eq!(response.status(), 200);
        let mut socket = Socket { to_server, from_server: response.into_body(), rest: Vec::new() };
        assert_eq!(socket.json().await["type"], "room_joined");
        socket
    }
}

/// A WebSocket that is a stream of an HTTP/2 connection.
struct Socket {
    to_server: SendStream<Bytes>,
    from_server: RecvStream,
    rest: Vec<u8>,
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
            let data = timeout(PATIENCE, self.from_server.data()).await.expect("a frame in time");
            let data = data.expect("a frame").unwrap();
            self.from_server.flow_control().release_capacity(data.len()).unwrap();
            self.rest.extend_from_slice(&data);
        }
    }
}

fn upgrade(user: &str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://rooms.example/live?token={user}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap()
}

fn post() -> RoomKey {
    RoomKey::new("post", 42).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_or_closed_by_half_has_left_and_no_other_of_its_connection() {
    let service = Service::start().await;
    let client = service.client().await;
    let mut stays = client.joined("5").await;
    let mut streams = Vec::new();
    for n in 0..20 {
        streams.push(client.joined(&format!("u{n}")).await);
    }
    service.until(|rooms| rooms.local_viewers(&post()) == 21).await;
    for (n, stream) in streams.iter_mut().enumerate() {
        match n % 3 {
            0 => stream.to_server.send_reset(Reason::CANCEL),
            1 => stream.to_server.send_data(Bytes::new(), true).unwrap(),
            // Within a frame.
            _ => stream.to_server.send_data(Bytes::from_static(&[0x81]), true).unwrap(),
        }
    }
    service.until(|rooms| rooms.local_viewers(&post()) == 1 && rooms.stats().connections == 1).await;
    service.like().await;
    while stays.json().await["type"] != "liked" {}
    client.page().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_that_are_reset_leaves_nothing_behind_and_delays_nobody() {
    let service = Service::start().await;
    let neighbour = service.client().await;
    let mut stays = neighbour.joined("5").await;
    for _ in 0..5 {
        timeout(PATIENCE, flood(&service)).await.expect("a flood is served, or its connection ends, in time");
    }
    assert!(service.upgrades.load(Ordering::Relaxed) > 5, "each of the five floods was served");
    service.until(|rooms| rooms.stats().connections == 1 && rooms.local_viewers(&post()) == 1).await;
    service.like().await;
    while stays.json().await["type"] != "liked" {}
    neighbour.page().await;
}

/// Asks for a hundred streams on a connection of its own, and resets each at once.
async fn flood(service: &Service) {
    let client = service.client().await;
    let before = service.upgrades.load(Ordering::Relaxed);
    for n in 0..100 {
        // Past a number of resets the server ends the connection.
        let Ok(mut ready) = client.0.clone().ready().await else { break };
        let Ok((_, mut stream)) = ready.send_request(upgrade("6"), false) else { break };
        // The first of a connection is let in before it is reset.
        while n == 0 && service.upgrades.load(Ordering::Relaxed) == before {
            yield_now().await;
        }
        stream.send_reset(Reason::CANCEL);
    }
    // Its answer, or its end, comes after all that was sent before it.
    if let Ok(mut ready) = client.0.ready().await
        && let Ok((answer, _)) =
            ready.send_request(Request::builder().uri("https://rooms.example/").body(()).unwrap(), true)
    {
        _ = answer.await;
    }
}
