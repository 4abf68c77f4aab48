//! The opening handshake (RFC 6455 section 4.2), checked once for every framework.

mod origin;
mod token;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        ALLOW, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use sha1::{Digest as _, Sha1};

pub use self::origin::OriginError;
use self::origin::Origins;
pub(crate) use self::{
    origin::{Mismatch, mismatch},
    token::TokenSource,
};
use crate::{auth::AuthError, join_options::JoinOptions};

/// How an endpoint checks an upgrade: where the token is, which pages may connect, what becomes of a bad token.
///
/// A token is looked for in the sources that are enabled, and nowhere else: in `Authorization: Bearer`, unless that is
/// [switched off](Self::without_header_token), and in whatever was added. Two tokens there are refused with 400, even when
/// they are equal: to guess which is meant would be wrong half the time.
///
/// ```
/// use rooms_core::Endpoint;
///
/// let endpoint = Endpoint::new()
///     .query_token("token")
///     .origins(["https://app.example"])?;
/// # Ok::<(), rooms_core::OriginError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Endpoint {
    tokens: Vec<TokenSource>,
    origins: Origins,
    bad_token: BadToken,
}

/// What a client with a bad token is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BadToken {
    /// The upgrade succeeds and the connection is closed with 1008 `Invalid token`. A browser's page can see that; of a
    /// refused upgrade it can't tell the reason, nor that it was refused.
    #[default]
    Close,
    /// The upgrade is refused with 401.
    Refuse,
}

impl Endpoint {
    /// Takes the token from `Authorization: Bearer`, lets pages of the same host connect, and closes bad tokens with 1008.
    ///
    /// The `Origin` of a page must have the host and the port of the request's `Host`; `X-Forwarded-Host` is not read. Let
    /// the proxy pass `Host` on, or name the origins with [`origins`](Self::origins). A refusal is a 403, of which a browser
    /// tells its page no more than 1006; a `warn` names both hosts, at most once in ten seconds and with the number of
    /// refusals in between.
    pub fn new() -> Self {
        Self { tokens: vec![TokenSource::Bearer], origins: Origins::SameHost, bad_token: BadToken::Close }
    }

    /// Takes the token from a query parameter, too: `?token=..`. A browser's page can send no header with an upgrade.
    ///
    /// Its name and its value are percent-decoded (RFC 3986 section 2.1), and `+` stays `+`; a value that can't be decoded to
    /// UTF-8 is a bad token. A URL is written into access logs; strip the parameter there, and keep such tokens
    /// short-lived.
    pub fn query_token(mut self, parameter: impl Into<String>) -> Self {
        let source = TokenSource::Query(parameter.into());
        // Twice the same source would find each token twice.
        if !self.tokens.contains(&source) {
            self.tokens.push(source);
        }
        self
    }

    /// Takes no token from `Authorization`, which is then not looked at: for an endpoint behind a proxy that adds a header
    /// of its own.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, Method, Uri, header};
    /// use rooms_core::{Endpoint, adapter::Handshake};
    ///
    /// let endpoint = Endpoint::new().query_token("token").without_header_token();
    /// let mut headers = HeaderMap::new();
    /// # for (name, value) in [
    /// #     (header::CONNECTION, "upgrade"),
    /// #     (header::UPGRADE, "websocket"),
    /// #     (header::SEC_WEBSOCKET_VERSION, "13"),
    /// #     (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    /// # ] {
    /// #     headers.insert(name, HeaderValue::from_static(value));
    /// # }
    /// headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-proxy"));
    /// let uri = Uri::from_static("/live?token=of-the-page");
    /// let handshake = Handshake::read(&endpoint, &Method::GET, &uri, &headers)?;
    /// assert_eq!(handshake.token(), Ok(Some("of-the-page")));
    /// # Ok::<(), rooms_core::adapter::Refusal>(())
    /// ```
    pub fn without_header_token(mut self) -> Self {
        self.tokens.retain(|source| *source != TokenSource::Bearer);
        self
    }

    /// Lets only pages of these origins connect, such as `https://app.example` or `http://localhost:3000`, instead of those
    /// of the same host. Compared exactly, by scheme, host and port.
    ///
    /// A request without `Origin` is not a browser's, and is let in with its token.
    ///
    /// # Errors
    /// [`OriginError`] for what is not an origin.
    pub fn origins<I>(self, origins: I) -> Result<Self, OriginError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Ok(Self { origins: Origins::list(origins)?, ..self })
    }

    /// Sets what a client with a bad token is told.
    pub fn bad_token(self, bad_token: BadToken) -> Self {
        Self { bad_token, ..self }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::new()
    }
}

/// An upgrade that is well-formed and from a page that may connect; its token is not checked yet.
pub struct Handshake {
    accept: HeaderValue,
    token: Result<Option<String>, AuthError>,
    bad_token: BadToken,
    join: JoinOptions,
}

