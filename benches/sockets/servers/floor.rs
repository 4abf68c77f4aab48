//! What fan-out over TCP costs at least: shake hands, then `write(2)` a ready frame to each member.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rooms::Message;
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Command, Filling, announce};
use crate::Result;

type Rooms = Arc<Mutex<HashMap<u32, Vec<Arc<TcpStream>>>>>;

pub(super) fn serve(filling: &Filling, each: u32) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let control = TcpListener::bind(("127.0.0.1", 0))?;
    announce(listener.local_addr()?, control.local_addr()?);
    let rooms = Rooms::default();
    let members = Arc::clone(&rooms);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away in its handshake is no reason to stop.
            if let Ok((first, stream)) = shake_hands(stream) {
                let stream = Arc::new(stream);
                let mut rooms = members.lock().unwrap_or_else(PoisonError::into_inner);
                for room in first..first + each {
                    rooms.entry(room).or_default().push(Arc::clone(&stream));
                }
            }
        }
    });
    for connection in control.incoming() {
        let mut connection = connection?;
        let mut command = [0; 8];
        while connection.read_exact(&mut command).is_ok() {
            let command = Command::decode(command);
            let message = Message::json(&filling.payload(command))?;
            let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
            // One that has gone is let go.
            rooms.entry(command.room).or_default().retain(|member| (&**member).write_all(message.frame()).is_ok());
        }
    }
    Ok(())
}

/// For clients that come one after the other.
pub(super) fn shake_hands_only() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    announce(listener.local_addr()?, listener.local_addr()?);
    for stream in listener.incoming() {
        let (_, mut stream) = shake_hands(stream?)?;
        io::copy(&mut stream, &mut io::sink()).or_else(gone)?;
    }
    Ok(())
}

/// A client that leaves something unread resets its connection.
fn gone(error: io::Error) -> io::Result<u64> {
    if error.kind() == io::ErrorKind::ConnectionReset { Ok(0) } else { Err(error) }
}

/// Reads a request as quickly as can be, and answers it.
pub(super) fn shake_hands(mut stream: TcpStream) -> Result<(u32, TcpStream)> {
    stream.set_nodelay(true)?;
    let (mut room, mut key) = (None, None);
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        if let Some(path) = line.strip_prefix("GET /posts/") {
            room = path.split('/').next().and_then(|room| room.parse().ok());
        }
        key = key.or_else(|| line.strip_prefix("Sec-WebSocket-Key: ").map(str::to_owned));
        if line.is_empty() {
            break;
        }
    }
    let (room, key) = room.zip(key).ok_or("not a handshake")?;
    let answer = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {answer}\r\n\r\n"
    );
    let joined = Message::json(&json!({"type": "room_joined"}))?;
    stream.write_all(&[head.as_bytes(), joined.frame()].concat())?;
    Ok((room, stream))
}
