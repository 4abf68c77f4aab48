//! Clients that talk to a session.

#![allow(dead_code, reason = "each test file uses its part")]

use futures::channel::mpsc;
use rooms_core::{
    Close, Identity,
    ws::{Incoming, WsError},
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::rig::{Inbox, Rooms, key, who};

/// One client: what it sends goes in at the top.
pub(crate) struct Talk {
    pub(crate) send: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    pub(crate) inbox: Inbox,
    pub(crate) ended: JoinHandle<Close>,
}

impl Talk {
    /// A connection that is for `post:42`.
    pub(crate) fn open(rooms: &Rooms, identity: Identity) -> Self {
        let (send, stream) = mpsc::unbounded();
        let (sink, receiver) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve_room(stream, sink, identity, key("post:42")));
        Self { send, inbox: Inbox(receiver), ended }
    }

    pub(crate) async fn joined(rooms: &Rooms, user: &str) -> Self {
        let mut talk = Self::open(rooms, who(user));
        assert_eq!(talk.inbox.next().await["type"], "room_joined");
        talk
    }

    /// A connection that is for many rooms.
    pub(crate) fn multi(rooms: &Rooms, user: &str) -> Self {
        let (send, stream) = mpsc::unbounded();
        let (sink, receiver) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve(stream, sink, who(user)));
        Self { send, inbox: Inbox(receiver), ended }
    }

    pub(crate) fn say(&self, text: impl Into<String>) {
        self.send.unbounded_send(Ok(Incoming::Text(text.into()))).unwrap();
    }

    pub(crate) async fn ask(&mut self, text: impl Into<String>) -> Value {
        self.say(text);
        self.inbox.next().await
    }
}
