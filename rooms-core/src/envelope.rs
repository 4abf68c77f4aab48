//! What a payload on the bus says besides its JSON.
//!
//! Bare JSON is the rule, so that a publisher in any language needs nothing of ours. What needs more begins with byte
//! 0x01, which no JSON text can, and `v1;`. Some of these fields follow, in this order, and then the JSON:
//!
//! | field | meaning |
//! |---|---|
//! | `t=<traceparent>;` | the trace that it is a part of, as W3C has it. One that is broken is ignored |
//! | `x=<connection>;` | that connection is left out |
//! | `w;` | published by a member, with the `type` of an event of the server's: see [`Carried::Wrapped`] |
//! | `r;` | a broadcast that was too long: see [`Carried::Refresh`] |
//! | `b;` | what follows is no JSON but bytes, any and perhaps none: see [`Carried::Binary`] |

use bytes::Bytes;

use crate::{
    json::{self, JsonFault},
    node::ConnectionId,
    trace::TraceParent,
};

const MARK: u8 = 0x01;
const PREFIX: &[u8] = b"\x01v1;";
const TRACE: &[u8] = b"t=";
const EXCEPT: &[u8] = b"x=";
const WRAPPED: &[u8] = b"w;";
const REFRESH: &[u8] = b"r;";
const BINARY: &[u8] = b"b;";

/// How a payload is carried to members whose connection is for one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Carried {
    /// As it is.
    #[default]
    Bare,
    /// Inside an event `message`, as on a connection for many rooms: bare, it would be taken for an event of the server's.
    Wrapped,
    /// Not at all: the members get an event `refresh` in its place. There is a JSON `null` behind it.
    Refresh,
    /// As it is, in a binary message: it is no JSON, and nothing about it is looked at but its length.
    Binary,
}

/// A payload from the bus, opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    /// JSON, unless it is carried as [`Carried::Binary`].
    pub(crate) payload: &'a [u8],
    /// What is said of its trace: anything, as nobody has looked at it yet.
    pub(crate) trace: Option<&'a [u8]>,
    pub(crate) except: Option<ConnectionId>,
    pub(crate) carried: Carried,
}

/// Why a payload from the bus is not given to anybody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPayload {
    #[error(transparent)]
    Envelope(#[from] BrokenEnvelope),
    #[error("too long")]
    TooLong,
    #[error(transparent)]
    Json(#[from] JsonFault),
}

impl BadPayload {
    /// Whether it was meant for the members, who do not get it: a publisher of another make, or another limit.
    pub(crate) const fn was_meant(&self) -> bool {
        matches!(self, Self::TooLong | Self::Json(JsonFault::TooDeep))
    }
}

/// An envelope that can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broken envelope")]
pub(crate) struct BrokenEnvelope;

pub(crate) fn seal(
    trace: Option<TraceParent>,
    except: Option<ConnectionId>,
    carried: Carried,
    payload: Bytes,
) -> Bytes {
    if trace.is_none() && except.is_none() && carried == Carried::Bare {
        return payload;
    }
    let mut sealed = PREFIX.to_vec();
    if let Some(trace) = trace {
        sealed.extend_from_slice(TRACE);
        sealed.extend_from_slice(trace.as_str().as_bytes());
        sealed.push(b';');
    }
    if let Some(except) = except {
        sealed.extend_from_slice(EXCEPT);
        sealed.extend_from_slice(except.to_string().as_bytes());
        sealed.push(b';');
    }
    match carried {
        Carried::Bare => {}
        Carried::Wrapped => sealed.extend_from_slice(WRAPPED),
        Carried::Refresh => sealed.extend_from_slice(REFRESH),
        Carried::Binary => sealed.extend_from_slice(BINARY),
    }
    sealed.extend_from_slice(&payload);
    sealed.into()
}

/// Opens a payload, which may have so many bytes without its envelope, and checks what is in it.
pub(crate) fn read(payload: &[u8], limit: usize) -> Result<Opened<'_>, BadPayload> {
    let opened = open(payload)?;
    if opened.payload.len() > limit {
        return Err(BadPayload::TooLong);
    }
    if opened.carried != Carried::Binary {
        json::check(opened.payload)?;
    }
    Ok(opened)
}

