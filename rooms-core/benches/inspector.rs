//! What the inspector costs: `cargo bench -p rooms-core --bench inspector`; `-- --smoke` is small, and for seeing that it runs.
//!
//! 100,000 rooms and 20,000 connections in one process, whose sinks take everything at once. All of the connections are in one
//! room, to which broadcasts go one after another; each takes until the last member has it. Turn by turn nobody looks, and
//! then somebody asks for the node every 100 ms. The floor of a report is to ask for the viewers of each room by its key, one
//! after the other: a look-up and a lock for each, which a report needs, too, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::Sink;
use http::{HeaderMap, Method, Uri};
use rooms_core::{Connection, Identity, Inspector, Kind, Message, RoomKey, RoomManager};
use serde_json::json;

/// Rooms of each connection alone.
const OWN: usize = 5;
const EVERY: Duration = Duration::from_millis(100);
const REPORTS: usize = 11;

/// How much is done.
#[derive(Clone, Copy)]
struct Sizes {
    connections: usize,
    turns: usize,
    turn: Duration,
}

const FULL: Sizes = Sizes { connections: 20_000, turns: 5, turn: Duration::from_secs(4) };
const SMOKE: Sizes = Sizes { connections: 200, turns: 1, turn: Duration::from_millis(300) };

/// Takes every message at once, and counts.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Sink<Message> for Counting {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), ()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

struct Rig {
    rooms: RoomManager<Counting>,
    taken: Arc<AtomicU64>,
    all: RoomKey,
    sizes: Sizes,
}

impl Rig {
    async fn new(sizes: Sizes) -> (Self, Vec<Connection>) {
        let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
        let (sink, all) = (Counting::default(), RoomKey::new("post", "all").unwrap());
        // Kept by whoever called, as a connection that is dropped leaves its rooms.
        let mut connections = Vec::with_capacity(sizes.connections);
        for n in 0..sizes.connections {
            let mut connection = rooms.connect(Identity::new(format!("u{n}")).unwrap(), sink.clone()).unwrap();
            for own in 0..OWN {
                connection.join(&RoomKey::new("post", n * OWN + own).unwrap()).await.unwrap();
            }
            connection.join(&all).await.unwrap();
            tokio::spawn(connection.drive());
            connections.push(connection);
        }
        (Self { rooms, taken: sink.0, all, sizes }, connections)
    }

    /// One broadcast, until the last member has it.
    async fn broadcast(&self) -> Duration {
        let (until, begun) = (self.taken.load(Ordering::Relaxed) + self.sizes.connections as u64, Instant::now());
        self.rooms.broadcast(&self.all, &json!({"type": "note"})).await.unwrap();
        while self.taken.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
        begun.elapsed()
    }

    async fn broadcasts(&self) -> Vec<Duration> {
        let (mut took, end) = (Vec::new(), Instant::now() + self.sizes.turn);
        while Instant::now() < end {
            took.push(self.broadcast().await);
        }
        took
    }
}

/// Asks for the node every 100 ms until told to stop; how long each answer took.
async fn ask(inspector: Inspector, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let (uri, mut took) = (Uri::from_static("/?view=node"), Vec::new());
    let mut every = tokio::time::interval(EVERY);
    while !stop.load(Ordering::Relaxed) {
        every.tick().await;
        let begun = Instant::now();
        let answer = inspector.respond(&Method::GET, &uri, &HeaderMap::new()).await;
        assert!(answer.body().len() > 1000);
        took.push(begun.elapsed());
    }
    took
}

fn say(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what}: {} of them, median {:.2} ms, 99% {:.2} ms, most {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[tokio::main]
async fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--smoke") { SMOKE } else { FULL };
    let (rig, connections) = Rig::new(sizes).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let inspector = Inspector::new(&rig.rooms);
    let report = rig.rooms.inspect().await;
    println!("{} rooms, {} connections, {} memberships", report.rooms, report.connections, report.memberships);

    let own = (0..sizes.connections * OWN).map(|n| RoomKey::new("post", n).unwrap());
    let keys: Vec<_> = own.chain([rig.all.clone()]).collect();
    let (mut alone, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..REPORTS {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let begun = Instant::now();
        let viewers: usize = keys.iter().map(|key| rig.rooms.local_viewers(key)).sum();
        floor.push(begun.elapsed());
        assert_eq!(viewers, keys.len() - 1 + sizes.connections);
        let begun = Instant::now();
        rig.rooms.inspect().await;
        alone.push(begun.elapsed());
    }
    say("the viewers of each room, one after the other", &mut floor);
    say("a report, while nothing else happens", &mut alone);
    let ratios = alone.iter().zip(&floor).map(|(report, floor)| report.as_secs_f64() / floor.as_secs_f64());
    println!("a report takes {:.2} times as long, by the medians", ratios.collect::<Vec<_>>()[REPORTS / 2]);
    let begun = Instant::now();
    rig.rooms.explain("u77", Some(&rig.all)).await.unwrap();
    println!("why a user hears nothing: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);

    let (mut quiet, mut watched, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    rig.broadcasts().await;
    for _ in 0..sizes.turns {
        quiet.extend(rig.broadcasts().await);
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask(inspector.clone(), Arc::clone(&stop)));
        watched.extend(rig.broadcasts().await);
        stop.store(true, Ordering::Relaxed);
        answers.extend(asking.await.unwrap());
    }
    say(&format!("broadcasts to {} members, while nobody looks", sizes.connections), &mut quiet);
    say(&format!("broadcasts to {} members, asked every 100 ms", sizes.connections), &mut watched);
    say("answers meanwhile, with their JSON", &mut answers);
    let mean = |took: &[Duration]| took.iter().sum::<Duration>().as_secs_f64() / took.len() as f64;
    println!("a broadcast takes {:.3} times as long while it is asked", mean(&watched) / mean(&quiet));
    drop(connections);
}
