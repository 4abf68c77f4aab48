//! Clients that never finish their request, against an example as a process: `live_posts` behind Axum, the chat behind Warp.
//! The addresses of this machine, 127.0.0.x, are as many clients.
//!
//! `ROOMS_LONG_TESTS=1` makes it 20,000 of them, and 2,000 with a head that does not end: raise `ulimit -n` for that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use std::{
    collections::VecDeque,
    env, fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rooms::Limits;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use lines::PATIENCE;
use program::Program;
use user::User;

/// Beside what the attackers may have: those of the test, and what opens and closes meanwhile.
const OTHERS: usize = 64;
/// What a process may grow by under attack, in bytes: the places of one address with the longest heads take 16 MiB.
const GROWTH: usize = 48 * 1024 * 1024;

struct Size {
    half_open: usize,
    long_heads: usize,
    /// How soon a newcomer has to be in.
    within: Duration,
}

fn size() -> Size {
    if env::var_os("ROOMS_LONG_TESTS").is_some() {
        Size { half_open: 20_000, long_heads: 2_000, within: Duration::from_secs(1) }
    } else {
        Size { half_open: 600, long_heads: 40, within: PATIENCE }
    }
}

async fn connect(program: &Program, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
    timeout(PATIENCE, socket.connect((Ipv4Addr::LOCALHOST, program.port).into()))
        .await
        .expect("it is accepted")
        .unwrap()
}

fn head(path: &str, token: &str) -> String {
    format!(
        "GET {path}?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
}

/// Reads until this text has come, or the stream has ended.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&read).into_owned();
        if so_far.contains(text) || timeout(PATIENCE, stream.read_buf(&mut read)).await.unwrap().unwrap_or(0) == 0 {
            return so_far;
        }
    }
}

/// How long a newcomer takes to be in its room.
async fn comes_in(program: &Program, from: u8, path: &str, token: &str) -> Duration {
    let start = Instant::now();
    let mut stream = connect(program, from).await;
    stream.write_all((head(path, token) + "\r\n").as_bytes()).await.unwrap();
    let read = read_until(&mut stream, "room_joined").await;
    assert!(read.contains("room_joined"), "{read}");
    start.elapsed()
}

fn files(program: &Program) -> usize {
    fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count()
}

fn resident(program: &Program) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Waits until the process has at most so many files open.
async fn has_at_most(program: &Program, most: usize) {
    let until = Instant::now() + PATIENCE;
    while files(program) > most {
        assert!(Instant::now() < until, "{} files are open", files(program));
        sleep(Duration::from_millis(50)).await;
    }
}

