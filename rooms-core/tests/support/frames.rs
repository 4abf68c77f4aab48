//! The frames of a client, and what the codec makes of them.

#![allow(dead_code, reason = "each test file uses its part")]

use futures::StreamExt as _;
use rooms_core::{
    Limits,
    ws::{self, Incoming},
};
use tokio::io::AsyncWriteExt as _;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// The mask of the examples in section 5.7.
pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame, right but for what `first` says.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = header(first, MASKED, payload.len());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The bytes before the mask, with the length in its shortest form.
pub(crate) fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask_bit | length as u8],
        126..=0xFFFF => [&[first, mask_bit | 126], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask_bit | 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

pub(crate) fn closing(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

pub(crate) fn text(text: &str) -> Incoming {
    Incoming::Text(text.to_owned())
}

/// What a stream yielded up to its end: messages, and then perhaps one fault as its close code and its text.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) messages: Vec<Incoming>,
    pub(crate) fault: Option<(u16, String)>,
}

/// Sends `bytes` and the end of the stream, through a pipe that holds `pipe` bytes.
pub(crate) async fn hear(bytes: &[u8], pipe: usize, limits: &Limits) -> Heard {
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
pub(crate) async fn heard(bytes: &[u8], limits: &Limits) -> Heard {
    let at_once = hear(bytes, bytes.len() + 1, limits).await;
    assert_eq!(hear(bytes, 1, limits).await, at_once, "one byte at a time against all together");
    at_once
}

pub(crate) async fn accepts(bytes: impl AsRef<[u8]>, messages: &[Incoming]) {
    let heard = heard(bytes.as_ref(), &Limits::default()).await;
    assert_eq!(heard, Heard { messages: messages.to_vec(), fault: None });
}

/// The bytes are heard as `messages` and then as a fault, behind which nothing is heard.
pub(crate) async fn refuses_within(
    limits: &Limits,
    bytes: impl AsRef<[u8]>,
    messages: &[Incoming],
    code: u16,
    rule: &str,
) {
    let bytes = [bytes.as_ref(), &frame(FIN | TEXT, "late"), &frame(FIN | PING, "")].concat();
    let heard = heard(&bytes, limits).await;
    let start = &bytes[..bytes.len().min(24)];
    assert_eq!(heard.messages, messages, "{start:x?}");
    let (fault, named) = heard.fault.unwrap_or_else(|| panic!("{start:x?} was taken, against: {rule}"));
    assert_eq!(fault, code, "{start:x?}: {named}");
    assert!(named.contains(rule), "{start:x?}: {named}, not {rule}");
}

pub(crate) async fn refuses(bytes: impl AsRef<[u8]>, code: u16, rule: &str) {
    refuses_within(&Limits::default(), bytes, &[], code, rule).await;
}