pub(crate) fn open(payload: &[u8]) -> Result<Opened<'_>, BrokenEnvelope> {
    if payload.first() != Some(&MARK) {
        return Ok(Opened { payload, trace: None, except: None, carried: Carried::Bare });
    }
    let fields = payload.strip_prefix(PREFIX).ok_or(BrokenEnvelope)?;
    let (trace, fields) = take_trace(fields)?;
    let (except, rest) = match fields.strip_prefix(EXCEPT) {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b';').ok_or(BrokenEnvelope)?;
            let (connection, rest) = rest.split_at(end);
            let connection = std::str::from_utf8(connection).map_err(|_| BrokenEnvelope)?;
            (Some(connection.parse().map_err(|_| BrokenEnvelope)?), rest.get(1..).unwrap_or_default())
        }
        None => (None, fields),
    };
    let (payload, carried) = if let Some(json) = rest.strip_prefix(WRAPPED) {
        (json, Carried::Wrapped)
    } else if let Some(json) = rest.strip_prefix(REFRESH) {
        (json, Carried::Refresh)
    } else if let Some(bytes) = rest.strip_prefix(BINARY) {
        (bytes, Carried::Binary)
    } else if except.is_some() || trace.is_some() {
        (rest, Carried::Bare)
    } else {
        return Err(BrokenEnvelope);
    };
    Ok(Opened { payload, trace, except, carried })
}

/// The first field, if it is about a trace, and what follows it.
fn take_trace(fields: &[u8]) -> Result<(Option<&[u8]>, &[u8]), BrokenEnvelope> {
    let Some(rest) = fields.strip_prefix(TRACE) else { return Ok((None, fields)) };
    let end = rest.iter().position(|byte| *byte == b';').ok_or(BrokenEnvelope)?;
    let (trace, rest) = rest.split_at(end);
    Ok((Some(trace), rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_json_is_itself_and_an_envelope_opens_as_it_was_sealed() {
        let id = ConnectionId::for_test(7);
        let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        for (trace, except) in [(None, None), (None, Some(id)), (Some(parent), None), (Some(parent), Some(id))] {
            for carried in [Carried::Bare, Carried::Wrapped, Carried::Refresh, Carried::Binary] {
                for payload in [&b"{\"a\":\";\"}"[..], b"true", b"", b"\0\xff;b;"] {
                    let sealed = seal(trace, except, carried, Bytes::from_static(payload));
                    let bare = trace.is_none() && except.is_none() && carried == Carried::Bare;
                    assert_eq!(sealed.first() != Some(&MARK), bare);
                    let trace = trace.as_ref().map(|trace| trace.as_str().as_bytes());
                    assert_eq!(open(&sealed), Ok(Opened { payload, trace, except, carried }));
                }
            }
        }
        assert_eq!(seal(None, None, Carried::Wrapped, Bytes::from_static(b"{}")), &b"\x01v1;w;{}"[..]);
        assert_eq!(seal(None, None, Carried::Refresh, Bytes::from_static(b"null")), &b"\x01v1;r;null"[..]);
        assert_eq!(seal(None, None, Carried::Binary, Bytes::from_static(b"\x01")), &b"\x01v1;b;\x01"[..]);
        let broken = Opened { payload: b"{}", trace: Some(b"no trace"), except: None, carried: Carried::Bare };
        assert_eq!(open(b"\x01v1;t=no trace;{}"), Ok(broken), "and the message is delivered");
        assert_eq!(open(b"\x01v1;t=no end"), Err(BrokenEnvelope));
        for broken in [
            &b"\x01"[..],
            b"\x01v1;{}",
            b"\x01v2;x=1-1;{}",
            b"\x01v1;x=1-1",
            b"\x01v1;x=;{}",
            b"\x01v1;x=\xff;{}",
            b"\x01v1;b",
            b"\x01v1;B;",
            b"\x01v1;b=;",
            b"\x01v2;b;\0",
        ] {
            assert_eq!(open(broken), Err(BrokenEnvelope), "{broken:?}");
        }
    }

    #[test]
    fn bytes_are_looked_at_for_their_length_alone() {
        let read =
            |payload: &[u8]| read(payload, 4).map(|opened| opened.payload.to_vec()).map_err(|bad| bad.to_string());
        assert_eq!(read(b"\x01v1;b;").unwrap(), b"", "none are bytes too");
        assert_eq!(read(b"\x01v1;b;\xff[[{").unwrap(), b"\xff[[{", "at the limit");
        assert_eq!(read(b"\x01v1;b;12345").unwrap_err(), "too long");
        for no_json in [&b"\x01v1;w;b;1"[..], b"\x01v1;r;b;", b"\x01v1;w;\xff", b"\xff"] {
            assert_eq!(read(no_json).unwrap_err(), "not JSON", "{no_json:?}");
        }
    }
}
