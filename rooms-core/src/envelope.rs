//! What a payload on the bus says besides its JSON.
//!
//! Bare JSON is the rule, so that a publisher in any language needs nothing of ours. What needs more begins with byte
//! 0x01, which no JSON text can, and `v1;`. One or two of these fields follow, and then the JSON:
//!
//! | field | meaning |
//! |---|---|
//! | `x=<connection>;` | that connection is left out |
//! | `w;` | published by a member, with the `type` of an event of the server's: see [`Carried::Wrapped`] |
//! | `r;` | a broadcast that was too long: see [`Carried::Refresh`] |

use bytes::Bytes;

use crate::{
    json::{self, JsonFault},
    node::ConnectionId,
};

const MARK: u8 = 0x01;
const PREFIX: &[u8] = b"\x01v1;";
const EXCEPT: &[u8] = b"x=";
const WRAPPED: &[u8] = b"w;";
const REFRESH: &[u8] = b"r;";

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
}

/// A payload from the bus, opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) json: &'a [u8],
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

pub(crate) fn seal(except: Option<ConnectionId>, carried: Carried, json: Bytes) -> Bytes {
    if except.is_none() && carried == Carried::Bare {
        return json;
    }
    let mut sealed = PREFIX.to_vec();
    if let Some(except) = except {
        sealed.extend_from_slice(EXCEPT);
        sealed.extend_from_slice(except.to_string().as_bytes());
        sealed.push(b';');
    }
    match carried {
        Carried::Bare => {}
        Carried::Wrapped => sealed.extend_from_slice(WRAPPED),
        Carried::Refresh => sealed.extend_from_slice(REFRESH),
    }
    sealed.extend_from_slice(&json);
    sealed.into()
}

/// Opens a payload, whose JSON may have so many bytes, and checks what is in it.
pub(crate) fn read(payload: &[u8], limit: usize) -> Result<Opened<'_>, BadPayload> {
    let opened = open(payload)?;
    if opened.json.len() > limit {
        return Err(BadPayload::TooLong);
    }
    json::check(opened.json)?;
    Ok(opened)
}

pub(crate) fn open(payload: &[u8]) -> Result<Opened<'_>, BrokenEnvelope> {
    if payload.first() != Some(&MARK) {
        return Ok(Opened { json: payload, except: None, carried: Carried::Bare });
    }
    let fields = payload.strip_prefix(PREFIX).ok_or(BrokenEnvelope)?;
    let (except, rest) = match fields.strip_prefix(EXCEPT) {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b';').ok_or(BrokenEnvelope)?;
            let (connection, rest) = rest.split_at(end);
            let connection = std::str::from_utf8(connection).map_err(|_| BrokenEnvelope)?;
            (Some(connection.parse().map_err(|_| BrokenEnvelope)?), rest.get(1..).unwrap_or_default())
        }
        None => (None, fields),
    };
    let (json, carried) = if let Some(json) = rest.strip_prefix(WRAPPED) {
        (json, Carried::Wrapped)
    } else if let Some(json) = rest.strip_prefix(REFRESH) {
        (json, Carried::Refresh)
    } else if except.is_some() {
        (rest, Carried::Bare)
    } else {
        return Err(BrokenEnvelope);
    };
    Ok(Opened { json, except, carried })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_json_is_itself_and_an_envelope_opens_as_it_was_sealed() {
        let id = ConnectionId::for_test(7);
        for except in [None, Some(id)] {
            for carried in [Carried::Bare, Carried::Wrapped, Carried::Refresh] {
                for json in [&b"{\"a\":\";\"}"[..], b"true", b""] {
                    let sealed = seal(except, carried, Bytes::from_static(json));
                    assert_eq!(sealed.first() == Some(&MARK), except.is_some() || carried != Carried::Bare);
                    assert_eq!(open(&sealed), Ok(Opened { json, except, carried }));
                }
            }
        }
        assert_eq!(seal(None, Carried::Wrapped, Bytes::from_static(b"{}")), &b"\x01v1;w;{}"[..]);
        assert_eq!(seal(None, Carried::Refresh, Bytes::from_static(b"null")), &b"\x01v1;r;null"[..]);
        for broken in
            [&b"\x01"[..], b"\x01v1;{}", b"\x01v2;x=1-1;{}", b"\x01v1;x=1-1", b"\x01v1;x=;{}", b"\x01v1;x=\xff;{}"]
        {
            assert_eq!(open(broken), Err(BrokenEnvelope), "{broken:?}");
        }
    }
}
