//! A manager that compresses, and a client over a byte stream that sees what comes compressed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io;

use async_trait::async_trait;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use rooms_core::{Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, Limits, RoomKey, RoomManager, ws};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";

#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        attempt
            .token()
            .map_or_else(|| Ok(Identity::guest()), |user| Identity::new(user).map_err(|_| AuthError::Subject))
    }
}

pub(crate) fn manager(limits: impl FnOnce(&mut Limits)) -> RoomManager {
    RoomManager::builder()
        .authenticator(Anybody)
        .endpoint(Endpoint::new().query_token("token").first_message_token().deflate())
        .kind("post", Kind::public().allow_publish().allow_binary())
        .limits(limits)
        .build()
        .unwrap()
}

pub(crate) fn post() -> RoomKey {
    RoomKey::new("post", 42).unwrap()
}

/// A client that unpacks nothing.
pub(crate) struct Client {
    io: DuplexStream,
    pub(crate) extensions: Option<String>,
}

/// A frame of the server.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn headers(offer: Option<&'static str>) -> HeaderMap {
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let offer = offer.map(|offer| ("sec-websocket-extensions", offer));
    let all = upgrade.into_iter().chain(offer);
    all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

impl Client {
    pub(crate) async fn connect(
        rooms: &RoomManager,
        uri: &'static str,
        offer: Option<&'static str>,
        in_many: bool,
    ) -> Self {
        let headers = headers(offer);
        let admission =
            rooms.admit(rooms.endpoint(), &Method::GET, &Uri::from_static(uri), &headers, None).await.unwrap();
        let answered = admission.response().headers().get("sec-websocket-extensions").cloned();
        let (io, server) = duplex(4 * 1024 * 1024);
        let limits = rooms.limits().clone();
        let socket = async move { Ok::<_, io::Error>(ws::over(server, &[], &limits)) };
        if in_many {
            admission.serve(socket);
        } else {
            admission.serve_room(post(), socket);
        }
        Self { io, extensions: answered.map(|value| value.to_str().unwrap().to_owned()) }
    }

    /// A member of `post:42` that has heard of that.
    pub(crate) async fn joined(rooms: &RoomManager, offer: Option<&'static str>) -> Self {
        let mut client = Self::connect(rooms, "/?token=5", offer, false).await;
        assert_eq!(client.json().await["type"], "room_joined");
        client
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        let mut header = [0; 2];
        self.io.read_exact(&mut header).await.unwrap();
        let length = match header[1] {
            126 => usize::from(self.io.read_u16().await.unwrap()),
            127 => usize::try_from(self.io.read_u64().await.unwrap()).unwrap(),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.unwrap();
        Frame { first: header[0], payload }
    }

    /// The next frame that is no event of the server's own.
    pub(crate) async fn broadcast(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if !frame.payload.starts_with(b"{\"type\":\"viewer") {
                return frame;
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame.first, 0x81, "plain text");
        serde_json::from_slice(&frame.payload).unwrap()
    }

    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            middle @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.io.write_all(&frame).await.unwrap();
    }

    /// The code of the close frame, after whatever comes before it.
    pub(crate) async fn close(&mut self) -> u16 {
        loop {
            let frame = self.frame().await;
            if frame.first == 0x88 {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }
}

impl Frame {
    pub(crate) fn is_compressed(&self) -> bool {
        self.first == 0xC1
    }

    /// The payload, unpacked by zlib with a window of so many bits.
    pub(crate) fn unpacked(&self, window_bits: u8) -> Value {
        assert!(self.is_compressed(), "{:#x}", self.first);
        serde_json::from_slice(&self.unpacked_bytes(window_bits)).unwrap()
    }

    pub(crate) fn unpacked_bytes(&self, window_bits: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        let input = [&*self.payload, &[0, 0, 0xFF, 0xFF]].concat();
        let mut zlib = Decompress::new_with_window_bits(false, window_bits);
        zlib.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
        out
    }

    pub(crate) fn plain(&self) -> Value {
        assert_eq!(self.first, 0x81);
        serde_json::from_slice(&self.payload).unwrap()
    }
}

pub(crate) fn packed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() / 2 + 1024);
    let mut zlib = Compress::new(Compression::best(), false);
    zlib.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(zlib.total_in(), payload.len() as u64);
    out.truncate(out.len() - 4);
    out
}
