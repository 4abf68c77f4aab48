//! An example goes down under ten thousand real connections: `live_posts` behind Axum, the chat behind Warp.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use std::{collections::HashSet, net::Ipv4Addr, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

use lines::PATIENCE;
use program::Program;
use user::User;

/// As many as a process may have files, but for those that it has besides.
const MOST: usize = 10_000;
/// One user may have a hundred connections.
const EACH: usize = 100;
/// What the program gives its members.
const GRACE: Duration = Duration::from_secs(10);
/// 1012 `restart`.
const CLOSE: &[u8] = b"\x88\x09\x03\xf4restart";

/// What a member was told at its end, and when.
struct End {
    in_ms: u64,
    at: Instant,
}

/// A member on a bare stream: ten thousand of a real client's are more memory than this.
async fn watch(from: Ipv4Addr, port: u16, target: &str, turn: OwnedSemaphorePermit, joined: mpsc::Sender<()>) -> End {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of this machine");
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.expect("a TCP connection");
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("a write");
    let mut read = Vec::new();
    until(&mut stream, &mut read, b"room_joined").await;
    drop(turn);
    joined.send(()).await.expect("the test counts");
    until(&mut stream, &mut read, CLOSE).await;
    let at = Instant::now();
    let text = String::from_utf8_lossy(&read);
    let (_, told) = text.rsplit_once(r#"{"type":"reconnect","in_ms":"#).expect("it is told when to come back");
    let (in_ms, _) = told.split_once('}').expect("a number and a brace");
    End { in_ms: in_ms.parse().expect("a number"), at }
}

/// Reads up to these bytes; of what is before them only the last is kept.
async fn until(stream: &mut TcpStream, read: &mut Vec<u8>, end: &[u8]) {
    while !read.windows(end.len()).any(|bytes| bytes == end) {
        read.drain(..read.len().saturating_sub(512));
        let count = timeout(PATIENCE, stream.read_buf(read)).await.expect("something to read in time").unwrap_or(0);
        assert!(count > 0, "the end before {:?}", String::from_utf8_lossy(end));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_members_are_gone_within_the_grace_period_and_come_back_one_by_one() {
    // One after the other, as each is measured by the clock.
    drain(Program::start().await, "/ws/posts/42/live").await;
    drain(Program::start_chat_at(0).await, "/ws").await;
}

async fn drain(program: Program, path: &'static str) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let files = limit.maximum.map_or(MOST, |most| usize::try_from(most).unwrap_or(MOST));
    let count = MOST.min(files.saturating_sub(200) / EACH * EACH);
    assert!(count >= EACH, "a process may have {files} files open, which is too few for this test: `ulimit -n 10200`");

    let mut members = JoinSet::new();
    let (joined, mut counted) = mpsc::channel(1_000);
    let gate = Arc::new(Semaphore::new(200));
    for n in 0..count / EACH {
        let target: Arc<str> = format!("{path}?token={}", User::login(&program, &format!("u{n}")).await.token).into();
        // Below the limits of one address.
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + u32::try_from(n).unwrap());
        for _ in 0..EACH {
            let (target, joined, gate, port) = (Arc::clone(&target), joined.clone(), Arc::clone(&gate), program.port);
            members.spawn(async move {
                // The queue of the listening socket is short.
                let turn = gate.acquire_owned().await.expect("the gate stays");
                watch(from, port, &target, turn, joined).await
            });
        }
    }
    for n in 0..count {
        timeout(PATIENCE, counted.recv()).await.unwrap_or_else(|_| panic!("{n} of {count} joined in time"));
    }

    let start = Instant::now();
    program.signal("TERM");
    let mut ends = Vec::new();
    while let Some(end) = timeout(PATIENCE, members.join_next()).await.expect("an end in time") {
        ends.push(end.expect("a member is told its end"));
    }
    let (status, log) = program.ended().await;
    let took = start.elapsed();
    println!("{count} members, gone after {took:?}");
    assert_eq!(status.code(), Some(0), "{log}");
    // Two seconds more are for the last HTTP connections.
    assert!(took < GRACE + Duration::from_secs(3), "{took:?} for {count} members");
    assert!(!log.contains("connections were left"), "{log}");

    assert_eq!(ends.len(), count);
    assert!(ends.iter().all(|end| (500..5_500).contains(&end.in_ms)));
    let (moments, back): (HashSet<u64>, Vec<Instant>) =
        ends.iter().map(|end| (end.in_ms, end.at + Duration::from_millis(end.in_ms))).unzip();
    assert!(moments.len() > count.min(2_000) / 2, "{} different times to come back", moments.len());
    let busiest = (0..20_u32).map(|second| {
        let from = start + Duration::from_secs(u64::from(second));
        back.iter().filter(|at| (from..from + Duration::from_secs(1)).contains(at)).count()
    });
    let busiest = busiest.max().unwrap_or(0);
    assert!(busiest < count / 5, "{busiest} of {count} come back within one second");
}
