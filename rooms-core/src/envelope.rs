//! What a payload on the bus says besides its JSON.
//!
//! Bare JSON is the rule, so that a publisher in any language needs nothing of ours. What needs more begins with byte
//! 0x01, which no JSON text can: `\x01v1;x=<connection>;` and then the JSON.

use bytes::Bytes;

use crate::node::ConnectionId;

const MARK: u8 = 0x01;
const PREFIX: &[u8] = b"\x01v1;x=";

/// A payload from the bus, opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) json: &'a [u8],
    pub(crate) except: Option<ConnectionId>,
}

/// An envelope that can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broken envelope")]
pub(crate) struct BrokenEnvelope;

pub(crate) fn seal(except: ConnectionId, json: &[u8]) -> Bytes {
    let mut sealed = PREFIX.to_vec();
    sealed.extend_from_slice(except.to_string().as_bytes());
    sealed.push(b';');
    sealed.extend_from_slice(json);
    sealed.into()
}

pub(crate) fn open(payload: &[u8]) -> Result<Opened<'_>, BrokenEnvelope> {
    if payload.first() != Some(&MARK) {
        return Ok(Opened { json: payload, except: None });
    }
    let rest = payload.strip_prefix(PREFIX).ok_or(BrokenEnvelope)?;
    let end = rest.iter().position(|byte| *byte == b';').ok_or(BrokenEnvelope)?;
    let (connection, json) = rest.split_at(end);
    let connection = std::str::from_utf8(connection).map_err(|_| BrokenEnvelope)?;
    let except = connection.parse().map_err(|_| BrokenEnvelope)?;
    Ok(Opened { json: json.get(1..).unwrap_or_default(), except: Some(except) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_json_is_itself_and_an_envelope_opens_as_it_was_sealed() {
        assert_eq!(open(b"{}"), Ok(Opened { json: b"{}", except: None }));
        let id = ConnectionId::for_test(7);
        assert_eq!(open(&seal(id, b"{\"a\":\";\"}")), Ok(Opened { json: b"{\"a\":\";\"}", except: Some(id) }));
        for broken in [&b"\x01"[..], b"\x01v2;x=1-1;{}", b"\x01v1;x=1-1", b"\x01v1;x=;{}", b"\x01v1;x=\xff;{}"] {
            assert_eq!(open(broken), Err(BrokenEnvelope), "{broken:?}");
        }
    }
}
