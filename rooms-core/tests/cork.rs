//! The answer to an upgrade, held back for the first messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use rooms_core::{
    Limits, Message,
    ws::{CorkedStream, Incoming},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
const OTHER: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// A client, and the server's stream to it.
async fn connected() -> (TcpStream, CorkedStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    client.set_nodelay(true).unwrap();
    (client, CorkedStream::new(listener.accept().await.unwrap().0))
}

/// What one read of the client gives: over the loopback a write is there when it returns.
fn arrived(mut client: &TcpStream) -> Option<Vec<u8>> {
    let mut buffer = [0; 1024];
    match client.read(&mut buffer) {
        Ok(length) => Some(buffer[..length].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// As an HTTP server does.
async fn answer(stream: &mut CorkedStream, answer: &[u8]) {
    stream.write_all(answer).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn the_answer_goes_out_with_the_first_message() {
    let (client, mut stream) = connected().await;
    stream.cork().hold();
    answer(&mut stream, ANSWER).await;
    assert_eq!(arrived(&client), None);
    let (mut stream, mut sink) = stream.split(b"", &Limits::default()).unwrap();
    assert_eq!(arrived(&client), None);
    let message = Message::text("joined");
    sink.send(message.clone()).await.unwrap();
    assert_eq!(arrived(&client), Some([ANSWER, message.frame()].concat()), "in one read");
    sink.send(message.clone()).await.unwrap();
    assert_eq!(arrived(&client), Some(message.frame().to_vec()), "and once");
    std::io::Write::write_all(&mut &client, &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Incoming::Text("hi".into()));
}

#[tokio::test]
async fn a_flush_of_the_sink_sends_the_answer_by_itself() {
    let (client, mut stream) = connected().await;
    stream.cork().hold();
    answer(&mut stream, ANSWER).await;
    let (_stream, mut sink) = stream.split(b"", &Limits::default()).unwrap();
    sink.flush().await.unwrap();
    assert_eq!(arrived(&client).as_deref(), Some(ANSWER));
}

#[tokio::test]
async fn nothing_but_the_next_answer_is_held_and_only_where_it_is_101() {
    let (client, mut stream) = connected().await;
    answer(&mut stream, ANSWER).await;
    assert_eq!(arrived(&client).as_deref(), Some(ANSWER), "nobody has it held");
    stream.cork().hold();
    answer(&mut stream, OTHER).await;
    assert_eq!(arrived(&client).as_deref(), Some(OTHER), "it upgrades nothing");
    answer(&mut stream, ANSWER).await;
    assert_eq!(arrived(&client).as_deref(), Some(ANSWER), "that of another request");
}

#[tokio::test]
async fn whatever_else_is_done_with_the_stream_sends_the_answer_first() {
    let (client, mut stream) = connected().await;
    stream.cork().hold();
    answer(&mut stream, ANSWER).await;
    // Nothing is there to be read.
    _ = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 8])).await;
    assert_eq!(arrived(&client).as_deref(), Some(ANSWER), "before a read");

    let (client, mut stream) = connected().await;
    stream.cork().hold();
    answer(&mut stream, ANSWER).await;
    stream.write_all(b"more").await.unwrap();
    let mut read = arrived(&client).unwrap();
    read.extend(arrived(&client).into_iter().flatten());
    assert_eq!(read, [ANSWER, b"more"].concat(), "before a write");

    let (client, mut stream) = connected().await;
    stream.cork().hold();
    answer(&mut stream, ANSWER).await;
    stream.shutdown().await.unwrap();
    assert_eq!(arrived(&client).as_deref(), Some(ANSWER), "before the end");
}
