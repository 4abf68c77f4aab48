//! Where the token of an upgrade is.

use http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL},
};

use super::Refusal;
use crate::{auth::AuthError, percent};

/// The entry of `Sec-WebSocket-Protocol` that says that the next one is a token.
pub(super) const BEARER: &str = "bearer";

/// The places where an endpoint looks for a token.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// `Authorization: Bearer <token>` (RFC 6750 section 2.1).
    pub(super) header: bool,
    /// Query parameters.
    pub(super) query: Vec<String>,
    /// Cookies (RFC 6265 section 4.2.1).
    pub(super) cookies: Vec<String>,
    /// `Sec-WebSocket-Protocol: <protocol>, bearer, <token>`.
    pub(super) protocol: bool,
    /// The first message, where there is no token anywhere else.
    pub(super) first_message: bool,
}

/// A token, or why what stands in its place can't be read as one.
pub(super) struct Found {
    pub(super) token: Result<String, AuthError>,
    /// A browser added it by itself, whichever page it was that connects.
    pub(super) is_cookie: bool,
}

impl Sources {
    /// Whether a token may be in the query parameter of this name.
    pub(super) fn is_query(&self, name: &str) -> bool {
        self.query.iter().any(|parameter| parameter == name)
    }

    /// Finds the one token in these places; more than one is an error, wherever they are. What is in no source is not
    /// looked at.
    pub(super) fn find(&self, uri: &Uri, headers: &HeaderMap) -> Result<Option<Found>, Refusal> {
        let found = |token| Found { token, is_cookie: false };
        let header = self.header.then(|| bearer(headers)).into_iter().flatten().map(found);
        let query = self.query.iter().flat_map(|parameter| query(uri, parameter)).map(found);
        let protocol = self.protocol.then(|| protocols(headers).tokens).into_iter().flatten();
        let protocol = protocol.map(|token| found(text(token)));
        let cookies = self.cookies.iter().flat_map(|name| cookies(headers, name));
        let cookies = cookies.map(|token| Found { token, is_cookie: true });
        let mut all = header.chain(query).chain(protocol).chain(cookies);
        match (all.next(), all.next()) {
            (token, None) => Ok(token),
            _ => Err(Refusal::ManyTokens),
        }
    }
}

/// The tokens of `Authorization`. Its bytes, as a header may hold any: a token that is no text is a bad token, and not a
/// request without one, which might be a guest's. The scheme alone is an empty token, as `?token=` is: servers trim `Bearer `
/// to it.
fn bearer(headers: &HeaderMap) -> impl Iterator<Item = Result<String, AuthError>> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let value = value.as_bytes();
        let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
        let (scheme, token) = value.split_at_checked(end)?;
        scheme.eq_ignore_ascii_case(b"bearer").then(|| text(token.trim_ascii()))
    })
}

fn text(token: &[u8]) -> Result<String, AuthError> {
    std::str::from_utf8(token).map(ToOwned::to_owned).map_err(|_| AuthError::Encoding)
}

/// The values of a parameter, decoded as its name is: a page writes both with `URLSearchParams`, which escapes the `/` and
/// the `=` of base64.
fn query(uri: &Uri, parameter: &str) -> impl Iterator<Item = Result<String, AuthError>> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(move |(name, _)| percent::decode(name).is_some_and(|name| name == parameter));
    values.map(|(_, value)| percent::decode(value).map(Into::into).ok_or(AuthError::Encoding))
}

/// The values of a cookie. Bytes, as the other cookies in the header may be anything; a pair of quotes around a value is not
/// part of it.
fn cookies(headers: &HeaderMap, name: &str) -> impl Iterator<Item = Result<String, AuthError>> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii());
        if key != name.as_bytes() {
            return None;
        }
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        Some(text(value))
    })
}

/// What a client offers in `Sec-WebSocket-Protocol`.
pub(super) struct Protocols<'a> {
    /// Without the tokens, and without what announces them: those are never answered. What is no text has no name.
    pub(super) offered: Vec<&'a str>,
    tokens: Vec<&'a [u8]>,
}

pub(super) fn protocols(headers: &HeaderMap) -> Protocols<'_> {
    let values =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let mut entries = values.map(<[u8]>::trim_ascii);
    let mut protocols = Protocols { offered: Vec::new(), tokens: Vec::new() };
    while let Some(entry) = entries.next() {
        if entry == BEARER.as_bytes() {
            protocols.tokens.extend(entries.next());
        } else {
            protocols.offered.extend(std::str::from_utf8(entry));
        }
    }
    protocols
}
