//! A client over bare TCP that goes step by step.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::served::PATIENCE;

/// What a stranger is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused(u16),
    /// Upgraded, and closed with this code.
    Closed(u16),
    Joined,
}

use Answer::{Closed, Joined, Refused};

pub(crate) struct Stranger {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Stranger {
    /// From the address 127.0.0.`from`.
    pub(crate) async fn connect(to: SocketAddr, from: u8) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
        let stream = timeout(PATIENCE, socket.connect(to)).await.expect("it is accepted in time").unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Asks for a WebSocket.
    pub(crate) async fn asks(to: SocketAddr, from: u8, target: &str, headers: &str) -> Self {
        let mut stranger = Self::connect(to, from).await;
        stranger.says(request(target, headers).as_bytes()).await;
        stranger
    }

    pub(crate) async fn says(&mut self, bytes: &[u8]) {
        // The server may have said no before all of it is out.
        _ = self.stream.write_all(bytes).await;
    }

    /// Reads until it is refused, closed, or in the room.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            if let Some(end) = self.head() {
                match (self.status(), &self.read[end..]) {
                    (101, [0x88, _, high, low, ..]) => return Closed(u16::from_be_bytes([*high, *low])),
                    (101, frame) if frame.windows(11).any(|text| text == b"room_joined") => return Joined,
                    (101, _) => {}
                    (status, _) => return Refused(status),
                }
            }
            self.reads_more().await;
        }
    }

    /// Reads until the status of its answer is there.
    pub(crate) async fn upgraded(&mut self) -> u16 {
        while self.head().is_none() {
            self.reads_more().await;
        }
        self.status()
    }

    /// Reads until this stands there so often.
    pub(crate) async fn reads(&mut self, text: &str, times: usize) -> String {
        loop {
            let read = String::from_utf8_lossy(&self.read);
            if read.matches(text).count() >= times {
                return read.into_owned();
            }
            self.reads_more().await;
        }
    }

    async fn reads_more(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("an answer in time");
        let text = String::from_utf8_lossy(&self.read);
        assert!(read.unwrap_or(0) > 0, "the end in place of an answer: {text}");
    }

    /// Where the head of its answer ends.
    fn head(&self) -> Option<usize> {
        self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|end| end + 4)
    }

    fn status(&self) -> u16 {
        String::from_utf8_lossy(&self.read[9..12]).parse().unwrap()
    }
}

pub(crate) fn request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame with a mask of zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
