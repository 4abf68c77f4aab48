//! RFC 6455 rule by rule: what a client's bytes become.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/frames.rs"]
mod frames;

use futures::StreamExt as _;
use rooms_core::{
    Close, CloseCode, Limits,
    ws::{self, Incoming, WsError},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use frames::{
    BINARY, CLOSE, CONTINUATION, FIN, MASK, MASKED, PING, PONG, TEXT, accepts, closing, frame, header, heard, refuses,
    refuses_within, text,
};

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
