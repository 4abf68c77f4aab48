//! Opening one connection, as a browser would.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::Frames;
use crate::{Result, servers::SECRET};

/// What a client offers in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Nothing,
    /// permessage-deflate, as browsers do.
    Deflate,
}

/// A connection that has joined, and what else was read of it.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) frames: Frames,
}

/// Opens a connection to a room, and reads until it has joined.
pub(crate) fn open(port: u16, room: usize, number: usize, offer: Offer) -> Result<Opened> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("{error}: `ulimit -n 20000`?"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request(room, number, offer)?.as_bytes())?;
    let (mut frames, mut joined) = (Frames::default(), false);
    let (mut head, mut buffer) = (Some(Vec::new()), [0; 4096]);
    while !joined {
        let length = stream.read(&mut buffer)?;
        let mut read = buffer.get(..length).filter(|read| !read.is_empty()).ok_or("a connection was refused")?;
        let whole;
        if let Some(mut begun) = head.take() {
            begun.extend_from_slice(read);
            let Some(end) = begun.windows(4).position(|window| window == b"\r\n\r\n") else {
                head = Some(begun);
                continue;
            };
            if !begun.starts_with(b"HTTP/1.1 101 ") {
                return Err(String::from_utf8_lossy(&begun).into());
            }
            whole = begun.split_off(end + 4);
            read = &whole;
        }
        frames.feed(read, |message| {
            joined |= message.starts_with(b"{\"type\":\"room_joined\"");
            Ok(())
        })?;
    }
    Ok(Opened { stream, frames })
}

fn request(room: usize, number: usize, offer: Offer) -> Result<String> {
    let offer = match offer {
        Offer::Nothing => "",
        Offer::Deflate => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    };
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3600;
    let claims = json!({"sub": format!("user{number}"), "exp": end});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
    Ok(format!(
        "GET /posts/{room}/live?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    ))
}
