//! The clauses about event streams, and a client of them.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Serve, Suite, Theatre};
use crate::limits::Limits;

/// A room as an event stream has the events and the payloads of the room, and its client counts as a viewer.
pub async fn a_room_as_events(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut socket = stage.joined("5").await;
    let mut events = stage.events("/events/post/42?token=user-6", &[]).await;
    assert_eq!(events.data().await, json!({"type": "room_joined", "room": "post:42", "viewers": 2}));
    assert_eq!(socket.json().await, json!({"type": "viewer_joined", "viewers": 2}));
    for text in ["x", "\n\r\n", &"y".repeat(60_000)] {
        stage.broadcast(&json!({"text": text})).await;
        assert_eq!(socket.json().await["text"], text);
        let message = events.data().await;
        assert_eq!(message, json!({"type": "message", "room": "post:42", "data": {"text": text}}));
    }
    drop(events);
    assert_eq!(socket.json().await, json!({"type": "viewer_left", "viewers": 1}));

    let mut several = stage.events("/events?token=user-6&room=post:42&room=post%3A13&room=channel:7", &[]).await;
    let (mut joined, mut refused) = (Vec::new(), Vec::new());
    while joined.len() + refused.len() < 3 {
        let event = several.data().await;
        match event["type"].as_str() {
            Some("room_joined") => joined.push(event["room"].clone()),
            Some("error") => refused.push((event["room"].clone(), event["code"].clone())),
            _ => panic!("{event}"),
        }
    }
    assert_eq!(
        (joined, refused),
        (vec!["post:42".into(), "channel:7".into()], vec![("post:13".into(), "not_allowed".into())])
    );
    stage.broadcast(&json!(1)).await;
    assert_eq!(several.data().await, json!({"type": "message", "room": "post:42", "data": 1}));
}

/// What can't be an event stream is answered over HTTP; what its room refuses is told by the event `close`.
pub async fn refused_events(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let many = "&room=post:1".repeat(17);
    for (what, target, headers, status) in [
        ("no token", "/events/post/42", &[][..], 401),
        ("a bad token", "/events/post/42?token=garbage", &[], 401),
        ("no answer about the token", "/events/post/42?token=panic", &[], 503),
        ("a foreign page", "/events/post/42?token=user-5", &[("Origin", "https://evil.example")], 403),
        ("two tokens", "/events/post/42?token=user-5&token=user-5", &[], 400),
        ("no id", "/events/post/a%20b?token=user-5", &[], 400),
        ("no room", "/events?token=user-5", &[], 400),
        ("no name of a room", "/events?token=user-5&room=post:*", &[], 400),
        ("no room beside one", "/events?token=user-5&room=post:42&room=", &[], 400),
        ("a line end in a name", "/events?token=user-5&room=post:4%0A%0Adata:%20%7B%7D", &[], 400),
        ("a quote in a name", "/events?token=user-5&room=post:4%22,%22offset%22:%22", &[], 400),
        ("a comma in a name", "/events?token=user-5&room=post:4%2Cpost:5", &[], 400),
        ("no text", "/events?token=user-5&room=post:%FF", &[], 400),
        ("a zero in a name", "/events/post/4%00?token=user-5", &[], 400),
        ("a long name", &*format!("/events?token=user-5&room=post:{}", "4".repeat(201)), &[], 400),
        ("too many rooms", &*format!("/events?token=user-5{many}"), &[], 400),
    ] {
        let opened = Events::open(stage.address, "GET", target, headers, stage.patience).await;
        assert_eq!(opened.err(), Some(status), "{what}");
    }
    let posted = Events::open(stage.address, "POST", "/events?token=user-5&room=post:42", &[], stage.patience).await;
    assert_eq!(posted.err(), Some(405));
    let mut forbidden = stage.events("/events/post/13?token=user-5", &[]).await;
    let close = forbidden.next().await.expect("an event");
    assert_eq!((&*close.name, close.data), ("close", json!({"code": 4403, "reason": "not allowed"})));
    assert!(close.retry.is_some_and(|retry| retry > 3_600_000), "a browser should not come back");
    assert!(forbidden.next().await.is_none());
    stage.empty().await;
}

