//! How a request asks for a connection: a WebSocket over HTTP/1.1 or HTTP/2, or an event stream.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use sha1::{Digest as _, Sha1};

use super::Refusal;

/// How a request asks for a connection. A `&Method` converts to it, and asks for a WebSocket.
///
/// ```
/// use http::Method;
/// use rooms_core::adapter::Opening;
///
/// assert_eq!(Opening::from(&Method::GET), Opening::Method(&Method::GET));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opening<'a> {
    /// By the method of the request, over HTTP/1.1: `GET`, and headers that ask for the upgrade (RFC 6455 section 4.1). Any
    /// other is refused, CONNECT too.
    Method(&'a Method),
    /// By CONNECT, over HTTP/2, with this value of `:protocol` (RFC 8441 section 4). HTTP libraries hand it on beside the
    /// headers. The adapter must be able to serve the stream of such a request.
    ExtendedConnect(&'a str),
    /// By the method of a request, which has to be `GET`, for an event stream (HTML standard, section "Server-sent events"),
    /// over any version of HTTP.
    EventStream(&'a Method),
}

/// What opens the connection.
#[derive(Debug)]
pub(super) enum Answer {
    /// 101, with `Sec-WebSocket-Accept` (RFC 6455 section 4.2.2).
    Upgrade(HeaderValue),
    /// 200, to an extended CONNECT (RFC 8441 section 5).
    Connect,
    /// 200, with a body.
    Events,
}

impl Answer {
    pub(super) fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        match self {
            Self::Upgrade(accept) => {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            Self::Connect => {}
            Self::Events => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                // nginx would keep events back until its buffer is full.
                headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            }
        }
        response
    }
}

impl<'a> From<&'a Method> for Opening<'a> {
    fn from(method: &'a Method) -> Self {
        Self::Method(method)
    }
}

impl Opening<'_> {
    pub(super) const fn is_event_stream(self) -> bool {
        matches!(self, Self::EventStream(_))
    }

    /// Checks what each way asks for.
    pub(super) fn check(self, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let answer = match self {
            Self::Method(&Method::CONNECT) => return Err(Refusal::ExtendedConnect),
            Self::EventStream(&Method::GET) => return Ok(Answer::Events),
            Self::Method(&Method::GET) => {
                if !lists(headers, CONNECTION, "upgrade") || !lists(headers, UPGRADE, "websocket") {
                    return Err(Refusal::NotAnUpgrade);
                }
                headers.get(SEC_WEBSOCKET_KEY).and_then(accept).map(Answer::Upgrade).ok_or(Refusal::Key)
            }
            Self::Method(_) | Self::EventStream(_) => return Err(Refusal::Method),
            Self::ExtendedConnect("websocket") => Ok(Answer::Connect),
            Self::ExtendedConnect(_) => return Err(Refusal::Protocol),
        };
        if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
            return Err(Refusal::Version);
        }
        answer
    }
}

/// Whether a header that is a list has an entry, whatever its case.
fn lists(headers: &HeaderMap, name: HeaderName, entry: &str) -> bool {
    let mut entries = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    entries.any(|found| found.trim_ascii().eq_ignore_ascii_case(entry.as_bytes()))
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2); `None` where the key is not one.
///
/// The key is hashed as it stands and not decoded: in the example of section 4.1, `AQIDBAUGBwgJCgsMDQ4PEC==`, which some
/// clients send always, the bits behind the sixteenth byte are not zero, and a strict decoder refuses it.
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let key = key.as_bytes();
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || *b == b'+' || *b == b'/';
    match key.split_last_chunk() {
        Some((characters, b"==")) if characters.len() == 22 && characters.iter().all(base64) => {}
        _ => return None,
    }
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::try_from(STANDARD.encode(hash.finalize())).ok()
}
