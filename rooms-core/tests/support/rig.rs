//! Managers with channel sinks, and what their members were given.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use futures::{StreamExt as _, channel::mpsc};
use rooms_core::{Close, CloseCode, Connection, Identity, Message, MessageKind, RoomKey, RoomManager};
use serde_json::Value;
use tokio::task::JoinHandle;

pub(crate) type Sink = mpsc::UnboundedSender<Message>;
pub(crate) type Rooms = RoomManager<Sink>;

pub(crate) fn key(text: &str) -> RoomKey {
    text.parse().unwrap()
}

pub(crate) fn who(user: &str) -> Identity {
    Identity::new(user).unwrap()
}

/// Lets everything run that can run now. Time is paused in these tests, and moves only when all tasks wait.
pub(crate) async fn idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A connection whose task runs, and what comes out of it.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) inbox: Inbox,
    pub(crate) driven: JoinHandle<Option<Close>>,
}

pub(crate) struct Inbox(pub(crate) mpsc::UnboundedReceiver<Message>);

impl Client {
    pub(crate) fn connect(rooms: &Rooms, user: &str) -> Self {
        let (sink, receiver) = mpsc::unbounded();
        let connection = rooms.connect(who(user), sink).unwrap();
        let driven = tokio::spawn(connection.drive());
        Self { connection, inbox: Inbox(receiver), driven }
    }

    /// Connects, joins, and takes the `room_joined`.
    pub(crate) async fn join(rooms: &Rooms, user: &str, room: &str) -> Self {
        let mut client = Self::connect(rooms, user);
        client.connection.join(&key(room)).await.unwrap();
        let first = client.inbox.next().await;
        assert_eq!(first["type"], "room_joined", "{first}");
        client
    }
}

impl Inbox {
    /// The next message, as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(Duration::from_secs(600), self.0.next()).await;
        let message = message.expect("a message in time").expect("a message before the end");
        serde_json::from_slice(message.payload()).expect("JSON")
    }

    /// All that there is once nothing moves any more.
    pub(crate) async fn all(&mut self) -> Vec<Value> {
        idle().await;
        self.now()
    }

    /// All that there is already.
    pub(crate) fn now(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Ok(message) = self.0.try_recv() {
            all.push(serde_json::from_slice(message.payload()).expect("JSON"));
        }
        all
    }

    /// Whether there is nothing once nothing moves any more.
    pub(crate) async fn is_silent(&mut self) -> bool {
        self.all().await.is_empty()
    }

    /// The close frame, after whatever came before it.
    pub(crate) async fn close(&mut self) -> Close {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(600), self.0.next()).await;
            let message = message.expect("a close in time").expect("a close before the end");
            if message.kind() == MessageKind::Close {
                return parse_close(&message);
            }
        }
    }
}

pub(crate) fn parse_close(message: &Message) -> Close {
    let (code, reason) = message.payload().split_at(2);
    let code = CloseCode::new(u16::from_be_bytes([code[0], code[1]])).unwrap();
    Close::new(code, String::from_utf8(reason.to_vec()).unwrap())
}
