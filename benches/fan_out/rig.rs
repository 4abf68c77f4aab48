//! Managers and rooms whose members only count what they are given.

use std::{
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::Sink;
use rooms::{Connection, Identity, Kind, Message, RoomKey, RoomManager};
use serde_json::Value;
use tokio::task::yield_now;

/// Counts what it is given.
#[derive(Clone)]
pub(crate) struct Counter(Arc<AtomicUsize>);

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

pub(crate) fn manager() -> RoomManager<Counter> {
    // With the feature, the price of the metrics is a part of it: a recorder is there from the first manager on.
    #[cfg(feature = "metrics")]
    {
        _ = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder();
    }
    RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = usize::MAX)
        .build()
        .expect("a valid configuration")
}

pub(crate) fn connection(rooms: &RoomManager<Counter>, counter: &Arc<AtomicUsize>) -> Connection {
    let identity = Identity::new("5").expect("a valid user");
    rooms.connect(identity, Counter(Arc::clone(counter))).expect("not draining")
}

/// So many rooms with somebody in them.
pub(crate) async fn fill(rooms: &RoomManager<Counter>, count: usize) -> Vec<Connection> {
    let each = rooms.limits().max_rooms_per_connection;
    let mut connections: Vec<_> = (0..count.div_ceil(each)).map(|_| connection(rooms, &Arc::default())).collect();
    for (number, place) in connections.iter_mut().enumerate() {
        for room in number * each..count.min((number + 1) * each) {
            place.join(&RoomKey::new("post", room).expect("a valid key")).await.expect("everybody may join");
            drive(place).await;
        }
    }
    connections
}

/// Writes the `room_joined` that waits for the connection's task.
pub(crate) async fn drive(connection: &Connection) {
    tokio::select! { biased; _ = connection.drive() => {}, () = yield_now() => {} }
}

pub(crate) struct Room {
    pub(crate) rooms: RoomManager<Counter>,
    pub(crate) key: RoomKey,
    pub(crate) delivered: Arc<AtomicUsize>,
    members: Vec<Connection>,
}

impl Room {
    pub(crate) async fn with(members: usize) -> Self {
        let key = RoomKey::new("post", 42).expect("a valid key");
        let mut room = Self { rooms: manager(), key, delivered: Arc::default(), members: Vec::new() };
        for _ in 0..members {
            let mut member = connection(&room.rooms, &room.delivered);
            member.join(&room.key).await.expect("everybody may join");
            drive(&member).await;
            room.members.push(member);
        }
        // Past the viewer window, so that no event of a join falls into the measurement.
        tokio::time::sleep(Duration::from_millis(600)).await;
        room
    }

    pub(crate) async fn broadcast(&self, value: &Value) {
        let goal = self.delivered.load(Ordering::Relaxed) + self.members.len();
        self.rooms.broadcast(&self.key, value).await.expect("the local bus takes everything");
        while self.delivered.load(Ordering::Relaxed) < goal {
            yield_now().await;
        }
    }
}
