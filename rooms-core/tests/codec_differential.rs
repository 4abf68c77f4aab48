//! The codec against `tungstenite`: for the same bytes the same messages, and the same verdict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{SinkExt as _, StreamExt as _, stream};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use rooms_core::{
    Limits, Message,
    ws::{self, Incoming, WsError},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tungstenite::{
    Message as Theirs,
    error::{Error, ProtocolError},
    protocol::{Role, WebSocket, WebSocketConfig},
};

/// The longest message in: low, so that a sum of fragments goes over it.
const LIMIT: usize = 400;

/// A message, as far as both codecs tell it.
#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, String)>),
}

/// What a codec made of a stream: messages up to the first close, fault or end.
#[derive(Debug)]
struct Outcome<E> {
    messages: Vec<Heard>,
    fault: Option<E>,
}

fn ours(chunks: Chunks) -> Outcome<WsError> {
    let mut limits = Limits::default();
    limits.max_message_bytes = LIMIT;
    let (mut stream, _sink) = ws::over(chunks, &[], &limits);
    let mut outcome = Outcome { messages: Vec::new(), fault: None };
    block_on(async {
        while let Some(item) = stream.next().await {
            match item {
                Ok(message) => outcome.messages.push(match message {
                    Incoming::Text(text) => Heard::Text(text),
                    Incoming::Binary(payload) => Heard::Binary(payload),
                    Incoming::Ping(payload) => Heard::Ping(payload.into()),
                    Incoming::Pong => Heard::Pong,
                    Incoming::Close(close) => {
                        Heard::Close(close.map(|close| (close.code().get(), close.reason().to_owned())))
                    }
                    other => unreachable!("{other:?}"),
                }),
                Err(error) => outcome.fault = Some(error),
            }
        }
    });
    outcome
}

fn theirs(chunks: Chunks, role: Role, limit: usize) -> Outcome<Error> {
    let config = WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit));
    let mut socket = WebSocket::from_raw_socket(chunks, role, Some(config));
    let mut outcome = Outcome { messages: Vec::new(), fault: None };
    while !matches!(outcome.messages.last(), Some(Heard::Close(_))) {
        match socket.read() {
            Ok(message) => outcome.messages.push(match message {
                Theirs::Text(text) => Heard::Text(text.to_string()),
                Theirs::Binary(payload) => Heard::Binary(payload.into()),
                Theirs::Ping(payload) => Heard::Ping(payload.into()),
                Theirs::Pong(_) => Heard::Pong,
                // It answers a forbidden code with 1002 as we do, but calls that a message.
                Theirs::Close(Some(close)) if close.reason == "Protocol violation" => {
                    outcome.fault = Some(Error::Protocol(ProtocolError::InvalidCloseSequence));
                    break;
                }
                Theirs::Close(close) => Heard::Close(close.map(|close| (close.code.into(), close.reason.to_string()))),
                Theirs::Frame(frame) => unreachable!("{frame:?}"),
            }),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break,
            Err(error) => {
                outcome.fault = Some(error);
                break;
            }
        }
    }
    outcome
}

/// Both codecs must say the same of `bytes`, with four exceptions, each of which is one of `tungstenite`'s.
fn agree(bytes: &[u8], cuts: &[Index]) -> Result<(), TestCaseError> {
    let ours = ours(Chunks::cut(bytes, cuts));
    let mut whole = bytes.to_vec();
    if ours.fault.is_some() {
        // 1. It looks at a header only when the whole frame is there. We do at the header's byte, so it gets the rest.
        whole.resize(bytes.len() + LIMIT + 14, 0xFF);
    }
    let theirs = theirs(Chunks::cut(&whole, cuts), Role::Server, LIMIT);
    let context = format!("{bytes:02x?}\n  ours: {ours:?}\ntheirs: {theirs:?}");
    match (&ours.fault, &theirs.fault) {
        // 2. It sees bad UTF-8 at the end of a fragment; we at the end of the message, which then must not come.
        (_, Some(Error::Utf8(_))) if theirs.messages.len() <= ours.messages.len() => {
            let between = ours.messages.strip_prefix(&*theirs.messages);
            let data = |heard: &Heard| matches!(heard, Heard::Text(_) | Heard::Binary(_));
            prop_assert!(between.is_some_and(|between| !between.iter().any(data)), "{context}");
        }
        // 3. It takes a length that is not in its shortest form (section 5.2); a short control frame's is the second.
        (Some(WsError::Protocol("length not in its shortest form" | "control frame over 125 bytes")), _) => {
            prop_assert!(theirs.messages.starts_with(&ours.messages), "{context}");
        }
        // 4. It does not know the close code 1014 (Bad Gateway, in IANA's registry), and takes it for a forbidden one.
        (None, Some(Error::Protocol(ProtocolError::InvalidCloseSequence)))
            if matches!(ours.messages.last(), Some(Heard::Close(Some((1014, _))))) =>
        {
            prop_assert!(ours.messages.starts_with(&theirs.messages), "{context}");
        }
        (ours_fault, theirs_fault) => {
            prop_assert_eq!(&ours.messages, &theirs.messages, "{}", context);
            prop_assert_eq!(ours_fault.is_some(), theirs_fault.is_some(), "{}", context);
        }
    }
    Ok(())
}

