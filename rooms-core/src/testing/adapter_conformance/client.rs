//! A client of the suite: a WebSocket over bare TCP, which can also do what no client should.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

pub(super) struct Client {
    stream: TcpStream,
    /// What was read behind the last frame.
    rest: Vec<u8>,
    patience: Duration,
    pace: Option<Pace>,
    /// What was answered to the protocols that it offered.
    protocol: Option<String>,
}

/// How fast a client reads that is slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    bytes_per_second: u64,
}

impl Pace {
    /// How often it reads.
    const EVERY: Duration = Duration::from_millis(20);

    pub(super) const fn bytes_per_second(bytes_per_second: u64) -> Self {
        Self { bytes_per_second }
    }

    const fn at_once(self) -> u64 {
        self.bytes_per_second * Self::EVERY.as_millis() as u64 / 1_000
    }
}

/// The head of an HTTP answer.
#[derive(Debug)]
pub(super) struct Head(String);

impl Head {
    pub(super) fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// A header's value, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.0.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    /// Sends a request to open a WebSocket, and `early` in the same write; the answer's head where that is refused.
    pub(super) async fn open(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
        early: &[u8],
        patience: Duration,
    ) -> Result<Self, Head> {
        let request = request(address, target, headers);
        let (mut client, head) = Self::request(address, &[request.as_bytes(), early].concat(), patience).await;
        if head.status() != 101 {
            return Err(head);
        }
        // RFC 6455 section 1.3: the answer to this very key.
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head:?}");
        client.protocol = head.header("sec-websocket-protocol").map(str::to_owned);
        Ok(client)
    }

    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends these bytes, and reads the head of the answer.
    pub(super) async fn request(address: SocketAddr, bytes: &[u8], patience: Duration) -> (Self, Head) {
        let stream = TcpStream::connect(address).await.expect("a TCP connection");
        Self::request_over(stream, bytes, patience).await
    }

    /// Opens a WebSocket whose client keeps little in its kernel, and reads at this pace.
    pub(super) async fn open_slow(address: SocketAddr, target: &str, pace: Pace, patience: Duration) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(8 * 1024).expect("a small receive buffer");
        let stream = socket.connect(address).await.expect("a TCP connection");
        let (mut client, head) = Self::request_over(stream, request(address, target, &[]).as_bytes(), patience).await;
        assert_eq!(head.status(), 101, "{head:?}");
        client.pace = Some(pace);
        client
    }

    async fn request_over(stream: TcpStream, bytes: &[u8], patience: Duration) -> (Self, Head) {
        let mut client = Self { stream, rest: Vec::new(), patience, pace: None, protocol: None };
        client.write(bytes).await;
        let end = loop {
            if let Some(end) = client.rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            assert!(client.read().await > 0, "the end instead of an answer");
        };
        let head = client.rest.drain(..end + 4).collect();
        (client, Head(String::from_utf8(head).expect("a head in UTF-8")))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        timeout(self.patience, self.stream.write_all(bytes)).await.expect("a write in time").expect("a write");
    }

    /// Writes, though nobody may be there to read it.
    pub(super) async fn write_in_vain(&mut self, bytes: &[u8]) {
        _ = timeout(self.patience, self.stream.write_all(bytes)).await;
    }

    pub(super) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&frame(opcode, payload)).await;
    }

    pub(super) async fn say(&mut self, value: &Value) {
        self.send(TEXT, value.to_string().as_bytes()).await;
    }

    pub(super) async fn ask(&mut self, value: &Value) -> Value {
        self.say(value).await;
        self.json().await
    }

    /// The next frame: its opcode and its payload.
    pub(super) async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((opcode, header, length)) = self.whole() {
                let payload = self.rest.drain(..header + length).skip(header).collect();
                return (opcode, payload);
            }
            assert!(self.read().await > 0, "the end instead of a frame");
        }
    }

    /// The next message that is no ping, as JSON.
    pub(super) async fn json(&mut self) -> Value {
        loop {
            match self.frame().await {
                (TEXT, payload) => return serde_json::from_slice(&payload).expect("JSON"),
                (PING, _) => {}
                (opcode, payload) => panic!("{opcode:#x} {payload:?} instead of a message"),
            }
        }
    }

    /// The close frame, after whatever comes before it.
    pub(super) async fn close(&mut self) -> (u16, String) {
        loop {
            if let (CLOSE, payload) = self.frame().await {
                let (code, reason) = payload.split_first_chunk().expect("a code");
                return (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("a reason in UTF-8"));
            }
        }
    }

    /// The close frame, an answer to it, and the end of the stream.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        let close = self.close().await;
        self.write_in_vain(&frame(CLOSE, &close.0.to_be_bytes())).await;
        while self.read().await > 0 {}
        assert!(self.rest.is_empty(), "something comes after the close frame");
        close
    }

    /// Answers a close frame.
    pub(super) async fn answer(&mut self, code: u16) {
        self.send(CLOSE, &code.to_be_bytes()).await;
    }

    /// The end of the stream, with nothing in front of it.
    pub(super) async fn end(&mut self) {
        while self.read().await > 0 {}
        assert!(self.rest.is_empty(), "something comes before the end");
    }

    /// Whether nothing comes for a while, not even the end.
    pub(super) async fn is_silent_for(&mut self, while_: Duration) -> bool {
        timeout(while_, self.stream.read_buf(&mut self.rest)).await.is_err()
    }

    /// Goes without a good-bye.
    pub(super) fn vanish(self) {
        self.stream.set_zero_linger().expect("a socket");
    }

    /// The opcode of a frame that is there whole, and the lengths of its header and its payload.
    fn whole(&self) -> Option<(u8, usize, usize)> {
        let (first, short) = (*self.rest.first()?, *self.rest.get(1)?);
        assert_eq!(first & 0xF0, 0x80, "a server's frame is final, and has no reserved bit");
        let (header, length) = match short {
            127 => (10, usize::try_from(u64::from_be_bytes(*self.rest.get(2..)?.first_chunk()?)).expect("a length")),
            126 => (4, usize::from(u16::from_be_bytes(*self.rest.get(2..)?.first_chunk()?))),
            short => (2, usize::from(short)),
        };
        (self.rest.len() >= header + length).then_some((first & 0x0F, header, length))
    }

    /// Reads some; 0 at the end, which a reset is, too.
    async fn read(&mut self) -> usize {
        let most = match self.pace {
            Some(pace) => {
                sleep(Pace::EVERY).await;
                pace.at_once()
            }
            None => u64::MAX,
        };
        let mut some = (&mut self.stream).take(most);
        let read = timeout(self.patience, some.read_buf(&mut self.rest)).await;
        read.expect("an answer in time").unwrap_or(0)
    }
}

fn request(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> String {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A final frame of a client's, masked.
pub(super) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    part(0x80 | opcode, payload)
}

/// A frame of a client's whose first byte is this one.
pub(super) fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
