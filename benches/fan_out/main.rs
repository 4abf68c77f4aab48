//! The parts of a broadcast, without sockets: encode, publish, fan out, join and leave.
//!
//! `cargo bench --bench fan_out`; in `fan_out` and `publish` the elements are deliveries and publishes. What the sockets
//! add is in the bench `sockets`. With `--features metrics` it is all recorded for Prometheus meanwhile.

#![allow(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to measure")]

mod rig;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use rooms::{Message, RoomKey};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::rig::{Room, connection, drive, manager};

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn comment(length: usize) -> Value {
    json!({"type": "new_comment", "comment": {"id": 1, "text": "x".repeat(length)}})
}

/// A value to the frame that all members share.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for length in [200, 4_000, 60_000] {
        let value = comment(length);
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::from_parameter(length), &value, |bencher, value| {
            bencher.iter(|| Message::json(black_box(value)));
        });
    }
    group.finish();
}

/// A broadcast to a room that nobody of this node is in, beside so many that somebody is in.
fn publish(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    for others in [10, 1_000, 100_000] {
        let (rooms, members) = runtime.block_on(async {
            let rooms = manager();
            let members = rig::fill(&rooms, others).await;
            (rooms, members)
        });
        let (key, value) = (RoomKey::new("post", "nobody").expect("a valid key"), comment(200));
        group.bench_function(BenchmarkId::new("other rooms", others), |bencher| {
            bencher.iter(|| runtime.block_on(rooms.broadcast(&key, &value)).expect("the local bus takes everything"));
        });
        runtime.block_on(async { drop(members) });
    }
    group.finish();
}

/// A broadcast until every member has it.
fn fan_out(criterion: &mut Criterion) {
    let runtime = runtime();
    let value = comment(200);
    let mut group = criterion.benchmark_group("fan_out");
    for members in [1, 10, 100, 1_000, 10_000] {
        let room = runtime.block_on(Room::with(members));
        group.throughput(Throughput::Elements(members as u64));
        group.bench_with_input(BenchmarkId::from_parameter(members), &room, |bencher, room| {
            bencher.iter(|| runtime.block_on(room.broadcast(&value)));
        });
        runtime.block_on(async { drop(room) });
    }
    group.finish();
}

/// A join and the leave after it, in a room that has so many members already.
fn join_leave(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("join_leave");
    for members in [1, 100, 10_000] {
        let room = runtime.block_on(Room::with(members));
        let mut guest = runtime.block_on(async { connection(&room.rooms, &room.delivered) });
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    guest.join(&room.key).await.expect("everybody may join");
                    drive(&guest).await;
                });
                assert!(guest.leave(&room.key));
            });
        });
        runtime.block_on(async { drop((guest, room)) });
    }
    group.finish();
}

/// So many broadcasts to a room of so many, for a tool that counts the instructions of [`broadcasts`]: `scripts/metrics-cost`.
fn counted(members: usize, count: usize) {
    let runtime = runtime();
    let room = runtime.block_on(Room::with(members));
    // What happens once is over then.
    runtime.block_on(room.broadcast(&comment(200)));
    broadcasts(&runtime, &room, count);
    runtime.block_on(async { drop(room) });
}

#[inline(never)]
fn broadcasts(runtime: &Runtime, room: &Room, count: usize) {
    let value = comment(200);
    runtime.block_on(async {
        for _ in 0..count {
            room.broadcast(&value).await;
        }
    });
}

criterion_group!(benches, encode, publish, fan_out, join_leave);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, mode, members, count, ..] = arguments.as_slice()
        && mode == "counted"
    {
        let number = |argument: &String| argument.parse().expect("a number");
        return counted(number(members), number(count));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
