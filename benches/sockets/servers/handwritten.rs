//! Fan-out as it is often written by hand on Axum.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
    routing::get,
};
use futures::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpListener, sync::mpsc};

use super::{Command, Filling, announce, control};
use crate::Result;

type Senders = HashMap<u64, mpsc::UnboundedSender<Message>>;

#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<HashMap<u32, Senders>>>);

impl Rooms {
    fn with<T>(&self, room: u32, act: impl FnOnce(&mut Senders) -> T) -> T {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(room).or_default())
    }
}

pub(super) async fn serve(filling: Filling) -> Result<()> {
    let rooms = Rooms::default();
    let app = Router::new().route("/posts/{post}/live", get(live)).with_state(rooms.clone());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let commands = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce(listener.local_addr()?, commands.local_addr()?);
    let publish = async |command: Command| {
        let Ok(text) = serde_json::to_string(&filling.payload(command)) else { return };
        let message = Message::Text(Utf8Bytes::from(text));
        rooms.with(command.room, |senders| {
            for sender in senders.values() {
                _ = sender.send(message.clone());
            }
        });
    };
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        controlled = control(commands, publish, String::new) => controlled?,
    }
    Ok(())
}

async fn live(upgrade: WebSocketUpgrade, State(rooms): State<Rooms>, Path(room): Path<u32>) -> Response {
    upgrade.on_upgrade(move |socket| member(socket, rooms, room))
}

async fn member(socket: WebSocket, rooms: Rooms, room: u32) {
    let (mut write, mut read) = socket.split();
    let (sender, mut messages) = mpsc::unbounded_channel();
    _ = sender.send(Message::Text(r#"{"type":"room_joined"}"#.into()));
    let id = rooms.with(room, |senders| {
        let id = senders.keys().max().map_or(0, |id| id + 1);
        senders.insert(id, sender);
        id
    });
    let writer = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if write.send(message).await.is_err() {
                break;
            }
        }
    });
    while let Some(Ok(_)) = read.next().await {}
    rooms.with(room, |senders| senders.remove(&id));
    _ = writer.await;
}
