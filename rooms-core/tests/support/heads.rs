//! Requests whose head is late or long, for the `serve` of an adapter: `/` answers anything.

use std::{net::SocketAddr, time::Duration};

use rooms_core::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Long beyond what any step takes, and less than the 30 s that hyper waits for a head by itself.
const PATIENCE: Duration = Duration::from_secs(20);
const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\n";

/// Below what the servers' own bounds are.
pub(crate) fn limits(limits: &mut Limits) {
    limits.header_timeout = Duration::from_millis(300);
    limits.max_head_bytes = 8192;
}

/// Reads until the server ends the stream.
async fn rest(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    // Where it is reset, what came before that counts.
    let ended = async { while stream.read_buf(&mut read).await.is_ok_and(|length| length > 0) {} };
    timeout(PATIENCE, ended).await.ok()?;
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Who sends nothing, half a head, or nothing more after an answer, is closed.
pub(crate) async fn a_late_head_is_not_waited_for(address: SocketAddr) {
    // `P` may be the first byte of HTTP/2, too.
    for (sent, answered) in [("", false), ("P", false), (HEAD, false), (&*format!("{HEAD}\r\n"), true)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        let is_answer = answer.as_deref().map(|answer| answer.starts_with("HTTP/1.1 200 "));
        assert_eq!(is_answer, Some(answered), "after {sent:?}: {answer:?}");
    }
}

/// Who sends more than `max_head_bytes` is told 431.
pub(crate) async fn a_long_head_is_told_431(address: SocketAddr) {
    for (length, status) in [(7_000, 200), (9_000, 431)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{HEAD}x: {}\r\n\r\n", "y".repeat(length));
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await.expect("the end in time");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length} bytes: {answer}");
    }
}
