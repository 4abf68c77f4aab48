//! The head of an upgrade, and an endpoint that takes a token from anywhere.

#![allow(dead_code, reason = "each test file uses its part")]

use http::{HeaderMap, HeaderName, HeaderValue};
use rooms_core::Endpoint;

const UPGRADE: [(&str, &str); 5] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("host", "rooms.example"),
];
pub(crate) const APP: (&str, &str) = ("origin", "https://app.example");

pub(crate) fn headers(more: &[(&str, &str)]) -> HeaderMap {
    let all = UPGRADE.iter().chain(more);
    all.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}

/// Every source at once.
pub(crate) fn all() -> Endpoint {
    Endpoint::new()
        .query_token("token")
        .cookie_token("session")
        .protocol_token("app.v1")
        .origins(["https://app.example"])
        .unwrap()
}
