//! Behind `serve` the answer to an upgrade goes out with the first messages, and waits for nothing else. That it is one write
//! is held by `cork` of `rooms-core`, which sees what has arrived after each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::SeqCst},
    time::Duration,
};

use axum::{Router, extract::Path, response::Response, routing::get};
use jsonwebtoken::{EncodingKey, Header};
use rooms_axum::RoomUpgrade;
use rooms_core::{Close, CloseCode, Endpoint, JwtAuthenticator, Kind, Revocation, RoomKey, RoomManager, Shutdown};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";
/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A served program with rooms of the kind `post`, and of the kind `slow`, whose rule waits for the door.
struct Served {
    rooms: RoomManager,
    address: SocketAddr,
    door: Arc<Semaphore>,
    /// How often a connection ended that has an `on_close`.
    ended: Arc<AtomicUsize>,
}

impl Served {
    async fn start() -> Self {
        let (door, ended) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let waits = Arc::clone(&door);
        let rule = move |_, _| {
            let waits = Arc::clone(&waits);
            async move { waits.acquire().await.map(SemaphorePermit::forget).is_ok() }
        };
        let rooms = RoomManager::builder()
            .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
            .endpoint(Endpoint::new().query_token("token").first_message_token())
            .kind("post", Kind::authenticated())
            .kind("slow", Kind::new().join_rule(rule))
            .build()
            .unwrap();
        let count = Arc::clone(&ended);
        let told = move |upgrade: RoomUpgrade, Path((kind, id)): Path<(String, String)>| async move {
            let on_close = move |_: Close| _ = count.fetch_add(1, SeqCst);
            upgrade.on_close(on_close).room(&kind, id)
        };
        let app = Router::new()
            .route("/rooms/{kind}/{id}", get(room))
            .route("/told/{kind}/{id}", get(told))
            .with_state(rooms.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = rooms.clone();
        tokio::spawn(async move {
            rooms_axum::serve(&serving, listener, app, pending(), Shutdown::within(Duration::from_secs(1))).await;
        });
        Self { rooms, address, door, ended }
    }

    async fn asks(&self, path: &str, query: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET {path}?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn nobody_is_left(&self) {
        let left = async {
            while self.rooms.stats().connections > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, left).await.expect("nobody is left");
    }
}

async fn room(upgrade: RoomUpgrade, Path((kind, id)): Path<(String, String)>) -> Response {
    upgrade.room(&kind, id)
}

fn token(user: &str) -> String {
    let claims = json!({"sub": user, "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    format!("token={token}")
}

/// What one read gives.
async fn read(stream: &mut TcpStream) -> String {
    String::from_utf8_lossy(&read_bytes(stream).await).into_owned()
}

async fn read_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer in time").unwrap();
    buffer[..length].to_vec()
}

/// Reads until a close frame with this code.
async fn is_closed_with(mut stream: TcpStream, code: CloseCode) {
    let mut all = Vec::new();
    while !all.windows(2).any(|two| two == code.get().to_be_bytes()) {
        let next = read_bytes(&mut stream).await;
        assert!(!next.is_empty(), "the end without {code}: {all:?}");
        all.extend(next);
    }
}

#[tokio::test]
async fn the_answer_stands_in_front_of_the_first_message() {
    let served = Served::start().await;
    // The first one waits until the bus has subscribed the room.
    let mut first = served.asks("/rooms/post/42", &token("1")).await;
    while !read(&mut first).await.contains("room_joined") {}
    for path in ["/rooms/post/42", "/told/post/42"] {
        let mut stream = served.asks(path, &token("2")).await;
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("room_joined"), "{path}: {answer}");
        let mut bad = served.asks(path, "token=bad").await;
        let answer = read(&mut bad).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("Invalid token"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_answer_waits_for_no_rule_and_no_token() {
    let served = Served::start().await;
    for path in ["/rooms/slow/1", "/told/slow/1"] {
        let mut stream = served.asks(path, &token("1")).await;
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{path}: {answer}");
        served.door.add_permits(1);
        assert!(read(&mut stream).await.contains("room_joined"), "{path}");
    }
    let mut without = served.asks("/rooms/post/1", "").await;
    let answer = read(&mut without).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "the token comes later: {answer}");
}

#[tokio::test]
async fn a_client_that_goes_while_it_joins_leaves_nothing() {
    let served = Served::start().await;
    let slow = RoomKey::new("slow", 1).unwrap();
    for path in ["/told/post/1", "/told/slow/1"] {
        let before = served.ended.load(SeqCst);
        // Gone before the answer, or with it.
        drop(served.asks(path, &token("1")).await);
        let ended = async {
            while served.ended.load(SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it is told");
        served.nobody_is_left().await;
    }
    assert_eq!((served.rooms.local_viewers(&slow), served.ended.load(SeqCst)), (0, 2));
}

#[tokio::test]
async fn who_is_revoked_or_met_by_a_shutdown_while_it_joins_is_told() {
    let served = Served::start().await;
    let mut revoked = served.asks("/rooms/slow/1", &token("1")).await;
    assert!(read(&mut revoked).await.starts_with("HTTP/1.1 101 "));
    served.rooms.revoke(Revocation::User("1".into())).await.unwrap();
    is_closed_with(revoked, CloseCode::REVOKED).await;
    let mut met = served.asks("/rooms/slow/1", &token("2")).await;
    assert!(read(&mut met).await.starts_with("HTTP/1.1 101 "));
    let rooms = served.rooms.clone();
    tokio::spawn(async move { rooms.shutdown(Duration::from_secs(1)).await });
    is_closed_with(met, CloseCode::RESTART).await;
    served.nobody_is_left().await;
}