async fn attack(program: Program, path: &str) {
    let Size { half_open, long_heads, within } = size();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let held = limit.maximum.map_or(half_open, |most| usize::try_from(most).unwrap_or(half_open)).saturating_sub(500);

    let user = User::login(&program, "5").await;
    let mut neighbour = if path == "/ws" { user.tab().await } else { user.watch(42).await.0 };
    let neighbour =
        tokio::spawn(async move { while !neighbour.message().await.to_text().unwrap().contains("still here") {} });
    let (files_before, memory_before) = (files(&program), resident(&program));

    // Half a head and nothing more, or nothing at all.
    let mut attackers = VecDeque::new();
    let (mut slowest, mut most_files, mut most_memory) = (Duration::ZERO, 0, 0);
    let half = head(path, &user.token);
    for n in 0..half_open {
        let mut stream = connect(&program, 2).await;
        let sent = if n % 2 == 0 { "" } else { &half };
        _ = stream.write_all(sent.as_bytes()).await;
        attackers.push_back(stream);
        if attackers.len() > held {
            attackers.pop_front();
        }
        if n % (half_open / 20) == 0 {
            slowest = slowest.max(comes_in(&program, 3, path, &user.token).await);
            (most_files, most_memory) = (most_files.max(files(&program)), most_memory.max(resident(&program)));
        }
    }
    let last = read_until(attackers.back_mut().unwrap(), "\r\n\r\n").await;
    assert!(last.is_empty() || last.starts_with("HTTP/1.1 429 "), "{last}");
    println!(
        "{half_open} half-open: a newcomer is in after {slowest:?}, {most_files} files of {files_before}, {} KiB more",
        most_memory.saturating_sub(memory_before) / 1024
    );
    assert!(slowest <= within, "{slowest:?}");
    let places = Limits::default().max_http_connections_per_ip;
    assert!(most_files <= files_before + places + OTHERS, "{most_files} files, and {files_before} before");
    assert!(most_memory <= memory_before + GROWTH, "{most_memory} bytes, and {memory_before} before");

    // A head that does not end.
    let mut long = JoinSet::new();
    let line = format!("x: {}\r\n", "y".repeat(4096));
    for _ in 0..long_heads {
        let mut stream = connect(&program, 4).await;
        let (half, line) = (half.clone(), line.clone());
        long.spawn(async move {
            _ = stream.write_all(half.as_bytes()).await;
            for _ in 0..75 {
                if stream.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
            read_until(&mut stream, "\r\n\r\n").await
        });
        while long.len() > 512 {
            long.join_next().await;
        }
    }
    let slow = comes_in(&program, 3, path, &user.token).await;
    assert!(slow <= within, "{slow:?}");
    while let Some(answer) = long.join_next().await {
        let answer = answer.unwrap();
        let refused = ["HTTP/1.1 431 ", "HTTP/1.1 429 "].iter().any(|status| answer.starts_with(status));
        // Or the reset that follows has overtaken the answer.
        assert!(answer.is_empty() || refused, "{answer}");
    }
    let memory = resident(&program);
    println!("{long_heads} with a long head: {} KiB more", memory.saturating_sub(memory_before) / 1024);
    assert!(memory <= memory_before + GROWTH, "{memory} bytes, and {memory_before} before");

    // Those who wait are closed after `header_timeout`, though their clients hold on.
    has_at_most(&program, files_before + 8).await;
    assert!(comes_in(&program, 2, path, &user.token).await <= PATIENCE, "their address, too");
    // The neighbour has lost nothing.
    say(&user, path).await;
    timeout(PATIENCE, neighbour).await.expect("it is told in time").unwrap();
}

/// Tells the neighbour something.
async fn say(user: &User<'_>, path: &str) {
    let (path, body) = match path {
        "/ws" => ("/messages/5", json!({"text": "still here"})),
        _ => ("/posts/42/comments", json!({"text": "still here"})),
    };
    let (status, answer) = user.post(path, &body).await;
    assert!(status.is_success(), "{status} {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_takes_no_place_of_others_behind_axum() {
    attack(Program::start().await, "/ws/posts/42/live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_takes_no_place_of_others_behind_warp() {
    attack(Program::start_chat_at(0).await, "/ws").await;
}

/// What is answered to a head whose body does not come.
async fn without_a_body(program: &Program, path: &str) -> String {
    let mut stream = connect(program, 2).await;
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n").await.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_body_that_never_comes_keeps_no_place() {
    let posts = Program::start().await;
    let chat = Program::start_chat_at(0).await;
    let sessions = Program::start_with("sessions", &[("PORT", "0")]).await;
    let answers = futures::future::join_all([
        without_a_body(&posts, "/login"),
        without_a_body(&chat, "/login"),
        without_a_body(&sessions, "/login"),
    ]);
    assert_eq!(answers.await, ["HTTP/1.1 408 Request Timeout"; 3]);
}

#[tokio::test]
async fn the_programs_with_a_sign_in_have_the_same_bounds() {
    let provider = "http://127.0.0.1:9";
    for program in [
        Program::start_with("sessions", &[("PORT", "0")]).await,
        Program::start_with("oidc", &[("PORT", "0"), ("ISSUER", provider)]).await,
    ] {
        // Counted before them: on a busy machine the first ones are closed before the last ones are open.
        let before = files(&program);
        let mut silent = Vec::new();
        for _ in 0..Limits::default().max_http_connections_per_ip {
            silent.push(connect(&program, 2).await);
        }
        let mut one_more = connect(&program, 2).await;
        assert!(read_until(&mut one_more, "\r\n\r\n").await.starts_with("HTTP/1.1 429 "));
        let mut other = connect(&program, 3).await;
        other.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(read_until(&mut other, "</html>").await.starts_with("HTTP/1.1 200 "));
        // Those who say nothing are closed.
        // The last one is open, and what the program opens once.
        has_at_most(&program, before + 2).await;
    }
}
