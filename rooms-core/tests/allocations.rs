//! What a broadcast allocates: as much for ten thousand members as for a hundred.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use dhat::{HeapStats, Profiler};
use futures::Sink;
use rooms_core::{Connection, Identity, Kind, Message, RoomKey, RoomManager};
use tokio::task::yield_now;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const PAYLOAD: usize = 64 * 1024;

/// Takes everything, keeps nothing.
struct Counter(Arc<AtomicUsize>);

impl Sink<Message> for Counter {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), Infallible> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

struct Room {
    rooms: RoomManager<Counter>,
    key: RoomKey,
    given: Arc<AtomicUsize>,
    members: Vec<Connection>,
}

impl Room {
    async fn with(members: usize) -> Self {
        let rooms = RoomManager::build_for()
            .kind("post", Kind::authenticated())
            .limits(|limits| limits.max_connections_per_user = usize::MAX)
            .build()
            .unwrap();
        let mut room = Self { rooms, key: "post:42".parse().unwrap(), given: Arc::default(), members: Vec::new() };
        for _ in 0..members {
            let sink = Counter(Arc::clone(&room.given));
            let mut member = room.rooms.connect(Identity::new("5").unwrap(), sink).unwrap();
            member.join(&room.key).await.unwrap();
            let drive = member.drive();
            tokio::select! { biased; _ = drive => {}, () = yield_now() => {} }
            room.members.push(member);
        }
        // Past the viewer window of the last join.
        tokio::time::sleep(2 * room.rooms.limits().viewer_window).await;
        room
    }

    /// Broadcasts, and waits until every member has it.
    async fn broadcast(&self, payload: &str) {
        let goal = self.given.load(Ordering::Relaxed) + self.members.len();
        self.rooms.broadcast(&self.key, payload).await.unwrap();
        while self.given.load(Ordering::Relaxed) < goal {
            yield_now().await;
        }
    }

    /// The blocks and bytes that one broadcast allocates, after some.
    async fn cost(&self, payload: &str) -> (u64, u64) {
        for _ in 0..3 {
            self.broadcast(payload).await;
        }
        let before = HeapStats::get();
        self.broadcast(payload).await;
        let after = HeapStats::get();
        (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_copies_its_payload_once_and_allocates_nothing_for_a_member() {
    let _profiler = Profiler::builder().testing().build();
    // With its quotes it is as long as is allowed.
    let payload = "x".repeat(PAYLOAD - 2);
    let (few_blocks, few_bytes) = Room::with(100).await.cost(&payload).await;
    let (many_blocks, many_bytes) = Room::with(10_000).await.cost(&payload).await;
    println!("100 members: {few_blocks} blocks, {few_bytes} bytes; 10,000: {many_blocks} blocks, {many_bytes} bytes");
    assert!(many_blocks <= few_blocks + 2, "{many_blocks} blocks for 10,000 members, {few_blocks} for 100");
    assert!(many_bytes <= few_bytes + 1024, "{many_bytes} bytes for 10,000 members, {few_bytes} for 100");
    assert!(few_blocks <= 40, "{few_blocks} blocks for a broadcast");
    // The buffer of the encoder, which grows from one length to twice that for the last quote, and one frame.
    assert!(few_bytes < (1 + 2 + 1) * PAYLOAD as u64 + 8 * 1024, "{few_bytes} bytes for a broadcast");
}
