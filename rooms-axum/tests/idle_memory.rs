//! What an idle connection keeps of this process's memory: what the guide says of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use axum::{Router, extract::Path, response::Response, routing::get};
use dhat::{HeapStats, Profiler};
use jsonwebtoken::{EncodingKey, Header};
use rooms_axum::RoomUpgrade;
use rooms_core::{Endpoint, JwtAuthenticator, Kind, RoomManager};
use serde_json::json;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";

async fn live(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
    upgrade.room("post", id)
}

fn connect(address: SocketAddr, number: usize) -> TcpStream {
    let claims = json!({"sub": format!("user{number}"), "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET /posts/{}/live?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        number / 10
    );
    socket.write_all(request.as_bytes()).unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
    while !read.windows(11).any(|bytes| bytes == b"room_joined") {
        let length = socket.read(&mut buffer).unwrap();
        assert!(length > 0);
        read.extend_from_slice(&buffer[..length]);
    }
    socket
}

#[test]
fn an_idle_connection_keeps_little() {
    let dump = std::env::var_os("DHAT_DUMP").is_some();
    let _profiler =
        if dump { Profiler::builder().trim_backtraces(None).build() } else { Profiler::builder().testing().build() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let rooms = RoomManager::builder()
            .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
            .endpoint(Endpoint::new().query_token("token"))
            .kind("post", Kind::authenticated())
            .build()
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/posts/{post}/live", get(live)).with_state(rooms);
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    });
    let mut sockets = Vec::with_capacity(1_100);
    sockets.extend((0..100).map(|number| connect(address, number)));
    std::thread::sleep(Duration::from_millis(600));
    let before = (!dump).then(HeapStats::get);
    sockets.extend((100..1_100).map(|number| connect(address, number)));
    std::thread::sleep(Duration::from_millis(600));
    if let Some(before) = before {
        let after = HeapStats::get();
        println!("{} bytes {} blocks", after.curr_bytes - before.curr_bytes, after.curr_blocks - before.curr_blocks);
    } else {
        drop(_profiler);
        std::process::exit(0);
    }
}