/// Why an upgrade is refused, and how that is said over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The method is not `GET`.
    #[error("a WebSocket is opened with GET")]
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
    /// The page's origin may not connect.
    #[error("this origin may not connect")]
    Origin,
    /// There is more than one token, and guessing which is meant would be wrong half the time.
    #[error("there is more than one token: send one, in one place")]
    ManyTokens,
    /// The token is bad, and the endpoint answers that with 401.
    #[error("Invalid token")]
    Token,
    /// The room's id is not one.
    #[error("no such room")]
    Room,
    /// The process is shutting down.
    #[error("shutting down, try another process")]
    Draining,
    /// Nobody can tell now whether the token is good.
    #[error("the token can't be checked now, try again")]
    Unavailable,
    /// It is an extended CONNECT: a WebSocket over HTTP/2 (RFC 8441), which only a server that announced it is sent.
    ///
    /// Browsers do not open the WebSocket over HTTP/1.1 instead, whatever the status, so the HTTP server should not announce
    /// it. The first one in a process is logged at `warn`.
    #[error("WebSocket over HTTP/2 is not supported here: use HTTP/1.1")]
    ExtendedConnect,
}

impl Handshake {
    /// Checks the head of a request.
    ///
    /// # Errors
    /// [`Refusal`], whose [`response`](Refusal::response) is the answer.
    pub fn read(endpoint: &Endpoint, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        if method == Method::CONNECT {
            return Err(Refusal::ExtendedConnect);
        }
        if method != Method::GET {
            return Err(Refusal::Method);
        }
        if !lists(headers, CONNECTION, "upgrade") || !lists(headers, UPGRADE, "websocket") {
            return Err(Refusal::NotAnUpgrade);
        }
        if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
            return Err(Refusal::Version);
        }
        let accept = headers.get(SEC_WEBSOCKET_KEY).and_then(accept).ok_or(Refusal::Key)?;
        // Only one of each: of two `Origin` headers none can be believed.
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {}
            (Some(origin), None) if endpoint.origins.allow(origin, headers.get(HOST), uri) => {}
            _ => return Err(Refusal::Origin),
        }
        let token = token::find(&endpoint.tokens, uri, headers)?.transpose();
        let is_token = |name: &str| endpoint.tokens.iter().any(|source| source.is_query(name));
        let join = JoinOptions::from_query(uri.query().unwrap_or_default(), is_token);
        Ok(Self { accept, token, bad_token: endpoint.bad_token, join })
    }

    /// What the URL says besides the room, for a connection that is for one: `since`, `newest`, and the other parameters but
    /// the token as [`with`](JoinOptions::with).
    pub const fn join_options(&self) -> &JoinOptions {
        &self.join
    }

    /// The token, where there is one.
    ///
    /// # Errors
    /// [`AuthError::Encoding`] where the token in the URL can't be decoded. That is a bad token like any other, and is
    /// answered as [`bad_token`](Self::bad_token) says.
    pub fn token(&self) -> Result<Option<&str>, AuthError> {
        self.token.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    /// What a bad token is answered with.
    #[must_use]
    pub const fn bad_token(&self) -> BadToken {
        self.bad_token
    }

    /// The answer that opens the WebSocket.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        response
    }
}

/// Without the token.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("token", &matches!(self.token, Ok(Some(_)))).finish_non_exhaustive()
    }
}

impl Refusal {
    /// The answer: a status, the headers that it asks for, and the reason as text.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        let (status, header) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, "GET"))),
            Self::NotAnUpgrade => (StatusCode::UPGRADE_REQUIRED, Some((UPGRADE, "websocket"))),
            // RFC 6455 section 4.4.
            Self::Version => (StatusCode::UPGRADE_REQUIRED, Some((SEC_WEBSOCKET_VERSION, "13"))),
            Self::Key | Self::ManyTokens | Self::Room => (StatusCode::BAD_REQUEST, None),
            Self::Origin => (StatusCode::FORBIDDEN, None),
            Self::Token => (StatusCode::UNAUTHORIZED, Some((http::header::WWW_AUTHENTICATE, "Bearer"))),
            // RFC 9220 section 3; RFC 8441 names no status.
            Self::ExtendedConnect => (StatusCode::NOT_IMPLEMENTED, None),
            Self::Draining | Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some((RETRY_AFTER, "1"))),
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Whether a header that is a list has an entry, whatever its case.
fn lists(headers: &HeaderMap, name: HeaderName, entry: &str) -> bool {
    let values = headers.get_all(name);
    let mut entries = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    entries.any(|found| found.trim().eq_ignore_ascii_case(entry))
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

#[cfg(test)]
mod tests;
