//! What counting over nodes costs: a join in rooms of any size, nodes with a hundred thousand rooms in which nothing
//! happens, and a crowd.
//!
//! `cargo bench --bench presence`; `-- --smoke` is small, and for seeing that it runs. Nodes of one process over a
//! `LocalBus`, so what a backplane adds is not in it. Processor time is of the whole process, all nodes together.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that can't be set up has nothing to measure"
)]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{Sink, future::join_all};
use rooms::{Connection, Identity, Kind, LocalBus, Message, RoomKey, RoomManager};
use tokio::{runtime, task::yield_now, time::sleep};

/// Counts events about viewers, and keeps the last number.
#[derive(Clone, Default)]
struct Viewer(Arc<Seen>);

#[derive(Default)]
struct Seen {
    events: AtomicU64,
    viewers: AtomicU64,
}

type Rooms = RoomManager<Viewer>;

struct Sizes {
    /// Members of the rooms that are joined.
    rooms: &'static [usize],
    joins: u32,
    idle_rooms: usize,
    idle: Duration,
    crowd: usize,
}

const FULL: Sizes = Sizes {
    rooms: &[10, 1_000, 100_000],
    joins: 100_000,
    idle_rooms: 100_000,
    idle: Duration::from_secs(20),
    crowd: 10_000,
};
const SMOKE: Sizes =
    Sizes { rooms: &[10, 100], joins: 1_000, idle_rooms: 1_000, idle: Duration::from_secs(1), crowd: 400 };

fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--smoke") { SMOKE } else { FULL };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        joins(&sizes).await;
        idle(&sizes).await;
        crowd(&sizes).await;
    });
}

/// A join and the leave after it, in rooms of several sizes, alone and with three other nodes in the room.
async fn joins(sizes: &Sizes) {
    println!("a join and a leave, in a room of so many members on its node:");
    let mut first = None;
    for others in [0, 3] {
        for members in sizes.rooms {
            let nodes = nodes(1 + others).await;
            let mut seats = fill(&nodes[..1], *members).await;
            seats.extend(fill(&nodes[1..], others).await);
            let mut guest = connect(&nodes[0]);
            let before = cpu();
            for _ in 0..sizes.joins {
                guest.join(&post()).await.expect("everybody may join");
                drive(&guest).await;
                guest.leave(&post());
            }
            let each = (cpu() - before) / sizes.joins;
            let first = *first.get_or_insert(each);
            println!(
                "  {members:>7} members, {others} other nodes: {each:>9.1?}, {:.2} of the first",
                each.as_secs_f64() / first.as_secs_f64()
            );
        }
    }
}

/// Two nodes with members in the same rooms, and nothing happens.
async fn idle(sizes: &Sizes) {
    let nodes = nodes(2).await;
    let mut seats = Vec::new();
    for node in &nodes {
        let each = node.limits().max_rooms_per_connection;
        for start in (0..sizes.idle_rooms).step_by(each) {
            let mut seat = connect(node);
            for number in start..sizes.idle_rooms.min(start + each) {
                let room = RoomKey::new("post", number).expect("a valid key");
                seat.join(&room).await.expect("everybody may join");
            }
            drive(&seat).await;
            seats.push(seat);
        }
    }
    sleep(Duration::from_secs(2)).await;
    let before = cpu();
    sleep(sizes.idle).await;
    let share = (cpu() - before).as_secs_f64() / sizes.idle.as_secs_f64() / nodes.len() as f64;
    println!("a node with members in {} rooms, idle: {:.3}% of a core", sizes.idle_rooms, share * 100.0);
}

/// So many join one room on four nodes within a second.
async fn crowd(sizes: &Sizes) {
    let nodes = nodes(4).await;
    let entries = |nodes: &[Rooms]| nodes.iter().map(|node| node.stats().entries_published).sum::<u64>();
    let mut seats: Vec<Vec<(Viewer, Connection)>> = (0..nodes.len()).map(|_| Vec::new()).collect();
    let begun = Instant::now();
    for number in 0..sizes.crowd {
        let viewer = Viewer::default();
        let node = number % nodes.len();
        let mut seat = nodes[node].connect(identity(), viewer.clone()).expect("not draining");
        seat.join(&post()).await.expect("everybody may join");
        drive(&seat).await;
        seats[node].push((viewer, seat));
        if number % 100 == 99 {
            let due = Duration::from_secs(1).mul_f64(number as f64 / sizes.crowd as f64);
            sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    let took = begun.elapsed();
    sleep(Duration::from_secs(1)).await;
    let all = || seats.iter().flatten().map(|(viewer, _)| &viewer.0);
    let most = all().map(|seen| seen.events.load(Ordering::Relaxed)).max().unwrap_or_default();
    let right = all().filter(|seen| seen.viewers.load(Ordering::Relaxed) == sizes.crowd as u64).count();
    println!(
        "{} joins on 4 nodes in {took:.1?}: at most {most} events for a member, {right} members know the right number, {} entries",
        sizes.crowd,
        entries(&nodes)
    );
}

fn post() -> RoomKey {
    RoomKey::new("post", "42").expect("a valid key")
}

fn identity() -> Identity {
    Identity::new("5").expect("a valid user")
}

async fn nodes(count: usize) -> Vec<Rooms> {
    let hub = LocalBus::new();
    let node = |_| {
        RoomManager::build_for()
            .kind("post", Kind::authenticated())
            .limits(|limits| limits.max_connections_per_user = usize::MAX)
            .bus(hub.peer())
            .build()
            .expect("a valid configuration")
    };
    let nodes: Vec<Rooms> = (0..count).map(node).collect();
    while nodes.iter().any(|node| node.stats().nodes < count) {
        sleep(Duration::from_millis(1)).await;
    }
    nodes
}

fn connect(rooms: &Rooms) -> Connection {
    rooms.connect(identity(), Viewer::default()).expect("not draining")
}

/// So many members of the one room, over these nodes.
async fn fill(nodes: &[Rooms], members: usize) -> Vec<Connection> {
    let seats = join_all((0..members).map(|number| async move {
        let mut seat = connect(&nodes[number % nodes.len()]);
        seat.join(&post()).await.expect("everybody may join");
        drive(&seat).await;
        seat
    }));
    let seats = seats.await;
    sleep(Duration::from_millis(600)).await;
    seats
}

/// Writes what waits for the connection's task.
async fn drive(connection: &Connection) {
    tokio::select! { biased; _ = connection.drive() => {}, () = yield_now() => {} }
}

/// Processor time of this process, from the scheduler's own count in nanoseconds: proc_pid_schedstat.
fn cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let nanos = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

impl Sink<Message> for Viewer {
    type Error = std::convert::Infallible;

    fn poll_ready(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn start_send(self: std::pin::Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        // `"viewers":` and the number, whatever the event.
        let number = message.as_text().and_then(|text| text.rsplit_once("\"viewers\":")).map(|(_, rest)| {
            rest.bytes().take_while(u8::is_ascii_digit).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
        });
        if let Some(number) = number {
            self.0.viewers.store(number, Ordering::Relaxed);
            let joined = message.as_text().is_some_and(|text| text.contains("room_joined"));
            self.0.events.fetch_add(u64::from(!joined), Ordering::Relaxed);
        }
        Ok(())
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }
}
