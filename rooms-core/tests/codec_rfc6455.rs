//! RFC 6455 rule by rule: what a client's bytes become, and which bytes a client is answered with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use futures::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use rooms_core::{
    Close, CloseCode, Identity, Kind, Limits, Message, RoomManager,
    ws::{self, Incoming, WsError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
};

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The mask of the examples in section 5.7.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame, right but for what `first` says.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = header(first, MASKED, payload.len());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The bytes before the mask, with the length in its shortest form.
fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask_bit | length as u8],
        126..=0xFFFF => [&[first, mask_bit | 126], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask_bit | 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

fn closing(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.to_owned())
}

/// What a stream yielded up to its end: messages, and then perhaps one fault as its close code and its text.
#[derive(Debug, PartialEq)]
struct Heard {
    messages: Vec<Incoming>,
    fault: Option<(u16, String)>,
}

/// Sends `bytes` and the end of the stream, through a pipe that holds `pipe` bytes.
async fn hear(bytes: &[u8], pipe: usize, limits: &Limits) -> Heard {
    let (mut client, server) = tokio::io::duplex(pipe);
    let (mut stream, _sink) = ws::over(server, &[], limits);
    let send = async {
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let listen = async {
        let mut heard = Heard { messages: Vec::new(), fault: None };
        while let Some(item) = stream.next().await {
            assert_eq!(heard.fault, None, "then came {item:?}");
            match item {
                Ok(message) => heard.messages.push(message),
                Err(error) => heard.fault = Some((error.close().unwrap().code().get(), error.to_string())),
            }
        }
        heard
    };
    tokio::join!(send, listen).1
}

/// What `bytes` are heard as: the same, whether they come all together or one at a time.
async fn heard(bytes: &[u8], limits: &Limits) -> Heard {
    let at_once = hear(bytes, bytes.len() + 1, limits).await;
    assert_eq!(hear(bytes, 1, limits).await, at_once, "one byte at a time against all together");
    at_once
}

async fn accepts(bytes: impl AsRef<[u8]>, messages: &[Incoming]) {
    let heard = heard(bytes.as_ref(), &Limits::default()).await;
    assert_eq!(heard, Heard { messages: messages.to_vec(), fault: None });
}

/// The bytes are heard as `messages` and then as a fault, behind which nothing is heard.
async fn refuses_within(limits: &Limits, bytes: impl AsRef<[u8]>, messages: &[Incoming], code: u16, rule: &str) {
    let bytes = [bytes.as_ref(), &frame(FIN | TEXT, "late"), &frame(FIN | PING, "")].concat();
    let heard = heard(&bytes, limits).await;
    let start = &bytes[..bytes.len().min(24)];
    assert_eq!(heard.messages, messages, "{start:x?}");
    let (fault, named) = heard.fault.unwrap_or_else(|| panic!("{start:x?} was taken, against: {rule}"));
    assert_eq!(fault, code, "{start:x?}: {named}");
    assert!(named.contains(rule), "{start:x?}: {named}, not {rule}");
}

async fn refuses(bytes: impl AsRef<[u8]>, code: u16, rule: &str) {
    refuses_within(&Limits::default(), bytes, &[], code, rule).await;
}

#[tokio::test(start_paused = true)]
async fn all_three_forms_of_a_length_are_read_up_to_their_borders() {
    // The example of section 5.7.
    accepts([0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58], &[text("Hello")]).await;
    for length in [0, 1, 7, 8, 9, 124, 125, 126, 127, 65_534, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
        accepts(frame(FIN | TEXT, &payload), &[Incoming::Text(String::from_utf8(payload.clone()).unwrap())]).await;
        accepts(frame(FIN | BINARY, &payload), &[Incoming::Binary(payload)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unmasked_client_frame_is_a_protocol_error() {
    for first in [TEXT, FIN | TEXT, FIN | BINARY, FIN | CLOSE, FIN | PING, FIN | PONG] {
        for payload in [&b""[..], b"\x03\xE8hello"] {
            refuses([&header(first, 0, payload.len()), payload].concat(), 1002, "unmasked").await;
        }
    }
    let start = frame(TEXT, "a");
    refuses([&start[..], &[FIN | CONTINUATION, 1, b'b']].concat(), 1002, "unmasked").await;
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_not_in_its_shortest_form_is_a_protocol_error() {
    for (form, length) in [(126, 0), (126, 1), (126, 125), (127, 0), (127, 125), (127, 126), (127, 65_535)] {
        let wide = (length as u64).to_be_bytes();
        let digits = if form == 126 { &wide[6..] } else { &wide };
        let bytes = [&[FIN | TEXT, MASKED | form], digits, &MASK, &vec![0; length]].concat();
        refuses(bytes, 1002, "shortest form").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_64_bit_length_has_its_top_bit_clear() {
    for (length, code, rule) in
        [(1u64 << 63, 1002, "63 bits"), (u64::MAX, 1002, "63 bits"), (u64::MAX >> 1, 1009, "over the limit")]
    {
        refuses([&[FIN | BINARY, MASKED | 127], &length.to_be_bytes()[..], &MASK].concat(), code, rule).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reserved_bit_is_a_protocol_error_on_every_kind_of_frame() {
    for bit in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            refuses(frame(FIN | bit | opcode, ""), 1002, "reserved bit").await;
        }
        refuses([frame(TEXT, "a"), frame(FIN | bit, "b")].concat(), 1002, "reserved bit").await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_reserved_opcode_is_a_protocol_error() {
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        refuses(frame(FIN | opcode, "x"), 1002, "reserved opcode").await;
        refuses(frame(opcode, "x"), 1002, "reserved opcode").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_fragments_of_a_message_are_one_message() {
    for parts in [&["Hel", "lo"][..], &["", "Hello"], &["Hello", ""], &["", "H", "", "ell", "o", ""]] {
        for (opcode, message) in [(TEXT, text("Hello")), (BINARY, Incoming::Binary(b"Hello".to_vec()))] {
            let mut bytes = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                let fin = if n + 1 == parts.len() { FIN } else { 0 };
                bytes.extend(frame(fin | if n == 0 { opcode } else { CONTINUATION }, part));
            }
            accepts(bytes, &[message]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn control_frames_come_through_between_fragments_and_leave_them_whole() {
    let bytes = [
        frame(TEXT, "He"),
        frame(FIN | PING, "one"),
        frame(CONTINUATION, "ll"),
        frame(FIN | PONG, "two"),
        frame(FIN | PING, ""),
        frame(FIN | CONTINUATION, "o"),
    ];
    let ping = |payload: &'static str| Incoming::Ping(payload.into());
    accepts(bytes.concat(), &[ping("one"), Incoming::Pong, ping(""), text("Hello")]).await;
    let bytes = [frame(TEXT, "He"), closing(1000, ""), frame(FIN | CONTINUATION, "llo")];
    accepts(bytes.concat(), &[Incoming::Close(Some(Close::NORMAL))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_continuation_needs_a_beginning() {
    for first in [CONTINUATION, FIN | CONTINUATION] {
        refuses(frame(first, "x"), 1002, "continuation of nothing").await;
        let whole = [frame(TEXT, "a"), frame(FIN | CONTINUATION, "b"), frame(first, "c")].concat();
        refuses_within(&Limits::default(), whole, &[text("ab")], 1002, "continuation of nothing").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_does_not_begin_inside_another() {
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        refuses([frame(TEXT, "a"), frame(first, "b")].concat(), 1002, "message inside a message").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_frame_is_never_fragmented() {
    for opcode in [CLOSE, PING, PONG] {
        refuses([frame(opcode, ""), frame(FIN | CONTINUATION, "")].concat(), 1002, "fragmented control").await;
        refuses([frame(TEXT, "a"), frame(opcode, "")].concat(), 1002, "fragmented control").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_frame_carries_125_bytes_and_not_126() {
    accepts(frame(FIN | PING, [7; 125]), &[Incoming::Ping(vec![7; 125].into())]).await;
    accepts(frame(FIN | PONG, [7; 125]), &[Incoming::Pong]).await;
    for opcode in [CLOSE, PING, PONG] {
        for length in [126, 127, 65_536] {
            refuses(frame(FIN | opcode, vec![7; length]), 1002, "over 125 bytes").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn text_may_be_cut_anywhere_even_inside_a_character() {
    let whole = "aé€𝄞z";
    for cut in 0..=whole.len() {
        let (head, tail) = whole.as_bytes().split_at(cut);
        let bytes = [frame(TEXT, head), frame(FIN | PING, ""), frame(FIN | CONTINUATION, tail)].concat();
        accepts(bytes, &[Incoming::Ping("".into()), text(whole)]).await;
    }
}

/// Section 8.1: the connection fails for bad text; that is seen where the text breaks, and not when its message ends.
#[tokio::test(start_paused = true)]
async fn a_text_message_that_is_not_utf8_is_refused_at_the_fragment_where_it_breaks() {
    for bad in [
        &b"ok \xFF"[..],
        b"\x80",              // a continuation byte alone
        b"\xC0\xAF",          // overlong
        b"\xED\xA0\x80",      // a surrogate
        b"\xF4\x90\x80\x80",  // above U+10FFFF
        b"\xE2\x82a",         // two of three bytes, and then something else
        b"\xF0\x9D\x84\xC3",  // three of four
        b"\xE2\x82\xAC\xE2a", // a whole character, and then the first byte of one
    ] {
        refuses(frame(FIN | TEXT, bad), 1007, "not UTF-8").await;
        // Nothing that follows the bad fragment is heard, whichever of its bytes came in a fragment before.
        for cut in 0..bad.len() {
            let (head, tail) = bad.split_at(cut);
            refuses([frame(TEXT, head), frame(CONTINUATION, tail), frame(FIN | PING, "")].concat(), 1007, "not UTF-8")
                .await;
        }
        accepts(frame(FIN | BINARY, bad), &[Incoming::Binary(bad.to_vec())]).await;
        accepts([frame(BINARY, bad), frame(FIN | CONTINUATION, "")].concat(), &[Incoming::Binary(bad.to_vec())]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_bad_text_is_refused_before_it_is_whole() {
    let (mut client, server) = tokio::io::duplex(1024);
    let (mut stream, _sink) = ws::over(server, &[], &Limits::default());
    // A thousand bytes are announced, and ten come.
    client.write_all(&[&header(TEXT, MASKED, 1_000)[..], &MASK, &[0; 10]].concat()).await.unwrap();
    assert!(matches!(stream.next().await, Some(Err(WsError::InvalidText))));
}

#[tokio::test(start_paused = true)]
async fn a_character_that_is_cut_off_by_the_end_of_its_message_is_refused_there() {
    for bad in [&b"cut off: \xE2\x82"[..], b"cut off: \xF0\x9D\x84", b"\xC3"] {
        refuses(frame(FIN | TEXT, bad), 1007, "not UTF-8").await;
        let ping = Incoming::Ping("".into());
        let start = [frame(TEXT, bad), frame(FIN | PING, "")].concat();
        for end in [&b""[..], b"rest", b"\xC3"] {
            let bytes = [&start[..], &frame(FIN | CONTINUATION, end)].concat();
            refuses_within(&Limits::default(), bytes, std::slice::from_ref(&ping), 1007, "not UTF-8").await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the bytes are and wherever the fragments end: what is heard is what `std` says of the whole.
    #[test]
    fn text_in_fragments_is_what_it_is_whole(
        pieces in prop::collection::vec(
            prop_oneof![
                4 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
                1 => prop::collection::vec(any::<u8>(), 0..3),
                2 => "[ -~]{0,20}".prop_map(String::into_bytes),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(bytes.len());
        let fragments: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let last = fragments.len() - 1;
        let mut sent = Vec::new();
        for (n, fragment) in fragments.iter().enumerate() {
            let fin = if n == last { FIN } else { 0 };
            sent.extend(frame(fin | if n == 0 { TEXT } else { CONTINUATION }, fragment));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let heard = runtime.block_on(heard(&sent, &Limits::default()));
        match std::str::from_utf8(&bytes) {
            Ok(whole) => prop_assert_eq!(heard, Heard { messages: vec![text(whole)], fault: None }),
            Err(_) => prop_assert_eq!(heard.fault.map(|(code, _)| code), Some(1007)),
        }
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

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_refused_by_its_header_alone() {
    let mut limits = Limits::default();
    limits.max_message_bytes = 200;
    let limit = |bytes: Vec<u8>| refuses_within(&limits, bytes, &[], 1009, "over the limit of 200 bytes");
    for opcode in [TEXT, BINARY] {
        limit([header(FIN | opcode, MASKED, 201), MASK.to_vec()].concat()).await;
        limit([header(opcode, MASKED, 201), MASK.to_vec()].concat()).await;
        let start = [frame(opcode, [b'a'; 120]), frame(CONTINUATION, [b'a'; 80])].concat();
        limit([&start[..], &[FIN | CONTINUATION, MASKED | 1], &MASK].concat()).await;
        // A limit of 200 takes 200, and a control frame does not count.
        let whole = [start, frame(FIN | PING, [1; 125]), frame(FIN | CONTINUATION, "")].concat();
        let heard = heard(&[whole, frame(FIN | opcode, [b'a'; 200])].concat(), &limits).await;
        assert_eq!((heard.messages.len(), heard.fault), (3, None));
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_fragments_are_too_big_even_when_they_are_empty() {
    let mut limits = Limits::default();
    limits.max_fragments = 3;
    let three = [frame(TEXT, ""), frame(CONTINUATION, ""), frame(FIN | CONTINUATION, "")].concat();
    assert_eq!(heard(&three, &limits).await.messages, [text("")]);
    let four = [frame(TEXT, ""), frame(CONTINUATION, ""), frame(CONTINUATION, ""), frame(CONTINUATION, "")].concat();
    refuses_within(&limits, four, &[], 1009, "more than 3 fragments").await;
}

#[tokio::test(start_paused = true)]
async fn a_close_is_heard_with_its_code_and_reason_and_is_the_last_thing_heard() {
    let late = frame(FIN | TEXT, "late");
    accepts([frame(FIN | CLOSE, ""), late.clone()].concat(), &[Incoming::Close(None)]).await;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        for reason in ["", "gone fishing: 釣り", &"r".repeat(123)] {
            let close = Close::new(CloseCode::new(code).unwrap(), reason.to_owned());
            accepts([closing(code, reason), late.clone()].concat(), &[Incoming::Close(Some(close))]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_that_says_what_it_must_not_is_refused() {
    refuses(frame(FIN | CLOSE, [3]), 1002, "close of one byte").await;
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
        refuses(closing(code, ""), 1002, "close code").await;
        refuses(closing(code, "reason"), 1002, "close code").await;
    }
    for reason in [&b"\xFF"[..], b"cut off: \xE2\x82", b"\xED\xA0\x80"] {
        refuses(closing(1000, reason), 1007, "not UTF-8").await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_come_in_one_read_or_behind_the_handshake_are_all_heard_in_order() {
    let frames: Vec<_> = (0..300).map(|n| frame(FIN | TEXT, n.to_string())).collect();
    let expected: Vec<_> = (0..300).map(|n| text(&n.to_string())).collect();
    let bytes = frames.concat();
    accepts(&bytes, &expected).await;
    // What was read behind the handshake may end anywhere, inside a header or a payload too.
    for cut in [0, 1, 5, 7, 8, 100, bytes.len()] {
        let (mut client, server) = tokio::io::duplex(bytes.len());
        let (stream, _sink) = ws::over(server, &bytes[..cut], &Limits::default());
        client.write_all(&bytes[cut..]).await.unwrap();
        drop(client);
        assert_eq!(stream.map(Result::unwrap).collect::<Vec<_>>().await, expected, "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_inside_a_frame_ends_the_stream_without_a_message() {
    for whole in [frame(FIN | TEXT, "hello"), frame(FIN | PING, "hello"), frame(FIN | BINARY, [0; 300])] {
        for cut in 0..whole.len() {
            accepts([&frame(FIN | TEXT, "before"), &whole[..cut]].concat(), &[text("before")]).await;
        }
    }
    accepts(frame(TEXT, "never finished"), &[]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_fault_a_socket_that_breaks_is_no_second_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _sink) = ws::tcp(listener.accept().await.unwrap().0, &[], &Limits::default()).unwrap();
    client.write_all(&frame(FIN | 0x40 | TEXT, "")).await.unwrap();
    assert!(matches!(stream.next().await, Some(Err(WsError::Protocol("reserved bit set")))));
    client.set_zero_linger().unwrap(); // so that the drop sends a reset
    drop(client);
    let after = stream.next().await;
    assert!(after.is_none(), "{after:?}");
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