/// A client that comes back with the `id` of its last event is given what it missed, in one room and in several.
pub async fn resumed_events(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let log = |id: &str| format!("log:{id}").parse().expect("a room");
    for (target, rooms) in [
        ("/events/log/1?token=user-5", &["1"][..]),
        ("/events?token=user-5&room=log:2&room=log:3", &["2", "3"]),
        // Names that look like ids and positions.
        ("/events?token=user-5&room=log:4&room=log:4=1.9&room=log:=:%7C~%2B", &["4", "4=1.9", "=:|~+"]),
    ] {
        let mut events = stage.events(target, &[]).await;
        let mut last = String::new();
        for _ in rooms {
            let joined = events.next().await.expect("an event");
            assert_eq!(joined.data["type"], "room_joined");
            last = joined.id.expect("a position");
        }
        for room in rooms {
            stage.rooms.broadcast(&log(room), &json!("had")).await.expect("a broadcast");
            last = events.next().await.and_then(|event| event.id).expect("a position");
        }
        drop(events);
        stage.empty().await;
        for room in rooms {
            stage.rooms.broadcast(&log(room), &json!("missed")).await.expect("a broadcast");
        }
        let mut back = stage.events(target, &[("Last-Event-ID", &last)]).await;
        for room in rooms {
            let joined = back.data().await;
            assert_eq!(
                (&joined["room"], &joined["recovered"]),
                (&json!(format!("log:{room}")), &json!(true)),
                "{joined}"
            );
            assert_eq!(back.data().await["data"], "missed");
        }
        drop(back);
        stage.empty().await;
        for hostile in
            ["x".repeat(10_000), ",=".repeat(5_000), format!("{last}\u{ff}"), "log:4=,log:2=log:3".to_owned()]
        {
            let mut lost = stage.events(target, &[("Last-Event-ID", &hostile)]).await;
            let joined = lost.data().await;
            assert_eq!(joined["recovered"], false, "{hostile:.40}: {joined}");
            assert_eq!(lost.data().await["type"], "resync");
            drop(lost);
            stage.empty().await;
        }
    }
}

/// A client that does not read delays nobody, and its connection ends; one that reads slowly is sent a comment now and then;
/// a process that goes down tells all when to come back.
pub async fn the_end_of_events(suite: &Suite<impl Serve>) {
    let stage = suite
        .stage_with(|limits: &mut Limits| {
            // More than waits for one that reads, however late its task has its turn.
            limits.max_outbox_bytes = 1024 * 1024;
            limits.ping_interval = Duration::from_millis(50);
        })
        .await;
    let mut stalled = stage.events("/events/post/42?token=user-6", &[]).await;
    assert_eq!(stalled.data().await["viewers"], 1);
    let mut reads = stage.events("/events/post/42?token=user-5", &[]).await;
    assert_eq!(reads.data().await["viewers"], 2);
    let payload = "x".repeat(60_000);
    let mut left = false;
    for n in 0..1_000 {
        stage.broadcast(&json!({"n": n, "payload": payload})).await;
        let got = reads.data().await;
        left = got["type"] == "viewer_left";
        if left {
            break;
        }
        assert_eq!(got["data"]["n"], n);
    }
    assert!(left, "the stalled client was never closed");
    drop(stalled);
    reads.until_comment().await;

    let rooms = stage.rooms.clone();
    let drained = tokio::spawn(async move { rooms.shutdown(Duration::from_secs(5)).await });
    let mut told = reads.next().await.expect("an event");
    while told.data["type"] != "reconnect" {
        told = reads.next().await.expect("an event");
    }
    assert_eq!(told.data["in_ms"].as_u64(), told.retry);
    let close = reads.next().await.expect("an event");
    assert_eq!((&*close.name, close.data), ("close", json!({"code": 1012, "reason": "restart"})));
    assert!(reads.next().await.is_none(), "the end of the answer");
    timeout(stage.patience, drained).await.expect("an end of the drain").expect("no panic");
    stage.empty().await;
}

