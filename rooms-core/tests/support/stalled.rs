//! What the kernel keeps for a client that does not read, behind the `serve` of an adapter: `/socket` is the room `post:1`.

use std::{fs, net::SocketAddr};

use async_trait::async_trait;
use rooms_core::{Attempt, AuthError, Authenticator, Endpoint, Identity, Kind, Limits, Message, RoomKey, RoomManager};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Together less than an outbox and the log of a room may hold, and far more than the send buffer: 900 KB.
const MESSAGES: usize = 15;
const LENGTH: usize = 60_000;

#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, _: &Attempt<'_>) -> Result<Identity, AuthError> {
        Ok(Identity::guest())
    }
}

pub(crate) fn manager() -> RoomManager {
    let endpoint = Endpoint::new().query_token("token");
    RoomManager::builder().authenticator(Anybody).endpoint(endpoint).kind("post", Kind::public()).build().unwrap()
}

/// The kernel takes twice what the option says, and the rest waits in the member's outbox, where it is bounded and the room's
/// rule for slow members decides.
pub(crate) async fn the_send_buffer_is_bounded(address: SocketAddr, rooms: RoomManager) {
    let room = RoomKey::new("post", 1).unwrap();
    let stalled = join(address).await;
    let mut reading = join(address).await;
    let text = "x".repeat(LENGTH);
    for _ in 0..MESSAGES {
        _ = rooms.broadcast(&room, &text).await.unwrap();
    }
    // Members are given a message in the order in which they joined: what the second one has, the first one was given.
    let (mut left, mut buffer) = (MESSAGES * LENGTH, vec![0; LENGTH]);
    while left > 0 {
        let read = reading.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the end of the stream");
        left = left.saturating_sub(read);
    }
    let most = 2 * Limits::default().send_buffer_bytes.unwrap() + Message::text(text).frame().len();
    let kept = kept_by_the_kernel(address, stalled.local_addr().unwrap());
    assert!((1..=most).contains(&kept), "the kernel keeps {kept} bytes, and may keep {most}");
}

/// A client whose kernel takes as little as there is, once it has joined.
async fn join(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = "GET /socket?token=x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("room_joined") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the end of the stream");
    }
    stream
}

/// What the server has written and its client has not taken: the column `tx_queue` of proc_net_tcp(5), by the ports of both.
fn kept_by_the_kernel(server: SocketAddr, client: SocketAddr) -> usize {
    let all = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let ends = [server, client].map(|end| format!(":{:04X}", end.port()));
    let of_server = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        matches!(columns[..], [_, local, peer, ..] if local.ends_with(&ends[0]) && peer.ends_with(&ends[1]))
    };
    let line = all.lines().find(of_server).expect("the socket of the server");
    let queues = line.split_whitespace().nth(4).unwrap();
    usize::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}
