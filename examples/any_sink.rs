//! One room whose members have different sinks: browsers behind Axum's own WebSocket, and a channel in the process.
//!
//! `cargo run --example any_sink --features axum`, then `websocat ws://localhost:3000/ws?user=ada` in two terminals, and in
//! each `{"type":"join","room":"channel:lobby"}`. What one publishes the other hears, and so does the log:
//! `{"type":"publish","room":"channel:lobby","data":"hi"}`. `PORT` is 3000 unless set.
//!
//! The library's own sockets are smaller and faster, and check tokens. This is for a service that has its sockets
//! already, or members that are no sockets at all.

use std::{env, error::Error};

use axum::{
    Router,
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{self, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::{Sink, SinkExt as _, Stream, StreamExt as _, channel::mpsc, future::ready};
use rooms::{
    Identity, Kind, Message, MessageKind, RoomKey, RoomManager,
    ws::{Incoming, WsError},
};
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Visitor {
    /// There are no tokens here: who says that he is ada is ada.
    user: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let rooms = rooms()?;
    let lobby = RoomKey::new("channel", "lobby")?;
    let (sink, mut heard) = mpsc::unbounded();
    let mut log = rooms.with_sink().connect(Identity::new("log")?, sink)?;
    tokio::spawn(log.drive());
    log.join(&lobby).await?;
    tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            println!("{}", String::from_utf8_lossy(message.payload()));
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    println!("ws://localhost:{}/ws?user=ada", listener.local_addr()?.port());
    // It has no bound on clients that send half a request. `rooms::axum::serve` has, as the other examples show.
    axum::serve(listener, app(rooms)).await?;
    Ok(())
}

fn rooms() -> Result<RoomManager, Box<dyn Error>> {
    Ok(RoomManager::builder().kind("channel", Kind::authenticated().allow_publish()).build()?)
}

fn app(rooms: RoomManager) -> Router {
    Router::new().route("/ws", get(live)).with_state(rooms)
}

async fn live(
    State(rooms): State<RoomManager>,
    Query(Visitor { user }): Query<Visitor>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(identity) = Identity::new(&*user) else { return StatusCode::BAD_REQUEST.into_response() };
    upgrade.on_upgrade(async move |socket| {
        let (sink, stream) = halves(socket);
        rooms.with_sink().serve(stream, sink, identity).await;
    })
}

/// Axum's socket as what a room gives to, and what a client says.
fn halves(
    socket: WebSocket,
) -> (impl Sink<Message> + Unpin + Send + 'static, impl Stream<Item = Result<Incoming, WsError>> + Unpin + Send) {
    let (sink, stream) = socket.split();
    let sink = sink.with(|message: Message| ready(Ok::<_, axum::Error>(outgoing(&message))));
    // What is left out here, axum answers by itself, or has no meaning for a room.
    let stream = stream.filter_map(|message| ready(incoming(message).transpose()));
    (sink, stream)
}

fn outgoing(message: &Message) -> ws::Message {
    let payload = message.payload_bytes();
    match message.kind() {
        MessageKind::Binary => ws::Message::Binary(payload),
        MessageKind::Ping => ws::Message::Ping(payload),
        MessageKind::Pong => ws::Message::Pong(payload),
        MessageKind::Close => ws::Message::Close(close_frame(&payload)),
        // A text, which is UTF-8.
        _ => ws::Message::Text(String::from_utf8_lossy(&payload).as_ref().into()),
    }
}

/// Two bytes of code, then the reason.
fn close_frame(payload: &[u8]) -> Option<ws::CloseFrame> {
    let (code, reason) = payload.split_first_chunk()?;
    Some(ws::CloseFrame { code: u16::from_be_bytes(*code), reason: String::from_utf8_lossy(reason).as_ref().into() })
}

fn incoming(message: Result<ws::Message, axum::Error>) -> Result<Option<Incoming>, WsError> {
    let failed = |error: axum::Error| WsError::Io(std::io::Error::other(error));
    Ok(match message.map_err(failed)? {
        ws::Message::Text(text) => Some(Incoming::Text(text.as_str().to_owned())),
        ws::Message::Binary(bytes) => Some(Incoming::Binary(bytes.to_vec())),
        ws::Message::Pong(_) => Some(Incoming::Pong),
        ws::Message::Close(_) => Some(Incoming::Close(None)),
        ws::Message::Ping(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::time::timeout;
    use tokio_tungstenite::{connect_async, tungstenite};

    use super::*;

    async fn served() -> (RoomManager, String) {
        let rooms = rooms().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app(rooms.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (rooms, format!("ws://{address}/ws?user=ada"))
    }

    async fn next<E: std::fmt::Debug>(
        socket: &mut (impl Stream<Item = Result<tungstenite::Message, E>> + Unpin),
    ) -> tungstenite::Message {
        timeout(Duration::from_secs(30), socket.next()).await.expect("a message in time").unwrap().unwrap()
    }

    fn json_of(message: &[u8]) -> Value {
        serde_json::from_slice(message).unwrap()
    }

    async fn ask(socket: &mut (impl Sink<tungstenite::Message, Error = tungstenite::Error> + Unpin), command: Value) {
        socket.send(tungstenite::Message::text(command.to_string())).await.unwrap();
    }

    #[tokio::test]
    async fn a_channel_and_an_axum_socket_are_members_of_one_room() {
        let (rooms, url) = served().await;
        let lobby = RoomKey::new("channel", "lobby").unwrap();
        let (sink, mut heard) = mpsc::unbounded();
        let mut channel = rooms.with_sink().connect(Identity::new("log").unwrap(), sink).unwrap();
        tokio::spawn(channel.drive());
        channel.join(&lobby).await.unwrap();
        assert_eq!(json_of(heard.next().await.unwrap().payload())["viewers"], 1);

        let (mut socket, _) = connect_async(url).await.unwrap();
        ask(&mut socket, json!({"type": "join", "room": "channel:lobby"})).await;
        let joined = next(&mut socket).await;
        assert_eq!(json_of(&joined.into_data()), json!({"type": "room_joined", "room": "channel:lobby", "viewers": 2}));
        assert_eq!(json_of(heard.next().await.unwrap().payload()), json!({"type": "viewer_joined", "viewers": 2}));

        rooms.broadcast(&lobby, &json!("to all")).await.unwrap();
        let told = next(&mut socket).await;
        assert!(told.is_text());
        assert_eq!(json_of(&told.into_data())["data"], "to all");
        assert_eq!(json_of(heard.next().await.unwrap().payload()), "to all", "each in its form");

        ask(&mut socket, json!({"type": "publish", "room": "channel:lobby", "data": "hi"})).await;
        assert_eq!(json_of(heard.next().await.unwrap().payload()), "hi");
        drop(socket);
        assert_eq!(json_of(heard.next().await.unwrap().payload()), json!({"type": "viewer_left", "viewers": 1}));
    }

    #[tokio::test]
    async fn the_close_frame_of_a_shutdown_reaches_an_axum_socket() {
        let (rooms, url) = served().await;
        let (mut socket, _) = connect_async(url).await.unwrap();
        ask(&mut socket, json!({"type": "ping"})).await;
        assert_eq!(json_of(&next(&mut socket).await.into_data()), json!({"type": "pong"}));
        tokio::spawn(async move { rooms.shutdown(Duration::from_secs(1)).await });
        assert_eq!(json_of(&next(&mut socket).await.into_data())["type"], "reconnect");
        let tungstenite::Message::Close(Some(close)) = next(&mut socket).await else { panic!("a close frame") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1012, "restart"));
    }
}
