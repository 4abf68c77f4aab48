//! RFC 6455, the other way: which bytes a client is answered with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/frames.rs"]
mod frames;

use futures::{SinkExt as _, StreamExt as _};
use rooms_core::{
    Close, Identity, Kind, Limits, Message, RoomManager,
    ws::{self, Incoming},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use frames::{BINARY, CLOSE, FIN, PING, PONG, TEXT, closing, frame, header};

#[tokio::test(start_paused = true)]
async fn server_frames_are_unmasked_and_have_the_shortest_length() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let (mut client, server) = tokio::io::duplex(1000);
        let (_stream, mut sink) = ws::over(server, &[], &Limits::default());
        let send = async {
            sink.send(Message::text("x".repeat(length))).await.unwrap();
            sink.send(Message::binary(vec![0xFF; length])).await.unwrap();
        };
        let receive = async move { [server_frame(&mut client).await, server_frame(&mut client).await] };
        let (_, got) = tokio::join!(send, receive);
        assert_eq!(got, [(FIN | TEXT, vec![b'x'; length]), (FIN | BINARY, vec![0xFF; length])]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_by_a_pong_with_the_same_payload() {
    let (mut client, _session) = served().await;
    for payload in [&b""[..], b"\x00\xFFnot text", &[9; 125]] {
        client.write_all(&frame(FIN | PING, payload)).await.unwrap();
        assert_eq!(server_frame(&mut client).await, (FIN | PONG, payload.to_vec()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_a_connection_is_answered_by_a_close_frame_and_then_the_end() {
    for (bytes, code, reason) in [
        (frame(FIN | CLOSE, ""), 1000, ""),
        (closing(1001, ""), 1001, ""),
        (closing(4321, "good-bye"), 4321, ""),
        (closing(1005, ""), 1002, "close code that must not be sent"),
        (frame(FIN | CLOSE, "x"), 1002, "close of one byte"),
        (vec![FIN | TEXT, 0], 1002, "unmasked frame from a client"),
        (frame(FIN | TEXT, b"\xFF"), 1007, "invalid UTF-8"),
        (closing(1000, b"\xFF"), 1007, "invalid UTF-8"),
        (frame(TEXT, vec![0; 65_537])[..14].to_vec(), 1009, "message too big"),
    ] {
        let (mut client, session) = served().await;
        client.write_all(&bytes).await.unwrap();
        let payload = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
        assert_eq!(server_frame(&mut client).await, (FIN | CLOSE, payload));
        // The server has shut its side, and reads on until the client shuts its own.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "nothing comes behind a close frame");
        assert!(!session.is_finished());
        drop(client);
        assert_eq!(session.await.unwrap().to_string(), format!("{code} {reason}").trim_end());
    }
}

/// What whoever has no rooms needs of the codec is public.
#[tokio::test]
async fn an_echo_server_is_made_of_the_codec_alone() {
    let (mut client, server) = tokio::io::duplex(1024);
    let (mut stream, mut sink) = ws::over(server, &[], &Limits::default());
    let echo = tokio::spawn(async move {
        sink.send(Message::ping()).await.unwrap();
        while let Some(Ok(incoming)) = stream.next().await {
            match incoming {
                Incoming::Text(text) => sink.send(Message::text(text)).await.unwrap(),
                Incoming::Ping(payload) => sink.send(Message::pong(&payload)).await.unwrap(),
                Incoming::Close(close) => sink.send(Message::close(&close.unwrap_or(Close::NORMAL))).await.unwrap(),
                _ => {}
            }
        }
        sink.close().await.unwrap();
    });
    let sent = [frame(FIN | PING, "one"), frame(FIN | TEXT, "two"), closing(1001, "three")].concat();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.unwrap();
    assert_eq!(answers, b"\x89\0\x8a\x03one\x81\x03two\x88\x07\x03\xe9three");
    echo.await.unwrap();
}

/// A client in a room, with its welcome read, and its session.
async fn served() -> (DuplexStream, tokio::task::JoinHandle<Close>) {
    let rooms: RoomManager = RoomManager::builder().kind("post", Kind::authenticated()).build().unwrap();
    let (mut client, server) = tokio::io::duplex(64);
    let (stream, sink) = ws::over(server, &[], rooms.limits());
    let room = "post:1".parse().unwrap();
    let session = tokio::spawn(rooms.serve_room(stream, sink, Identity::new("a").unwrap(), room));
    assert_eq!(server_frame(&mut client).await.0, FIN | TEXT);
    (client, session)
}

/// The next frame from a server: its first byte and its payload. It is unmasked and its length in the shortest form.
async fn server_frame(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let (first, second) = (client.read_u8().await.unwrap(), client.read_u8().await.unwrap());
    assert_eq!(second & 0x80, 0, "a server's frame is unmasked");
    let length = match second {
        126 => client.read_u16().await.unwrap().into(),
        127 => client.read_u64().await.unwrap() as usize,
        short => short.into(),
    };
    assert_eq!(header(first, 0, length)[1], second, "the shortest form of {length}");
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).await.unwrap();
    (first, payload)
}
