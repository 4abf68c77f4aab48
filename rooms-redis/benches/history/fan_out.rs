//! A broadcast to a thousand members of one process, of a kind with and without a history.

use std::time::Instant;

use futures::channel::mpsc;
use rooms_core::{Identity, Kind, Limits, LocalBus, Message, RoomKey, RoomManager, bus::Retention};
use serde_json::json;

const MEMBERS: usize = 1_000;

pub(crate) async fn run(messages: usize) {
    let mut fastest = [f64::MAX; 2];
    // In turn, so that what else the machine does falls on both.
    for _ in 0..3 {
        for (kind, fastest) in [Kind::authenticated(), Kind::authenticated().history(Retention::messages(500))]
            .into_iter()
            .zip(&mut fastest)
        {
            *fastest = fastest.min(once(kind, messages).await);
        }
    }
    let [without, with] = fastest.map(|seconds| seconds * 1e9 / (messages * MEMBERS) as f64);
    println!("a delivery to one of {MEMBERS} members: {without:.0} ns, with a history {with:.0} ns");
}

async fn once(kind: Kind, messages: usize) -> f64 {
    let limits = |limits: &mut Limits| limits.max_connections_per_user = MEMBERS;
    let rooms = RoomManager::build_for().kind("post", kind).limits(limits).bus(LocalBus::new()).build().unwrap();
    let room = RoomKey::new("post", 42).unwrap();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let (sink, inbox) = mpsc::unbounded::<Message>();
        let mut connection = rooms.connect(Identity::new("a").unwrap(), sink).unwrap();
        connection.join(&room).await.unwrap();
        members.push((connection, inbox));
    }
    let payload = json!({"type": "new_comment", "text": "x".repeat(150)});
    let (delivered, start) = (rooms.stats().delivered, Instant::now());
    for _ in 0..messages {
        rooms.broadcast(&room, &payload).await.unwrap();
        for (_, inbox) in &mut members {
            while inbox.try_recv().is_ok() {}
        }
    }
    while rooms.stats().delivered < delivered + (messages * MEMBERS) as u64 {
        tokio::task::yield_now().await;
    }
    start.elapsed().as_secs_f64()
}