impl Theatre {
    pub(super) async fn events(&self, target: &str, headers: &[(&str, &str)]) -> Events {
        let opened = Events::open(self.address, "GET", target, headers, self.patience).await;
        opened.unwrap_or_else(|status| panic!("{target}: {status} instead of events"))
    }
}

/// A client of an event stream, over bare TCP.
pub(super) struct Events {
    stream: TcpStream,
    chunked: Vec<u8>,
    text: String,
    comments: usize,
    patience: Duration,
}

struct Event {
    name: String,
    id: Option<String>,
    retry: Option<u64>,
    data: Value,
}

impl Events {
    /// Sends the request; the status where it is refused.
    async fn open(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(address).await.expect("a TCP connection");
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("a write");
        let mut this = Self { stream, chunked: Vec::new(), text: String::new(), comments: 0, patience };
        let end = loop {
            if let Some(end) = this.chunked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(this.read().await > 0, "the end instead of an answer");
        };
        let head = String::from_utf8(this.chunked.drain(..end).collect()).expect("a head in UTF-8").to_lowercase();
        match head.split(' ').nth(1) {
            Some("200") => {
                assert!(head.contains("content-type: text/event-stream"), "{head}");
                assert!(head.contains("cache-control: no-store"), "{head}");
                Ok(this)
            }
            status => Err(status.and_then(|status| status.parse().ok()).expect("a status")),
        }
    }

    async fn read(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.chunked);
        timeout(self.patience, read).await.expect("something in time").expect("a read")
    }

    /// The JSON of the next event, of the default name.
    pub(super) async fn data(&mut self) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!(event.name, "message", "{}", event.data);
        event.data
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = Event::read(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => self.comments += 1,
                }
                continue;
            }
            if !self.next_chunk().await {
                return None;
            }
        }
    }

    async fn until_comment(&mut self) {
        while self.comments == 0 {
            assert!(self.next_chunk().await, "the end instead of a comment");
            self.comments += self.text.matches(":\n\n").count();
        }
    }

    /// Takes a chunk (RFC 9112 section 7.1); `false` for the last.
    async fn next_chunk(&mut self) -> bool {
        loop {
            if let Some(end) = self.chunked.windows(2).position(|bytes| bytes == b"\r\n") {
                let length = std::str::from_utf8(&self.chunked[..end]).expect("a length");
                let length = usize::from_str_radix(length, 16).expect("a length");
                if length == 0 {
                    return false;
                }
                let chunk = end + 2..end + 2 + length;
                if self.chunked.len() >= chunk.end + 2 {
                    self.text.push_str(std::str::from_utf8(&self.chunked[chunk.clone()]).expect("UTF-8"));
                    self.chunked.drain(..chunk.end + 2);
                    return true;
                }
            }
            assert!(self.read().await > 0, "an end within a chunk");
        }
    }
}

impl Event {
    /// Reads it as a browser does; `None` for a comment.
    fn read(block: &str) -> Option<Self> {
        let mut event = Self { name: "message".to_owned(), id: None, retry: None, data: Value::Null };
        let mut data = Vec::new();
        for line in block.lines() {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => {}
                "event" => event.name = value.to_owned(),
                "id" => event.id = Some(value.to_owned()),
                "retry" => event.retry = Some(value.parse().expect("milliseconds")),
                "data" => data.push(value),
                _ => panic!("{line}"),
            }
        }
        if data.is_empty() {
            return None;
        }
        event.data = serde_json::from_str(&data.join("\n")).expect("JSON");
        Some(event)
    }
}
