//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1): of all extensions, permessage-deflate (RFC 7692).

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

const DEFLATE: &str = "permessage-deflate";

/// The bits of the largest window that there is, 32 KiB (RFC 7692 section 7.1.2.1).
const LARGEST: u8 = 15;

/// The most offers that are looked at: clients make one to three. An offer is some words, and a head of 4 KiB has hundreds.
const MAX_OFFERS: usize = 16;

/// An offer that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) deflate: Deflate,
    /// Whether the offer has `server_max_window_bits`: then the answer has it too, whatever it is (RFC 7692 section 7.1.2.1).
    names_window: bool,
}

/// permessage-deflate as it was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflate {
    /// How far back what we send may refer, in bits: 9 to 15.
    pub(crate) window_bits: u8,
}

impl Deflate {
    /// Whether a message of this length may be sent compressed. Our compressor looks back 32 KiB, and never further than the
    /// message is long, so to a client with a shorter window it is the messages that fit into that.
    pub(crate) const fn takes(self, length: usize) -> bool {
        self.window_bits == LARGEST || length <= 1 << self.window_bits
    }
}

impl Accepted {
    /// The first offer that can be accepted. One with a parameter that is unknown, twice there, or has a value that it can't
    /// have is declined (RFC 7692 section 7.1), and so is one that wants a window of 256 bytes, which zlib does not do.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).take(MAX_OFFERS).find_map(Self::accept)
    }

    fn accept(offer: &str) -> Option<Self> {
        let mut parameters = offer.split(';').map(str::trim);
        if parameters.next() != Some(DEFLATE) {
            return None;
        }
        let mut seen = [false; 4];
        let mut window_bits = LARGEST;
        for parameter in parameters {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
                None => (parameter, None),
            };
            let index = match (name, value) {
                ("server_no_context_takeover", None) => 0,
                ("client_no_context_takeover", None) => 1,
                ("server_max_window_bits", Some(bits)) => {
                    window_bits = window(bits).filter(|bits| *bits > 8)?;
                    2
                }
                ("client_max_window_bits", None) => 3,
                ("client_max_window_bits", Some(bits)) => window(bits).map(|_| 3)?,
                _ => return None,
            };
            if std::mem::replace(seen.get_mut(index)?, true) {
                return None;
            }
        }
        let [.., names_window, _] = seen;
        Some(Self { deflate: Deflate { window_bits }, names_window })
    }

    /// The answer. No context is taken over in either direction: what we send is shared, and what the client sends needs no
    /// memory between two messages.
    pub(super) fn header(self) -> HeaderValue {
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        if !self.names_window {
            return HeaderValue::from_static(both);
        }
        let bits = self.deflate.window_bits;
        // Text that a header may have.
        HeaderValue::try_from(format!("{both}; server_max_window_bits={bits}"))
            .unwrap_or(HeaderValue::from_static(both))
    }
}

/// 8 to 15, in decimal and without leading zeros (RFC 7692 section 7.1.2.1).
fn window(text: &str) -> Option<u8> {
    match text {
        "8" => Some(8),
        "9" => Some(9),
        _ => text
            .strip_prefix('1')
            .filter(|ones| matches!(*ones, "0" | "1" | "2" | "3" | "4" | "5"))?
            .parse::<u8>()
            .ok()
            .map(|ones| 10 + ones),
    }
}

/// A value may be a quoted string, which means the same (RFC 6455 section 9.1).
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
    .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(offers: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(offer).unwrap());
        }
        Accepted::negotiate(&headers).map(|accepted| accepted.header().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_offers_of_clients_are_accepted() {
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=12; server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
            // The first is one that RFC 7692 has to be declined.
            "permessage-deflate; server_max_window_bits=7, permessage-deflate",
        ] {
            assert_eq!(negotiate(&[offer]).as_deref(), Some(both), "{offer}");
        }
        assert_eq!(negotiate(&["foo", "permessage-deflate"]).as_deref(), Some(both), "two headers");
        for (offer, bits) in [
            ("permessage-deflate; server_max_window_bits=9", 9),
            ("permessage-deflate;server_max_window_bits=15", 15),
            ("permessage-deflate; server_max_window_bits=\"15\"; client_no_context_takeover", 15),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10", 10),
        ] {
            assert_eq!(negotiate(&[offer]), Some(format!("{both}; server_max_window_bits={bits}")), "{offer}");
        }
    }

    #[test]
    fn what_can_not_be_accepted_is_declined() {
        let many = "foo, ".repeat(800) + "permessage-deflate";
        for offer in [
            "",
            "foo",
            "permessage-deflat",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=10x",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; =; ;",
            &many,
        ] {
            assert_eq!(negotiate(&[offer]), None, "{offer:.60}");
        }
    }
}
