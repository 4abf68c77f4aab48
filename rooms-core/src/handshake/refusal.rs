//! Why an upgrade is refused.

use std::time::Duration;

use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE},
};

/// Why an upgrade is refused, and how that is said over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The method is not `GET`.
    #[error("a connection is opened with GET")]
    Method,
    /// It is an ordinary request.
    #[error("this is a WebSocket endpoint: send `Connection: upgrade` and `Upgrade: websocket`")]
    NotAnUpgrade,
    /// The version is not 13.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
    /// The key is not 22 characters of base64 and `==`.
    #[error("`Sec-WebSocket-Key` is 16 bytes in base64: 22 characters and `==`")]
    Key,
    /// It offers none of the endpoint's subprotocols, and has to.
    #[error("offer one of these in `Sec-WebSocket-Protocol`: {spoken}")]
    Subprotocol {
        /// Those of the endpoint.
        spoken: String,
    },
    /// The page's origin may not connect.
    #[error("this origin may not connect")]
    Origin,
    /// There is more than one token, and guessing which is meant would be wrong half the time.
    #[error("there is more than one token: send one, in one place")]
    ManyTokens,
    /// The endpoint can't be used, as [`Endpoint::check`](crate::Endpoint::check) says.
    #[error("this endpoint is not configured rightly")]
    Misconfigured,
    /// Too many sockets wait for their first message with the token, `Limits::max_unauthenticated`.
    #[error("too many connections wait to send their token, try again")]
    TooManyUnauthenticated,
    /// The node has `Limits::max_connections` already.
    #[error("this process has as many connections as it may, try again")]
    Full,
    /// Its address has as many connections as it may, or connects too often: `Limits::max_connections_per_ip`,
    /// `connects_per_second_per_ip` and `max_unauthenticated_per_ip`.
    #[error("too many connections from your address, try again later")]
    TooManyFromAddress {
        /// When one more is let through, by what is known now.
        retry_after: Duration,
    },
    /// The token is bad, and the endpoint answers that with 401.
    #[error("Invalid token")]
    Token,
    /// The room's id is not one.
    #[error("no such room")]
    Room,
    /// An event stream is for no room, or for too many.
    #[error("an event stream is for 1 to 16 rooms: `?room=post:42&room=post:43`")]
    Rooms,
    /// The process is shutting down.
    #[error("shutting down, try another process")]
    Draining,
    /// Nobody can tell now whether the token is good.
    #[error("the token can't be checked now, try again")]
    Unavailable,
    /// It is a WebSocket over HTTP/2 (RFC 8441), which the adapter does not serve, and which is only sent to a server that
    /// announced it.
    ///
    /// Browsers do not open the WebSocket over HTTP/1.1 instead, whatever the status. The first one in a process is logged
    /// at `warn`.
    #[error("WebSocket over HTTP/2 is not supported here: use HTTP/1.1")]
    ExtendedConnect,
    /// It is an extended CONNECT for another protocol.
    #[error("the `:protocol` of a CONNECT is `websocket` here, and no other")]
    Protocol,
}

impl Refusal {
    /// What it is called in the metrics.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::Version => "version",
            Self::Key => "key",
            Self::Subprotocol { .. } => "subprotocol",
            Self::Origin => "origin",
            Self::ManyTokens => "many_tokens",
            Self::Misconfigured => "misconfigured",
            Self::TooManyUnauthenticated => "unauthenticated_limit",
            Self::Full => "node_full",
            Self::TooManyFromAddress { .. } => "address_limit",
            Self::Token => "token",
            Self::Room | Self::Rooms => "room",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
            Self::ExtendedConnect | Self::Protocol => "http2",
        }
    }
}

impl Refusal {
    /// The answer: a status, the headers that it asks for, and the reason as text.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        let known = HeaderValue::from_static;
        let (status, header) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, known("GET")))),
            Self::NotAnUpgrade => (StatusCode::UPGRADE_REQUIRED, Some((UPGRADE, known("websocket")))),
            // RFC 6455 section 4.4.
            Self::Version => (StatusCode::UPGRADE_REQUIRED, Some((SEC_WEBSOCKET_VERSION, known("13")))),
            Self::Key | Self::ManyTokens | Self::Room | Self::Rooms | Self::Subprotocol { .. } => {
                (StatusCode::BAD_REQUEST, None)
            }
            Self::Origin => (StatusCode::FORBIDDEN, None),
            Self::Token => (StatusCode::UNAUTHORIZED, Some((WWW_AUTHENTICATE, known("Bearer")))),
            // RFC 9220 section 3; RFC 8441 names no status.
            Self::ExtendedConnect | Self::Protocol => (StatusCode::NOT_IMPLEMENTED, None),
            Self::Misconfigured => (StatusCode::INTERNAL_SERVER_ERROR, None),
            Self::Draining | Self::Unavailable | Self::TooManyUnauthenticated | Self::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, Some((RETRY_AFTER, known("1"))))
            }
            Self::TooManyFromAddress { retry_after } => {
                // RFC 6585 section 4; whole seconds, and no sooner than said.
                let seconds = retry_after.as_nanos().div_ceil(1_000_000_000).max(1);
                let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
                (StatusCode::TOO_MANY_REQUESTS, Some((RETRY_AFTER, seconds)))
            }
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, known("text/plain; charset=utf-8"));
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        response
    }
}
