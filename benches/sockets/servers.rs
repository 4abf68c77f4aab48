//! The servers under measurement. Each runs in a process of its own, on cores of its own.
//!
//! A server serves `/posts/{room}/live`, tells whoever connects that it joined, and publishes when it is told so over a
//! control connection on a second port.

mod calls;
mod floor;
mod handwritten;
mod library;
mod many_rooms;
mod upgrade;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub(crate) use self::calls::Call;
use crate::{Result, clock::now, cores::Cores};

pub(crate) const SECRET: &str = "a secret for benchmarks, nothing else";
/// What numbers on the wire begin at, so that they all have the same number of digits and stand at fixed places.
pub(crate) const BASE: u64 = 1_000_000_000;

/// Who fans out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// One `write(2)` of a ready frame for each member, in a loop, and nothing else.
    Floor,
    /// Shakes hands, waits until the client has gone, and closes.
    Handshake,
    /// The same by Axum and hyper: a request that is upgraded, and nothing else.
    Upgrade,
    /// This library behind Axum, through its public API alone.
    Rooms,
    /// The same behind the library's own `serve`, in place of Axum's.
    RoomsServed,
    /// The same behind Warp.
    RoomsOnWarp,
    /// What is often written: `axum::extract::ws`, a map of rooms, an `mpsc` and two tasks for each connection.
    Handwritten,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::Handshake => "handshake",
            Self::Upgrade => "axum upgrade alone",
            Self::Rooms => "rooms",
            Self::RoomsServed => "rooms, own serve",
            Self::RoomsOnWarp => "rooms on warp",
            Self::Handwritten => "handwritten",
        })
    }
}

/// How a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    /// Bytes of filling in each payload.
    pub(crate) payload: usize,
    /// Rooms that each connection is in, from the one that it names on.
    pub(crate) each: u32,
    /// Rooms with a member inside the process, besides those that are measured.
    pub(crate) other_rooms: usize,
    /// Cores, and worker threads.
    pub(crate) cores: usize,
    /// What the process does besides, again and again, and takes the time of.
    pub(crate) call: Option<Call>,
    /// The clients offer compression, and are given what is compressed.
    pub(crate) deflate: bool,
    /// The filling is comments as JSON, and not one character again and again.
    pub(crate) json: bool,
}

impl Setup {
    /// The command line of a server, on cores of these.
    pub(crate) fn arguments(&self, cores: &Cores) -> Result<[String; 3]> {
        Ok(["server".into(), serde_json::to_string(self)?, cores.of_server(self.cores).argument()])
    }
}

/// Serves until it is killed.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut next = || arguments.next().ok_or("server SETUP CORES");
    let setup: Setup = serde_json::from_str(&next()?)?;
    let cores = Cores::parse(&next()?)?;
    cores.stay()?;
    crate::raise_file_limit()?;
    let mut builder = match cores.count() {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(cores.count()).enable_all().build()?;
    let filling = if setup.json { comments(setup.payload) } else { format!("\"{}\"", "x".repeat(setup.payload)) };
    let filling = Filling(RawValue::from_string(filling)?.into());
    match setup.kind {
        Kind::Floor => floor::serve(&filling, setup.each),
        Kind::Handshake => floor::shake_hands_only(),
        Kind::Upgrade => runtime.block_on(upgrade::serve()),
        Kind::Rooms if setup.each > 1 => runtime.block_on(many_rooms::serve(filling, setup.each)),
        Kind::Rooms | Kind::RoomsServed | Kind::RoomsOnWarp => runtime.block_on(library::serve(filling, setup)),
        Kind::Handwritten => runtime.block_on(handwritten::serve(filling)),
    }
}

/// The first line of a server's output: where it serves, and where it is told to publish.
fn announce(serving: SocketAddr, control: SocketAddr) {
    println!("{} {}", serving.port(), control.port());
}

/// What the payloads of a run have in common.
#[derive(Debug, Clone)]
struct Filling(Arc<RawValue>);

/// What is published. The load generator reads it at fixed places, so the fields' order counts.
#[derive(Debug, Serialize)]
struct Payload<'a> {
    /// Nanoseconds since 1970: 19 digits until 2286.
    at: u64,
    seq: u64,
    room: u64,
    filling: &'a RawValue,
}

impl Filling {
    fn payload(&self, command: Command) -> Payload<'_> {
        Payload {
            at: now(),
            seq: BASE + u64::from(command.seq),
            room: BASE + u64::from(command.room),
            filling: &self.0,
        }
    }
}

/// So many bytes of comments: made up, but each with an id, a name, a time and words of its own, as a service sends them.
fn comments(bytes: usize) -> String {
    const WORDS: &str = "the and of a post that was not so good but some like this one more than what they had seen there \
                         before it came with pictures from last summer when nobody would have thought people read every \
                         comment below an answer which took weeks to write";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    // Knuth's MMIX generator, with a fixed seed: the same bytes in each run.
    let mut seed = 42_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut text = String::from("[");
    while text.len() < bytes.saturating_sub(1) {
        let said: Vec<&str> = (0..8 + random(12)).filter_map(|_| words.get(random(words.len())).copied()).collect();
        let comment = json!({
            "id": 1_000_000 + random(9_000_000),
            "author": format!("user{}", random(100_000)),
            "created_at": format!("2025-{:02}-{:02}T{:02}:{:02}:{:02}Z", 1 + random(12), 1 + random(28), random(24), random(60), random(60)),
            "text": said.join(" "),
            "likes": random(500),
        });
        let comma = if text.len() > 1 { "," } else { "" };
        let comment = format!("{comma}{comment}");
        let left = bytes.saturating_sub(text.len() + 1);
        if comment.len() > left {
            // As long as is asked for: spaces would be no text.
            text +=
                &format!("{comma}\"{}\"", said.join(" ").get(..left.saturating_sub(2 + comma.len())).unwrap_or("so"));
            break;
        }
        text += &comment;
    }
    text + "]"
}

/// "Publish the message `seq` to `room`": eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) room: u32,
    pub(crate) seq: u32,
}

impl Command {
    pub(crate) fn encode(self) -> [u8; 8] {
        (u64::from(self.room) << 32 | u64::from(self.seq)).to_be_bytes()
    }

    fn decode(bytes: [u8; 8]) -> Self {
        let both = u64::from_be_bytes(bytes);
        Self { room: (both >> 32) as u32, seq: both as u32 }
    }
}

/// Asks for the times of the calls instead of a publish; the answer is JSON and a line break.
pub(crate) const REPORT: Command = Command { room: u32::MAX, seq: u32::MAX };

/// Takes commands, one after the other, from whoever connects.
async fn control<F: Future<Output = ()>>(
    listener: TcpListener,
    publish: impl Fn(Command) -> F,
    report: impl Fn() -> String,
) -> io::Result<()> {
    loop {
        let (mut connection, _) = listener.accept().await?;
        let mut bytes = [0; 8];
        while connection.read_exact(&mut bytes).await.is_ok() {
            match Command::decode(bytes) {
                REPORT => connection.write_all((report() + "\n").as_bytes()).await?,
                command => publish(command).await,
            }
        }
    }
}
