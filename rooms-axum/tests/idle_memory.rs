//! What an idle connection keeps of this process's memory: the sum of the table in the guide (`tuning`), and what the guide
//! says of event streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    future::pending,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::Duration,
};

use axum::{Router, extract::Path, response::Response, routing::get};
use dhat::{HeapStats, Profiler};
use jsonwebtoken::{EncodingKey, Header};
use rooms_axum::{RoomEvents, RoomUpgrade};
use rooms_core::{Endpoint, JwtAuthenticator, Kind, Limits, RoomManager, Shutdown};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Builder};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";

/// Connections that share a room.
const ROOM: usize = 10;
/// Those that pay for what a process needs once.
const FIRST: usize = 100;
const CONNECTIONS: usize = 1_000;

/// The sum of the guide's table, 859, and 1% for its maps: how full they are depends on chance.
const MOST_BYTES: usize = 868;
/// Six of a connection's own, and its part of those of its room and of the timers.
const MOST_ALLOCATIONS: f64 = 6.6;

async fn live(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
    upgrade.room("post", id)
}

/// An event stream, with what hyper keeps for its HTTP connection: as the guide says (`event_streams`), and 1%.
const MOST_BYTES_OF_A_STREAM: usize = 32_300;
/// The same behind `rooms_axum::serve`.
const MOST_BYTES_OF_A_STREAM_HERE: usize = 23_000;

async fn events(events: RoomEvents, Path(id): Path<u64>) -> Response {
    events.room("post", id)
}

async fn serve(how: &How) -> SocketAddr {
    let rooms = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
        .endpoint(Endpoint::new().query_token("token").deflate())
        .kind("post", Kind::authenticated())
        // All are from one.
        .limits(|limits| (limits.max_connections_per_ip, limits.connect_burst_per_ip) = (10_000, 10_000))
        .build()
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app =
        Router::new().route("/posts/{id}/live", get(live)).route("/sse/{id}", get(events)).with_state(rooms.clone());
    match how {
        How::Events { by: By::RoomsAxum } => {
            let how = Shutdown::within(Duration::from_secs(1));
            tokio::spawn(async move { rooms_axum::serve(&rooms, listener, app, pending(), how).await });
        }
        How::Socket { .. } | How::Events { by: By::Axum } => {
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
    }
    address
}

#[derive(Debug)]
enum How {
    Socket { offer: &'static str },
    Events { by: By },
}

/// Whose `serve` it is.
#[derive(Debug)]
enum By {
    Axum,
    RoomsAxum,
}

/// Opens a connection, which keeps no memory on this side, and reads until it has joined.
fn joined(address: SocketAddr, number: usize, how: &How) -> TcpStream {
    let claims = json!({"sub": format!("user{number}"), "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    let room = number / ROOM;
    let head = match how {
        How::Socket { offer } => format!(
            "GET /posts/{room}/live?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        ),
        How::Events { .. } => format!("GET /sse/{room}?token={token} HTTP/1.1\r\nHost: x\r\n\r\n"),
    };
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&read).contains("room_joined") {
        let length = socket.read(&mut buffer).unwrap();
        assert!(length > 0, "the end of the stream");
        read.extend_from_slice(&buffer[..length]);
    }
    socket
}

/// `-- --nocapture` shows the figures.
#[test]
fn an_idle_connection_keeps_what_the_guide_says() {
    let _profiler = Profiler::builder().testing().build();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut sockets = Vec::with_capacity(4 * (FIRST + CONNECTIONS));
    // Past the viewer window of the last join, until when its room has something to tell.
    let settled = || {
        sleep(2 * Limits::default().viewer_window);
        HeapStats::get()
    };
    // Compression costs an idle connection nothing.
    for (how, most_bytes, most_allocations) in [
        (How::Socket { offer: "" }, MOST_BYTES, MOST_ALLOCATIONS),
        (How::Socket { offer: "Sec-WebSocket-Extensions: permessage-deflate\r\n" }, MOST_BYTES, MOST_ALLOCATIONS),
        (How::Events { by: By::Axum }, MOST_BYTES_OF_A_STREAM, f64::MAX),
        (How::Events { by: By::RoomsAxum }, MOST_BYTES_OF_A_STREAM_HERE, f64::MAX),
    ] {
        let address = runtime.block_on(serve(&how));
        sockets.extend((0..FIRST).map(|number| joined(address, number, &how)));
        let before = settled();
        sockets.extend((FIRST..FIRST + CONNECTIONS).map(|number| joined(address, number, &how)));
        let after = settled();
        let bytes = (after.curr_bytes - before.curr_bytes).div_ceil(CONNECTIONS);
        let allocations = (after.curr_blocks - before.curr_blocks) as f64 / CONNECTIONS as f64;
        println!("an idle connection keeps {bytes} bytes in {allocations:.1} allocations; {how:?}");
        assert!(bytes <= most_bytes, "{bytes} bytes; {how:?}");
        assert!(allocations <= most_allocations, "{allocations} allocations; {how:?}");
    }
}
