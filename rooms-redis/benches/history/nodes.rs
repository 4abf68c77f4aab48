//! A node of the bench: rooms over Redis, and a listener whose clients say in one line where they want to be.

use std::net::SocketAddr;

use rooms_core::{Identity, JoinOptions, Kind, Limits, RoomKey, RoomManager, bus::Retention, ws};
use rooms_redis::RedisBus;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::redis_server::RedisServer;

pub(crate) struct Node {
    pub(crate) rooms: RoomManager,
    pub(crate) address: SocketAddr,
    /// The listener, which has its connections; all end with it.
    listening: tokio::task::JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(redis: &RedisServer) -> Self {
        let bus = RedisBus::connect(redis.url()).await.unwrap();
        let posts = Kind::authenticated().history(Retention::messages(500));
        let limits = |limits: &mut Limits| limits.max_connections_per_user = usize::MAX / 2;
        let rooms = RoomManager::builder().kind("post", posts).limits(limits).bus(bus).build().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, listening) = (listener.local_addr().unwrap(), tokio::spawn(listen(listener, rooms.clone())));
        Self { rooms, address, listening }
    }

    /// Cuts all connections, and takes new ones at another address.
    pub(crate) async fn cut(&mut self) {
        self.listening.abort();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.listening = tokio::spawn(listen(listener, self.rooms.clone()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, rooms: RoomManager) {
    let mut all = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        all.spawn(serve(stream, rooms.clone()));
        while all.try_join_next().is_some() {}
    }
}

/// The line has the room and, for one that was there before, its position.
async fn serve(stream: TcpStream, rooms: RoomManager) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(128, stream);
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let (room, since) = line.trim_end_matches('\n').split_once(' ')?;
    let options = JoinOptions::new().since(since);
    let early = reader.buffer().to_vec();
    let (stream, sink) = ws::tcp(reader.into_inner(), &early, rooms.limits()).ok()?;
    let room: RoomKey = room.parse().ok()?;
    rooms.serve_room_with(stream, sink, Identity::new("a").ok()?, room, options).await;
    Some(())
}
