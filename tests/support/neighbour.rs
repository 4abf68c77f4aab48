//! A healthy member beside a hostile client: it loses nothing, and waits for nothing that the other does.
//!
//! What is meant by "waits for nothing" is an order and no time, so that a busy machine spoils no test. A hostile client goes
//! step by step, and between two of its steps the neighbour is given a message, by the one thread that serves both. So it is
//! given each before the other says its next word, reads its next answer, or lets go of what it holds: a server that waits
//! for one of these in the wrong place stops here for good. With `ROOMS_LONG_TESTS` the times are looked at, too.

use std::{env, time::Duration};

use futures::StreamExt as _;
use rooms::RoomKey;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    served::{PATIENCE, Served},
    tokens::token,
};

/// How long the 99th percentile of its messages may take.
const SOON: Duration = Duration::from_millis(100);

/// Whether times are looked at, and floods have the size that they were measured with.
pub(crate) fn is_long() -> bool {
    env::var_os("ROOMS_LONG_TESTS").is_some()
}

pub(crate) struct Neighbour<'a> {
    service: &'a Served,
    room: RoomKey,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u64,
    waited: Vec<Duration>,
}

impl<'a> Neighbour<'a> {
    /// In `post:42`.
    pub(crate) async fn join(service: &'a Served) -> Self {
        let url = format!("ws://{}/posts/42?token={}", service.address, token("neighbour"));
        let (socket, _) = timeout(PATIENCE, connect_async(url)).await.expect("an answer in time").unwrap();
        let room = "post:42".parse().unwrap();
        let mut neighbour = Self { service, room, socket, next: 0, waited: Vec::new() };
        assert_eq!(neighbour.event("it joins").await["type"], "room_joined");
        neighbour
    }

    /// Is given the next message, and no later one before it.
    pub(crate) async fn is_told(&mut self, meanwhile: &str) {
        let (rooms, room, number) = (self.service.rooms.clone(), self.room.clone(), self.next);
        let begun = Instant::now();
        self.service.spawn(async move { rooms.broadcast(&room, &json!({"number": number})).await });
        loop {
            let event = self.event(meanwhile).await;
            assert_ne!(event["type"], "resync", "{meanwhile}: it lost something");
            if let Some(told) = event["number"].as_u64() {
                assert_eq!(told, number, "{meanwhile}: it lost something");
                break;
            }
        }
        self.next += 1;
        self.waited.push(begun.elapsed());
    }

    async fn event(&mut self, meanwhile: &str) -> Value {
        loop {
            let Ok(message) = timeout(PATIENCE, self.socket.next()).await else {
                panic!("{meanwhile}: the neighbour waits for {PATIENCE:?}, with {} messages before", self.next);
            };
            match message {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{meanwhile}: the neighbour is given {other:?}"),
            }
        }
    }

    /// It goes, once all is over.
    pub(crate) fn leaves(mut self, after: &str) {
        self.waited.sort_unstable();
        let slowest = self.waited[self.waited.len() * 99 / 100];
        println!("{after}: {} messages, the 99th percentile {slowest:?}", self.waited.len());
        assert!(!is_long() || slowest < SOON, "{after}: {slowest:?}");
    }
}
