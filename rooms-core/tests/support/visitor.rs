//! Clients of an adapter without a framework, each from an address of its own choice, over a byte stream.

#![allow(dead_code, reason = "each test file uses its part")]

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, RoomManager, RoomManagerBuilder,
    adapter::{Admission, Refusal},
    ws,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// The token is the user's id, unless it is `bad`.
#[derive(Debug)]
pub(crate) struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        match attempt.token() {
            Some("bad") | None => Err(AuthError::Refused("bad")),
            Some(name) => Identity::new(name).map_err(|_| AuthError::Subject),
        }
    }
}

pub(crate) fn builder() -> RoomManagerBuilder {
    builder_with(Kind::authenticated().allow_publish())
}

/// With this kind of posts.
pub(crate) fn builder_with(post: Kind) -> RoomManagerBuilder {
    RoomManager::builder()
        .authenticator(Names)
        .endpoint(Endpoint::new().query_token("token").first_message_token())
        .kind("post", post)
}

/// Asks for an upgrade, from this address and with these headers besides.
pub(crate) async fn admit(
    rooms: &RoomManager,
    peer: &str,
    uri: &str,
    more: &[(&'static str, &str)],
) -> Result<Admission, Refusal> {
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in upgrade.into_iter().chain(more.iter().copied()) {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let peer = if peer.contains(':') { format!("[{peer}]:5000") } else { format!("{peer}:5000") };
    rooms.admit(rooms.endpoint(), &Method::GET, &uri.parse::<Uri>().unwrap(), &headers, peer.parse().ok()).await
}

/// The client's end of a socket.
pub(crate) struct Visitor(pub(crate) DuplexStream);

impl Visitor {
    /// In `post:42`.
    pub(crate) fn watching(admission: Admission) -> Self {
        let (ours, theirs) = duplex(256 * 1024);
        let limits = admission.limits().clone();
        admission
            .serve_room("post:42".parse().unwrap(), async move { Ok::<_, String>(ws::over(theirs, &[], &limits)) });
        Self(ours)
    }

    /// At the endpoint of many rooms.
    pub(crate) fn of_many(admission: Admission) -> Self {
        let (ours, theirs) = duplex(256 * 1024);
        let limits = admission.limits().clone();
        admission.serve(async move { Ok::<_, String>(ws::over(theirs, &[], &limits)) });
        Self(ours)
    }

    /// Joins `post:42` from an address.
    pub(crate) async fn joined(rooms: &RoomManager, peer: &str, user: &str) -> Self {
        let mut visitor = Self::watching(admit(rooms, peer, &format!("/?token={user}"), &[]).await.unwrap());
        let joined = visitor.event().await.expect("a place in the room");
        assert_eq!(joined["type"], "room_joined", "{joined}");
        visitor
    }

    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&frame(first, payload)).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(0x81, text.as_bytes()).await;
    }

    /// The next event, or the code with which it is closed.
    pub(crate) async fn event(&mut self) -> Result<Value, u16> {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).await.expect("a frame");
            let length = match head[1] {
                126 => usize::from(self.0.read_u16().await.unwrap()),
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.unwrap();
            match head[0] & 15 {
                1 => return Ok(serde_json::from_slice(&payload).unwrap()),
                8 => return Err(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
    }

    /// The next payload, past the events about viewers.
    pub(crate) async fn payload(&mut self) -> Value {
        loop {
            let event = self.event().await.expect("it stays connected");
            if !event["type"].as_str().is_some_and(|kind| kind.starts_with("viewer_")) {
                return event;
            }
        }
    }
}

/// A frame with a mask of zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