proptest! {
    // Four times proptest's default: few of the frames are at a border, and many come behind a fault.
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn client_frames_mean_the_same_to_tungstenite(frames in vec(frame(), 1..8), cuts: Vec<Index>) {
        agree(&frames.concat(), &cuts)?;
    }

    #[test]
    fn right_conversations_mean_the_same_to_tungstenite(messages in vec(message(), 1..6), cuts: Vec<Index>) {
        let bytes = messages.concat();
        agree(&bytes, &cuts)?;
        prop_assert!(ours(Chunks::cut(&bytes, &cuts)).fault.is_none());
    }

    #[test]
    fn broken_conversations_mean_the_same_to_tungstenite(
        messages in vec(message(), 1..6),
        flips in vec(any::<(Index, u8)>(), 0..4),
        end: Index,
        cuts: Vec<Index>,
    ) {
        let mut bytes = messages.concat();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        bytes.truncate(1 + end.index(bytes.len()));
        agree(&bytes, &cuts)?;
    }
}

proptest! {
    #[test]
    fn what_a_sink_writes_is_what_tungstenite_reads(
        sent in vec((any::<bool>(), server_text()), 1..100),
        pipe in 1usize..5000,
        cuts: Vec<Index>,
    ) {
        let messages = sent.iter().map(|(text, payload)| match text {
            true => Message::text(payload),
            false => Message::binary(payload),
        });
        let (mut client, server) = tokio::io::duplex(pipe);
        let mut bytes = Vec::new();
        block_on(async {
            let (_stream, mut sink) = ws::over(server, &[], &Limits::default());
            let mut messages = stream::iter(messages.map(Ok));
            let send = async {
                sink.send_all(&mut messages).await.unwrap();
                sink.close().await.unwrap();
            };
            tokio::join!(send, async { client.read_to_end(&mut bytes).await.unwrap() });
        });
        let read = theirs(Chunks::cut(&bytes, &cuts), Role::Client, usize::MAX);
        let expected: Vec<_> = sent.into_iter().map(|(text, payload)| match text {
            true => Heard::Text(payload),
            false => Heard::Binary(payload.into_bytes()),
        }).collect();
        prop_assert!(read.fault.is_none() && read.messages == expected);
    }
}

/// A payload around the borders of the length's forms and of [`LIMIT`].
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "\\PC{0,8}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..8),
        6 => (select(vec![0, 1, 124, 125, 126, 127, LIMIT / 2, LIMIT / 2 + 1, LIMIT, LIMIT + 1, 70_000]), any::<u8>())
            .prop_map(|(length, byte)| vec![byte & 0x7F; length]),
        2 => close_payload(),
    ]
}

fn close_payload() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        select(vec![999, 1000, 1003, 1004, 1005, 1006, 1011, 1012, 1014, 1015, 1016, 2999, 3000, 4999, 5000]),
        any::<u16>()
    ];
    (code, "\\PC{0,8}").prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// One frame: mostly of a right form, in whatever order.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        12 => select(vec![0x00, 0x80, 0x01, 0x81, 0x82, 0x02, 0x89, 0x8A]),
        1 => Just(0x88),
        2 => any::<u8>(),
    ];
    let mask = prop_oneof![20 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    let form = prop_oneof![20 => Just(0), 1 => Just(126), 1 => Just(65_536)];
    (first, mask, form, payload()).prop_map(|(first, mask, form, payload)| encode(first, mask, form, &payload))
}

/// One message in fragments, with pings in between; right in every way.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any::<Index>(), any::<[u8; 4]>(), any::<bool>());
    ("\\PC{0,60}", any::<bool>(), vec(cut, 1..5)).prop_map(|(text, binary, mut cuts)| {
        cuts.sort_by_key(|(at, ..)| at.index(text.len() + 1));
        let (mut bytes, mut start) = (Vec::new(), 0);
        for (n, (at, mask, ping)) in cuts.iter().enumerate() {
            let last = n + 1 == cuts.len();
            let end = if last { text.len() } else { at.index(text.len() + 1) };
            let opcode = if n > 0 { 0 } else { 1 + u8::from(binary) };
            if *ping {
                bytes.extend(encode(0x89 + (mask[0] & 1), Some(*mask), 0, &text.as_bytes()[..end.min(125)]));
            }
            bytes.extend(encode(u8::from(last) << 7 | opcode, Some(*mask), 0, &text.as_bytes()[start..end]));
            start = end;
        }
        bytes
    })
}

/// The bytes of one frame, its length in the form that `form` bytes would have.
fn encode(first: u8, mask: Option<[u8; 4]>, form: usize, payload: &[u8]) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let length = payload.len();
    let mut bytes = match length.max(form) {
        0..=125 => vec![first, bit | length as u8],
        126..=0xFFFF => [&[first, bit | 126], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, bit | 127], &(length as u64).to_be_bytes()[..]].concat(),
    };
    bytes.extend(mask.iter().flatten());
    bytes.extend(payload.iter().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn server_text() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "\\PC{0,40}",
        2 => (0usize..300).prop_map(|length| "x".repeat(length)),
        1 => select(vec![125usize, 126, 4096, 65_535, 65_536]).prop_map(|length| "x".repeat(length)),
    ]
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A byte stream for either codec: each read gives one chunk, and what is written is lost.
#[derive(Debug)]
struct Chunks(VecDeque<Vec<u8>>);

impl Chunks {
    fn cut(bytes: &[u8], cuts: &[Index]) -> Self {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
        at.sort_unstable();
        Self(at.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).filter(|chunk| !chunk.is_empty()).collect())
    }
}

impl Read for Chunks {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let Some(chunk) = self.0.front_mut() else { return Ok(0) };
        let count = space.len().min(chunk.len());
        space[..count].copy_from_slice(&chunk[..count]);
        chunk.drain(..count);
        if chunk.is_empty() {
            self.0.pop_front();
        }
        Ok(count)
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Chunks {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = Read::read(&mut *self, space.initialize_unfilled())?;
        space.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chunks {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
