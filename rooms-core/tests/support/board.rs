//! A fleet whose rule can bar a user from a board, and its clients.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::channel::mpsc;
use rooms_core::{
    Close, ConnectionId, Identity, Kind, RoomManagerBuilder,
    testing::fleet::Fleet,
    ws::{Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::rig::{Inbox, Sink, key, who};

/// A client of a node, at the endpoint for many rooms or for one.
pub(crate) struct Talk {
    pub(crate) send: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    pub(crate) inbox: Inbox,
    pub(crate) ended: JoinHandle<Close>,
}

pub(crate) type Nodes = Fleet<Sink>;

impl Talk {
    pub(crate) fn multi(nodes: &Nodes, node: usize, identity: Identity) -> Self {
        let ((send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
        let ended = tokio::spawn(nodes.node(node).serve(stream, sink, identity));
        Self { send, inbox: Inbox(receiver), ended }
    }

    pub(crate) fn single(nodes: &Nodes, node: usize, user: &str, room: &str) -> Self {
        let ((send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
        let ended = tokio::spawn(nodes.node(node).serve_room(stream, sink, who(user), key(room)));
        Self { send, inbox: Inbox(receiver), ended }
    }

    pub(crate) fn say(&self, message: &Value) {
        self.send.unbounded_send(Ok(Incoming::Text(message.to_string()))).unwrap();
    }

    pub(crate) async fn join(&mut self, room: &str) {
        self.say(&json!({"type": "join", "room": room}));
        assert_eq!(self.next_of("room_joined").await["room"], room);
    }

    /// The next event of this type.
    pub(crate) async fn next_of(&mut self, what: &str) -> Value {
        loop {
            let event = self.inbox.next().await;
            if event["type"] == what {
                return event;
            }
        }
    }

    /// What has come besides who is there.
    pub(crate) async fn others(&mut self) -> Vec<Value> {
        let mut all = self.inbox.all().await;
        all.retain(|event| !event["type"].as_str().unwrap().starts_with("viewer_"));
        all
    }
}

/// What the application's rule reads, and what its hooks have seen.
#[derive(Clone, Default)]
pub(crate) struct App {
    pub(crate) barred: Arc<AtomicBool>,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl App {
    /// `board` is for whoever is not barred, and shows for ten seconds who left; the answer about a `slow` one takes a second.
    pub(crate) fn kinds(&self, node: RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink> {
        let rule = |takes: Duration, barred: &Arc<AtomicBool>| {
            let barred = Arc::clone(barred);
            Kind::new().join_rule(move |who, _| {
                let allowed = who.user() != "b" || !barred.load(Ordering::Relaxed);
                async move {
                    sleep(takes).await;
                    allowed
                }
            })
        };
        let note = |what: &'static str| {
            let seen = Arc::clone(&self.seen);
            move |member: &rooms_core::Member| {
                seen.lock().unwrap().push(format!("{} {what} {}", member.identity().user(), member.room()));
            }
        };
        let (joined, left) = (note("joins"), note("leaves"));
        let board = rule(Duration::ZERO, &self.barred).list_members().leave_grace(Duration::from_secs(10));
        let board = board
            .on_join(move |member| {
                joined(&member);
                async { Ok(Value::Null) }
            })
            .on_leave(move |member| {
                left(&member);
                async {}
            });
        node.kind("board", board)
            .kind("slow", rule(Duration::from_secs(1), &self.barred))
            .kind("post", Kind::authenticated())
            .limits(|limits| limits.ping_interval = Duration::from_secs(1_000_000))
    }

    pub(crate) async fn nodes(&self, count: usize) -> Nodes {
        let nodes = Fleet::new(count, |_, node| self.kinds(node));
        settle().await;
        nodes
    }
}

pub(crate) async fn settle() {
    sleep(Duration::from_secs(3)).await;
}

pub(crate) fn claims(user: &str, claims: &Value) -> Identity {
    who(user).with_claims(claims.to_string())
}

/// The id of a connection, from a room in which it is told.
pub(crate) async fn id_of(talk: &mut Talk) -> ConnectionId {
    talk.say(&json!({"type": "join", "room": "me:1"}));
    talk.next_of("room_joined").await["me"].as_str().unwrap().parse().unwrap()
}
