//! What a node's copy of a history costs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use dhat::{HeapStats, Profiler};
use futures::sink;
use rooms_core::{Connection, Identity, JoinOptions, Kind, LocalBus, Message, RoomKey, RoomManager, bus::Retention};
use tokio::task::yield_now;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MESSAGES: usize = 1_000;
const PAYLOAD: usize = 1_000;

/// Beside each payload, as the guide's page `history` has it: the message around it, and the entry.
const BESIDE: usize = 300;

type Sink = sink::Drain<Message>;

/// A program with the log of one room in it, and perhaps a member.
struct Program {
    rooms: RoomManager<Sink>,
    key: RoomKey,
    member: Option<Connection>,
}

impl Program {
    fn new() -> Self {
        let post = Kind::authenticated().history(Retention::messages(MESSAGES).bytes(Retention::MAX_BYTES));
        let rooms = RoomManager::build_for().kind("post", post).bus(LocalBus::new()).build().unwrap();
        Self { rooms, key: "post:42".parse().unwrap(), member: None }
    }

    async fn join(&mut self, options: JoinOptions) {
        let mut member = self.rooms.connect(Identity::new("5").unwrap(), sink::drain()).unwrap();
        member.join_with(&self.key, options).await.unwrap();
        self.member = Some(member);
        self.settle().await;
    }

    /// More than is kept, so that as much goes as comes.
    async fn publish(&self) {
        for _ in 0..2 * MESSAGES {
            // With its quotes.
            self.rooms.broadcast(&self.key, &"x".repeat(PAYLOAD - 2)).await.unwrap();
            self.settle().await;
        }
    }

    /// What waits is written.
    async fn settle(&self) {
        let Some(member) = &self.member else { return };
        tokio::select! { biased; _ = member.drive() => {}, () = yield_now() => {} }
    }
}

fn now() -> usize {
    HeapStats::get().curr_bytes
}

#[tokio::test(start_paused = true)]
async fn a_node_has_each_payload_of_a_history_once() {
    let _profiler = Profiler::builder().testing().build();
    let before = now();
    let mut late = Program::new();
    late.publish().await;
    let log = now() - before;
    late.join(JoinOptions::new().newest(1)).await;
    let read = now() - before - log;

    let before = now();
    let mut early = Program::new();
    early.join(JoinOptions::new()).await;
    early.publish().await;
    let came = (now() - before).checked_sub(log).unwrap();

    assert!(log <= MESSAGES * (PAYLOAD + 200) + 32 * 1024, "the log itself has {log} bytes");
    println!("{MESSAGES} messages of {PAYLOAD} bytes: the log {log}, a copy {read} as it was read, {came} as it came");
    let most = MESSAGES * (PAYLOAD + BESIDE) + 16 * 1024;
    assert!(read <= most && came <= most, "{read} and {came} bytes, {most} are documented");
}
