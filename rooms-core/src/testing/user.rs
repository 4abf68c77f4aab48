//! A user in a test of an application.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::channel::mpsc;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

use crate::{
    auth::Identity,
    close::Close,
    manager::RoomManager,
    protocol::binary,
    ws::{self, Incoming, WsError},
};

/// How long something that is expected may take. A minute: past every window, lease and rule.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing has to come where nothing is expected. A second: past the windows of viewer events.
const SILENCE: Duration = Duration::from_secs(1);
/// By what an answer is known.
const REF: &str = "asked by the test";
const BINARY: u8 = 2;
/// What is under way to a user at most. Its task always reads, so it is seldom full.
const PIPE: usize = 64 * 1024;

/// One connection to the multi-room endpoint. Dropping it goes without a word, as a page that is closed does.
#[derive(Debug)]
pub struct TestUser {
    name: String,
    says: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    hears: mpsc::UnboundedReceiver<(u8, Bytes)>,
    /// What came and was not asked for yet.
    mailbox: VecDeque<Heard>,
    ended: JoinHandle<Close>,
    listens: AbortHandle,
}

/// What the server sent: the text, and the event that it is. The event is `null` where it can't be held as a `Value`.
struct Heard {
    text: String,
    event: Value,
    /// Where it is bytes: the room and the payload. Then there is no text.
    bytes: Option<(String, Bytes)>,
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some((room, bytes)) => write!(f, "{room}: {bytes:?}"),
            None => f.write_str(&self.text),
        }
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        // It has the other end of the socket, and would go on answering pings.
        self.listens.abort();
    }
}

