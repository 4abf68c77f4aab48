//! Event streams and the places of HTTP connections, for the `serve` of an adapter: `/live` is a stream of `post:42`, and `/`
//! answers anything, and `/long` with 64 KiB.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use rooms_core::{Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, Limits, RoomKey, RoomManager};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The token is the user.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        Identity::new(attempt.token().ok_or(AuthError::Missing)?).map_err(|_| AuthError::Subject)
    }
}

/// With places for two HTTP connections, and for three connections to rooms.
pub(crate) fn rooms() -> RoomManager {
    rooms_with(|limits| {
        (limits.max_http_connections, limits.max_http_connections_per_ip) = (2, 2);
        limits.max_connections_per_ip = 3;
    })
}

fn rooms_with(limits: impl FnOnce(&mut Limits)) -> RoomManager {
    RoomManager::builder()
        .authenticator(Names)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated())
        .limits(limits)
        .build()
        .unwrap()
}

/// That notices soon who is gone.
pub(crate) fn rooms_with_short_pings() -> RoomManager {
    rooms_with(|limits| {
        limits.max_http_connections = 2;
        (limits.ping_interval, limits.pong_timeout) = (Duration::from_millis(200), Duration::from_millis(300));
    })
}

struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// A client that reads a stream.
    async fn reading(address: SocketAddr, user: &str) -> Self {
        let mut client = Self::connect(address).await;
        let begin = client.ask(&format!("/live?token={user}"), "room_joined").await;
        assert!(begin.starts_with("HTTP/1.1 200 "), "{begin}");
        client
    }

    /// Asks, and reads until this text has come, or to the end.
    async fn ask(&mut self, path: &str, text: &str) -> String {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        self.until(text).await
    }

    async fn until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        let found = async {
            loop {
                let so_far = String::from_utf8_lossy(&read).into_owned();
                if so_far.contains(text) || self.0.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    return so_far;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("an answer in time")
    }

    /// Whether it is served, and goes on to be.
    async fn is_answered(&mut self) -> bool {
        self.ask("/", "here").await.starts_with("HTTP/1.1 200 ")
    }
}

/// Who is gone without a word has left after a while, and who takes nothing keeps no place.
#[cfg(target_os = "linux")]
pub(crate) async fn who_is_gone_without_a_word_has_left(address: SocketAddr, rooms: &RoomManager) {
    // What comes to the socket is dropped before TCP sees it, as where the network is gone: "return 0".
    let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    let gone = [Client::reading(address, "5").await, Client::reading(address, "6").await];
    for client in &gone {
        socket2::SockRef::from(&client.0).attach_filter(&nothing).unwrap();
    }
    let left = async {
        while rooms.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, left).await.expect("they have left, as nothing of the pings is confirmed");
    for _ in 0..2 {
        assert!(Client::connect(address).await.is_answered().await);
    }
    // A client that confirms what comes, and takes nothing of it.
    let mut stalled = Client::connect(address).await;
    let asked = "GET /long HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    stalled.0.write_all(asked.as_bytes()).await.unwrap();
    let mut waits = [Client::connect(address).await, Client::connect(address).await];
    for client in &mut waits {
        assert!(client.is_answered().await, "in the place of the stalled one");
    }
    drop((gone, stalled));
}

/// As many streams as there are places leave a place for whoever comes; they count as connections to rooms.
pub(crate) async fn streams_keep_nobody_out(address: SocketAddr, rooms: &RoomManager) {
    let mut streams = Vec::new();
    for user in 0..3 {
        streams.push(Client::reading(address, &user.to_string()).await);
        assert!(Client::connect(address).await.is_answered().await, "beside {} streams", streams.len());
    }
    assert_eq!(rooms.stats().connections, 3);
    let refused = Client::connect(address).await.ask("/live?token=4", "\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "one too many connections to rooms: {refused}");
    assert!(Client::connect(address).await.is_answered().await);
}

/// A connection whose stream has ended has a place again, and goes on; where none is free it is closed.
pub(crate) async fn a_stream_that_has_ended_takes_a_place_or_is_closed(address: SocketAddr, rooms: &RoomManager) {
    let room: RoomKey = "post:42".parse().unwrap();
    // The last chunk of the answer.
    let end = "\r\n0\r\n\r\n";
    let mut client = Client::reading(address, "5").await;
    rooms.kick(&room, "5", "").await.unwrap();
    assert!(client.until(end).await.ends_with(end));
    assert!(client.is_answered().await, "there was a place");
    let mut idle = Client::connect(address).await;
    assert!(idle.is_answered().await);
    let mut waits = Client::connect(address).await;
    let early = timeout(Duration::from_millis(300), waits.is_answered()).await;
    assert!(early.is_err(), "{early:?} beside two others");
    drop((client, idle, waits));

    let mut client = Client::reading(address, "5").await;
    let mut others = [Client::connect(address).await, Client::connect(address).await];
    for other in &mut others {
        assert!(other.is_answered().await, "the place of the stream is free");
    }
    rooms.kick(&room, "5", "").await.unwrap();
    let rest = client.until("never").await;
    assert!(rest.ends_with(end), "its end, and that of the connection: {rest}");
    for other in &mut others {
        assert!(other.is_answered().await);
    }
}
