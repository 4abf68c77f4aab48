//! A served program, and clients of it.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{extract::Path, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use jsonwebtoken::{EncodingKey, Header};
use rooms_axum::RoomUpgrade;
use rooms_core::{Endpoint, JwtAuthenticator, Kind, Limits, RoomKey, RoomManager};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, protocol::frame::coding::CloseCode},
};

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";
/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Service {
    pub(crate) rooms: RoomManager,
    pub(crate) address: SocketAddr,
}

pub(crate) async fn live(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
    upgrade.room("post", id)
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(limits: impl FnOnce(&mut Limits)) -> Self {
        Self::serve(Kind::authenticated(), limits).await
    }

    pub(crate) async fn with_kind(kind: Kind) -> Self {
        Self::serve(kind, |_| {}).await
    }

    async fn serve(kind: Kind, limits: impl FnOnce(&mut Limits)) -> Self {
        let rooms = RoomManager::builder()
            .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
            .endpoint(Endpoint::new().query_token("token"))
            .kind("post", kind)
            .limits(limits)
            .build()
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = crate::routes().with_state(rooms.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { rooms, address }
    }

    pub(crate) async fn connect(&self, path: &str, token: &str) -> Socket {
        self.try_connect(&format!("{path}?token={token}")).await.expect("an upgrade")
    }

    pub(crate) async fn try_connect(&self, uri: &str) -> Result<Socket, tungstenite::Error> {
        tokio_tungstenite::connect_async(format!("ws://{}{uri}", self.address)).await.map(|(socket, _)| socket)
    }

    /// Connects to `post:42` and takes the `room_joined`.
    pub(crate) async fn joined(&self, user: &str) -> Socket {
        let mut socket = self.connect("/posts/42/live", &token(user)).await;
        assert_eq!(next_json(&mut socket).await["type"], "room_joined");
        socket
    }

    /// A bare TCP stream that has joined `post:42`.
    pub(crate) async fn raw_joined(&self, user: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET /posts/42/live?token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token(user)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let read = read_until(&mut stream, "}").await;
        assert!(read.contains("room_joined"), "{read}");
        stream
    }

    /// Waits until a room has this many viewers.
    pub(crate) async fn viewers(&self, room: &str, viewers: usize) {
        let room: RoomKey = room.parse().unwrap();
        let settled = async {
            while self.rooms.local_viewers(&room) != viewers {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, settled).await.expect("the number of viewers");
    }
}

pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    timeout(PATIENCE, async {
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if text.contains(end) {
                return text;
            }
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the end instead of {end:?}: {text}");
        }
    })
    .await
    .expect("an answer in time")
}

/// The next message that is not a ping, as JSON.
pub(crate) async fn next_json(socket: &mut Socket) -> Value {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a message in time") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("a message instead of {other:?}"),
        }
    }
}

/// The close frame, after whatever comes before it.
pub(crate) async fn close_of(socket: &mut Socket) -> (CloseCode, String) {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a close in time") {
            Some(Ok(Message::Close(Some(frame)))) => return (frame.code, frame.reason.to_string()),
            Some(Ok(_)) => {}
            other => panic!("a close frame instead of {other:?}"),
        }
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token, to be spoiled.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn of(user: &str) -> Self {
        Self(Map::from_iter([("sub".to_owned(), json!(user)), ("exp".to_owned(), json!(now() + 3600))]))
    }

    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub(crate) fn build(self) -> Value {
        Value::Object(self.0)
    }
}

pub(crate) fn token(user: &str) -> String {
    token_with(Claims::of(user))
}

pub(crate) fn token_with(claims: Claims) -> String {
    sign(&claims.build(), SECRET)
}

pub(crate) fn sign(claims: &Value, secret: &[u8]) -> String {
    // Installs the cryptography that signing needs, too.
    _ = JwtAuthenticator::hs256(SECRET).unwrap();
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A good token whose header is another one.
pub(crate) fn with_header(header: &str, claims: &Value) -> String {
    let good = sign(claims, SECRET);
    let (_, rest) = good.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}
