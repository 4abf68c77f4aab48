//! What clients can write into a program's log, over bare sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rooms_core::{Endpoint, JwtAuthenticator, Kind, RoomManager};
use rooms_warp::RoomUpgrade;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _};
use warp::Filter as _;

/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(ToOwned::to_owned).collect()
    }
}

/// The filter that the crate's docs name.
fn documented() -> Targets {
    Targets::new().with_default(LevelFilter::INFO).with_target("warp::server", LevelFilter::OFF)
}

/// The log of what happens in a test that has one thread.
fn logged(targets: Targets) -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    (log, tracing::subscriber::set_default(tracing_subscriber::registry().with(lines).with(targets)))
}

async fn served() -> SocketAddr {
    let tokens = JwtAuthenticator::hs256("a secret of at least 32 bytes....").unwrap().issuer("us").audience("rooms");
    let rooms = RoomManager::builder()
        .authenticator(tokens)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated())
        .build()
        .unwrap();
    let room = |id: String, upgrade: RoomUpgrade| upgrade.room("post", id);
    let live = warp::path!("posts" / String / "live").and(rooms_warp::upgrade(&rooms)).map(room);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(live).incoming(listener).run());
    address
}

/// Sends these bytes and reads the answer to its end.
async fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut read = Vec::new();
    // A reset is an end, too.
    _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("the end in time");
    String::from_utf8_lossy(&read).into_owned()
}

/// Requests that hyper can't read.
const MALFORMED: [&[u8]; 4] = [
    b"nonsense\r\n\r\n",
    b"GET /posts/42/live HTTP/9.9\r\n\r\n",
    b"GET /posts/ /live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// Requests that reach the filter, and are no upgrade that may be.
const REFUSED: [&str; 6] = [
    "GET /posts/42/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "POST /posts/42/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "GET /posts/42/live HTTP/1.1\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET /posts/42/live?token=a&token=b HTTP/1.1\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /posts/42/live?token=%zz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
];

#[tokio::test]
async fn what_the_filter_refuses_is_no_line_in_the_log() {
    let (log, _guard) = logged(Targets::new().with_default(LevelFilter::INFO));
    let address = served().await;
    for request in REFUSED {
        let answer = answer(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{request}: {answer}");
    }
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test]
async fn requests_that_can_not_be_read_are_logged_by_warp_and_the_documented_filter_silences_that() {
    for (targets, each) in [(Targets::new().with_default(LevelFilter::INFO), 1), (documented(), 0)] {
        let (log, _guard) = logged(targets);
        let address = served().await;
        for request in MALFORMED {
            answer(address, request).await;
        }
        // Whoever was logged of is gone: this one was accepted after them, and is answered after them.
        answer(address, REFUSED[0].as_bytes()).await;
        let lines = log.lines();
        assert_eq!(lines.len(), MALFORMED.len() * each, "{lines:#?}");
        assert!(lines.iter().all(|line| line.contains("ERROR warp::server")), "{lines:#?}");
    }
}