impl TestUser {
    pub(super) fn connect(rooms: &RoomManager, identity: Identity) -> Self {
        let name = identity.user().to_owned();
        let (client, server) = tokio::io::duplex(PIPE);
        let (_unread, sink) = ws::over(server, &[], rooms.limits());
        let (says, stream) = mpsc::unbounded();
        let (heard, hears) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve(stream, sink, identity));
        let listens = tokio::spawn(listen(client, heard, says.clone())).abort_handle();
        Self { name, says, hears, mailbox: VecDeque::new(), ended, listens }
    }

    /// Joins a room; returns its `room_joined`.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn join(&mut self, room: &str) -> Value {
        match self.try_join(room).await {
            Ok(joined) => joined,
            Err(refused) => panic!("{}: {room} is refused: {refused}", self.name),
        }
    }

    /// Joins a room, or returns the `error` that refuses it.
    ///
    /// # Errors
    /// The event, with its `code`.
    ///
    /// # Panics
    /// Where there is no answer, or the connection is closed.
    pub async fn try_join(&mut self, room: &str) -> Result<Value, Value> {
        self.ask("join", room, None).await
    }

    /// Leaves a room.
    ///
    /// # Panics
    /// Where it was not in it.
    pub async fn leave(&mut self, room: &str) {
        if let Err(refused) = self.ask("leave", room, None).await {
            panic!("{}: can't leave {room}: {refused}", self.name);
        }
    }

    /// Joins a room without being given its messages, or stops being given them in one that it is in, as a hidden tab does;
    /// returns the `room_joined`.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn pause(&mut self, room: &str) -> Value {
        match self.ask("join", room, Some(("paused", "true"))).await {
            Ok(joined) => joined,
            Err(refused) => panic!("{}: {room} can't be paused: {refused}", self.name),
        }
    }

    /// Is given the messages of a room again in which it was paused; returns the `room_joined`.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn resume(&mut self, room: &str) -> Value {
        self.join(room).await
    }

    /// Publishes to a room. A [`RawValue`](serde_json::value::RawValue) is published as it is written.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn publish<T: Serialize + Sync + ?Sized>(&mut self, room: &str, data: &T) {
        if let Err(refused) = self.try_publish(room, data).await {
            panic!("{}: publishing to {room} is refused: {refused}", self.name);
        }
    }

    /// Publishes to a room, or returns the `error` that refuses it.
    ///
    /// # Errors
    /// The event, with its `code`.
    ///
    /// # Panics
    /// Where there is no answer, or the connection is closed.
    pub async fn try_publish<T: Serialize + Sync + ?Sized>(&mut self, room: &str, data: &T) -> Result<(), Value> {
        let data = serde_json::to_string(data).expect("data that encodes");
        self.ask("publish", room, Some(("data", &data))).await.map(drop)
    }

    /// Publishes bytes to a room.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn publish_binary(&mut self, room: &str, bytes: &[u8]) {
        if let Err(refused) = self.try_publish_binary(room, bytes).await {
            panic!("{}: publishing bytes to {room} is refused: {refused}", self.name);
        }
    }

    /// Publishes bytes to a room, or returns the `error` that refuses them.
    ///
    /// # Errors
    /// The event, with its `code`.
    ///
    /// # Panics
    /// Where there is no answer, or the connection is closed, and for a room's name of more than 255 bytes.
    pub async fn try_publish_binary(&mut self, room: &str, bytes: &[u8]) -> Result<(), Value> {
        let reference = json!(REF).to_string();
        self.send_bytes(framed(1, room, &reference, bytes));
        self.answer(&format!("bytes for {room}")).await.map(drop)
    }

    /// Sends bytes for a room's `on_binary_message`.
    ///
    /// # Panics
    /// For a room's name of more than 255 bytes.
    pub fn send_binary(&self, room: &str, bytes: &[u8]) {
        self.send_bytes(framed(2, room, "", bytes));
    }

    /// Sends a binary message as it is: one that has no head, or a wrong one.
    pub fn send_bytes(&self, bytes: impl Into<Vec<u8>>) {
        _ = self.says.unbounded_send(Ok(Incoming::Binary(bytes.into())));
    }

    /// The next bytes of this room. What came before them is kept for who expects it later.
    ///
    /// # Panics
    /// Where none come within a minute.
    pub async fn expect_binary(&mut self, room: &str) -> Bytes {
        let is_it = |heard: &Heard| heard.bytes.as_ref().is_some_and(|(of, _)| of == room);
        let heard = self.expect("bytes", is_it).await;
        heard.bytes.map(|(_, bytes)| bytes).unwrap_or_default()
    }

    /// Sends any message, such as one for a room's `on_message`.
    ///
    /// # Panics
    /// Where it does not encode.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) {
        self.send_text(serde_json::to_string(message).expect("a message that encodes"));
    }

    /// Sends a text as it is: one that is no JSON, or has a number of which every digit counts.
    pub fn send_text(&self, text: impl Into<String>) {
        // To a connection that has ended nothing is sent, as on a socket.
        _ = self.says.unbounded_send(Ok(Incoming::Text(text.into())));
    }

    /// The next event of this type, or the data of the next message whose data has it. What came before it is kept for
    /// who expects it later.
    ///
    /// # Panics
    /// Where none comes within a minute.
    pub async fn expect_event(&mut self, of_type: &str) -> Value {
        let is_it = |heard: &Heard| heard.event["type"] == of_type || heard.event["data"]["type"] == of_type;
        let mut event = self.expect(of_type, is_it).await.event;
        if event["type"] == of_type { event } else { event["data"].take() }
    }

    /// The text of the next event that has this in it, as it came. What came before it is kept for who expects it later.
    ///
    /// # Panics
    /// Where none comes within a minute.
    pub async fn expect_text(&mut self, part: &str) -> String {
        self.expect(part, |heard| heard.bytes.is_none() && heard.text.contains(part)).await.text
    }

    async fn expect(&mut self, what: &str, is_it: impl Fn(&Heard) -> bool) -> Heard {
        if let Some(heard) = self.mailbox.iter().position(&is_it).and_then(|at| self.mailbox.remove(at)) {
            return heard;
        }
        loop {
            let Some(heard) = self.next(PATIENCE).await else {
                panic!("{}: no `{what}` came, but {:?}", self.name, self.mailbox)
            };
            if is_it(&heard) {
                return heard;
            }
            self.mailbox.push_back(heard);
        }
    }

    /// Makes sure that nothing has come that was not expected, and that nothing comes within a second.
    ///
    /// # Panics
    /// Where something does.
    pub async fn expect_nothing(&mut self) {
        if let Some(heard) = self.next(SILENCE).await {
            self.mailbox.push_back(heard);
        }
        assert!(self.mailbox.is_empty(), "{}: {:?} came", self.name, self.mailbox);
    }

    /// Forgets what has come so far, and what comes within a second.
    pub async fn forget(&mut self) {
        while self.next(SILENCE).await.is_some() {}
        self.mailbox.clear();
    }

    /// Why the server closed the connection.
    ///
    /// # Panics
    /// Where it does not within a minute.
    pub async fn expect_close(&mut self) -> Close {
        match timeout(PATIENCE, &mut self.ended).await {
            Ok(Ok(close)) => close,
            Ok(Err(panicked)) => panic!("{}: the session: {panicked}", self.name),
            Err(_) => panic!("{}: the connection goes on", self.name),
        }
    }

    /// Asks, and waits for the answer to that.
    async fn ask(&mut self, command: &str, room: &str, field: Option<(&str, &str)>) -> Result<Value, Value> {
        let mut text = json!({"type": command, "room": room, "ref": REF}).to_string();
        if let Some((name, json)) = field {
            // Written into the text, because a `Value` would change what it is.
            text.insert_str(text.len() - 1, &format!(r#","{name}":{json}"#));
        }
        self.send_text(text.as_str());
        self.answer(&text).await
    }

    /// Waits for the answer to what was asked.
    async fn answer(&mut self, asked: &str) -> Result<Value, Value> {
        loop {
            let Some(heard) = self.next(PATIENCE).await else {
                panic!("{}: no answer to {asked}, but {:?}", self.name, self.mailbox)
            };
            if heard.event["ref"] != REF {
                self.mailbox.push_back(heard);
                continue;
            }
            let mut event = heard.event;
            if let Some(event) = event.as_object_mut() {
                event.remove("ref");
            }
            return if event["type"] == "error" { Err(event) } else { Ok(event) };
        }
    }

    async fn next(&mut self, within: Duration) -> Option<Heard> {
        let (opcode, payload) = timeout(within, self.hears.recv()).await.ok()?.ok()?;
        if opcode == BINARY {
            let parts = binary::split(&payload).expect("a binary message names its room");
            let room = String::from_utf8(parts.room.to_vec()).expect("a room's name is UTF-8");
            let bytes = Some((room, payload.slice_ref(parts.payload)));
            return Some(Heard { text: String::new(), event: Value::Null, bytes });
        }
        let text = String::from_utf8(payload.into()).expect("events are UTF-8");
        Some(Heard { event: serde_json::from_str(&text).unwrap_or_default(), text, bytes: None })
    }
}

/// A binary message with its head.
fn framed(what: u8, room: &str, reference: &str, payload: &[u8]) -> Vec<u8> {
    let length = |part: &str| u8::try_from(part.len()).expect("at most 255 bytes");
    let (room_length, length) = (length(room), length(reference));
    [&[what, room_length], room.as_bytes(), &[length], reference.as_bytes(), payload].concat()
}

/// Reads what the server writes, and answers its pings.
async fn listen(
    mut client: DuplexStream,
    heard: mpsc::UnboundedSender<(u8, Bytes)>,
    says: mpsc::UnboundedSender<Result<Incoming, WsError>>,
) {
    const PING: u8 = 9;
    const CLOSE: u8 = 8;

    let mut bytes = BytesMut::new();
    while client.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        while let Some((opcode, payload)) = frame(&mut bytes) {
            let sent = match opcode {
                PING => says.unbounded_send(Ok(Incoming::Pong)).is_ok(),
                CLOSE => says.unbounded_send(Ok(Incoming::Close(None))).is_ok(),
                _ => heard.unbounded_send((opcode, payload)).is_ok(),
            };
            if !sent {
                return;
            }
        }
    }
}

/// Takes one frame of a server off the front: whole and unmasked (RFC 6455 section 5.2). Its opcode and its payload.
fn frame(bytes: &mut BytesMut) -> Option<(u8, Bytes)> {
    let mut head: &[u8] = bytes;
    let opcode = head.try_get_u8().ok()? & 0x0f;
    let length = match head.try_get_u8().ok()? {
        126 => head.try_get_u16().ok()?.into(),
        127 => head.try_get_u64().ok()?,
        short => short.into(),
    };
    let start = bytes.len() - head.len();
    let end = start + usize::try_from(length).ok()?;
    if bytes.len() < end {
        return None;
    }
    let mut whole = bytes.split_to(end).freeze();
    Some((opcode, whole.split_off(start)))
}
