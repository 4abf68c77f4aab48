//! One broadcast to a room, with in-process sinks: what the library does besides the sockets.
//!
//! `cargo bench --bench fan_out`; elements are deliveries.

#![allow(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to measure")]

use std::{
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::Sink;
use rooms::{Connection, Identity, Kind, Message, RoomKey, RoomManager};
use serde_json::json;
use tokio::{runtime, task::yield_now};

/// Counts what it is given.
#[derive(Clone)]
struct Counter(Arc<AtomicUsize>);

impl Sink<Message> for Counter {
    type Error = std::convert::Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        black_box(message.frame());
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

struct Room {
    rooms: RoomManager<Counter>,
    key: RoomKey,
    delivered: Arc<AtomicUsize>,
    members: Vec<Connection<Counter>>,
}

async fn room(members: usize) -> Room {
    let rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.connections_per_user = usize::MAX)
        .build()
        .expect("a valid configuration");
    let key = RoomKey::new("post", 42).expect("a valid key");
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut room = Room { rooms, key, delivered, members: Vec::new() };
    for _ in 0..members {
        let identity = Identity::new("5").expect("a valid user");
        let mut member = room.rooms.connect(identity, Counter(Arc::clone(&room.delivered))).expect("not draining");
        member.join(&room.key).await.expect("everybody may join");
        // Writes the `room_joined` that waits for the connection's task.
        let drive = member.drive();
        tokio::select! { biased; _ = drive => {}, () = yield_now() => {} }
        room.members.push(member);
    }
    // Past the viewer window, so that no event of a join falls into the measurement.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    room
}

async fn broadcast(room: &Room, payload: &serde_json::Value) {
    let goal = room.delivered.load(Ordering::Relaxed) + room.members.len();
    room.rooms.broadcast(&room.key, payload).await.expect("the local bus takes everything");
    while room.delivered.load(Ordering::Relaxed) < goal {
        yield_now().await;
    }
}

fn fan_out(criterion: &mut Criterion) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let payload = json!({"type": "new_comment", "comment": {"id": 1, "text": "x".repeat(200)}});
    let mut group = criterion.benchmark_group("fan_out");
    for members in [1, 10, 100, 1_000, 10_000] {
        let room = runtime.block_on(room(members));
        group.throughput(Throughput::Elements(members as u64));
        group.bench_with_input(BenchmarkId::from_parameter(members), &room, |bencher, room| {
            bencher.iter(|| runtime.block_on(broadcast(room, &payload)));
        });
        runtime.block_on(async { drop(room) });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
