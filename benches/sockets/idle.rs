//! What an idle connection costs in resident memory, its room membership included.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Result, process::Server, server::SECRET};

/// Connections that share a room.
const ROOM: usize = 10;
/// Handshakes under way at once.
const AT_ONCE: usize = 32;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(connections: usize) -> Result<()> {
    let server = Server::start()?;
    // The first connections pay for what every process needs once.
    drop(open(server.port, 0..100).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.resident()?;
    let open = open(server.port, 100..100 + connections).await?;
    // Past every viewer window: nothing is under way any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = server.resident()?;
    let each = after.saturating_sub(before) / open.len();
    println!("{} idle connections in rooms of {ROOM}: {each} bytes of resident memory each", open.len());
    println!(
        "{}",
        json!({"scenario": "idle", "connections": open.len(), "before": before, "after": after, "each": each})
    );
    Ok(())
}

async fn open(port: u16, numbers: std::ops::Range<usize>) -> Result<Vec<TcpStream>> {
    stream::iter(numbers.map(|number| connect(port, number))).buffer_unordered(AT_ONCE).try_collect().await
}

/// Opens a connection and reads until it has joined.
async fn connect(port: u16, number: usize) -> Result<TcpStream> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3600;
    let claims = json!({"sub": format!("user{number}"), "exp": end});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
    let mut socket =
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| format!("{error}: `ulimit -n 20000`?"))?;
    let request = format!(
        "GET /posts/{}/live?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        number / ROOM
    );
    socket.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("room_joined") {
        if socket.read_buf(&mut read).await? == 0 {
            return Err("the server closed a connection".into());
        }
    }
    Ok(socket)
}
