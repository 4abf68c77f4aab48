//! What an authenticator sees of a request.

use std::{
    fmt,
    net::SocketAddr,
    sync::{LazyLock, OnceLock},
};

use http::{HeaderMap, Uri};

use crate::{percent, room_key::check_id};

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
static NO_URI: LazyLock<Uri> = LazyLock::new(Uri::default);

/// A request that would be a connection: its token, if it has one, and the rest of it. Where a client refreshes the token of a
/// connection that it has, the token is all there is: the headers are none, the URI is `/`, and there is no peer.
///
/// ```
/// use rooms_core::Attempt;
///
/// assert_eq!(Attempt::new(Some("abc")).token(), Some("abc"));
/// assert_eq!(Attempt::new(Some("")).token(), None);
/// ```
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    token: Option<&'a str>,
    headers: &'a HeaderMap,
    uri: &'a Uri,
    /// The query parameters that hold a token.
    hidden: &'a [String],
    peer: Option<SocketAddr>,
    /// Whose token is refused.
    refused: Option<&'a OnceLock<Box<str>>>,
}

impl<'a> Attempt<'a> {
    /// With this token, and nothing else: for a request that was not an upgrade, and for tests. An empty token is none.
    #[must_use]
    pub fn new(token: Option<&'a str>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self { token, headers: &NO_HEADERS, uri: &NO_URI, hidden: &[], peer: None, refused: None }
    }

    /// The same with headers.
    #[must_use]
    pub const fn with_headers(self, headers: &'a HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// The same with a URI.
    #[must_use]
    pub const fn with_uri(self, uri: &'a Uri) -> Self {
        Self { uri, ..self }
    }

    /// The same with the address of the other end of the TCP connection.
    #[must_use]
    pub const fn with_peer(self, peer: Option<SocketAddr>) -> Self {
        Self { peer, ..self }
    }

    pub(crate) const fn noting(self, refused: &'a OnceLock<Box<str>>) -> Self {
        Self { refused: Some(refused), ..self }
    }

    /// Says whose token this is, for an authenticator that is about to refuse it: [`RoomManager::explain`] then says so of that
    /// user. Only where the token's signature is right, or whatever else stands for that, as anybody can write a name into a
    /// token. The [`JwtAuthenticator`] does it for a token that has expired or is not good yet. What is no user's id
    /// is ignored.
    ///
    /// [`RoomManager::explain`]: crate::RoomManager::explain
    /// [`JwtAuthenticator`]: crate::JwtAuthenticator
    pub fn note_user(&self, user: &str) {
        if let (Some(refused), Ok(())) = (self.refused, check_id(user)) {
            _ = refused.set(user.into());
        }
    }

    pub(crate) const fn hiding(self, hidden: &'a [String]) -> Self {
        Self { hidden, ..self }
    }

    /// The token, from whichever source it came, decoded. It may be any text, control characters included. `None` where the
    /// request has none: then this is a guest, or nobody.
    #[must_use]
    pub const fn token(&self) -> Option<&'a str> {
        self.token
    }

    /// The headers, which may hold the token and other secrets: never log them.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The URI without the query parameters that are sources of tokens.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let is_hidden = |pair: &&str| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            percent::decode(name).is_some_and(|name| self.hidden.iter().any(|hidden| *hidden == name))
        };
        let query: Vec<&str> = self.uri.query().unwrap_or_default().split('&').collect();
        if !query.iter().any(is_hidden) {
            return self.uri.clone();
        }
        let left: Vec<&str> = query.into_iter().filter(|pair| !is_hidden(pair)).collect();
        let mark = if left.is_empty() { "" } else { "?" };
        // It was part of one, so it is one.
        format!("{}{mark}{}", self.uri.path(), left.join("&")).parse().unwrap_or_default()
    }

    /// The other end of the TCP connection, where the adapter knows it. Behind a proxy that is the proxy; its
    /// `X-Forwarded-For` is worth something only where nobody else can reach this process.
    ///
    /// [`Proxies::client`](crate::Proxies::client) finds the client's address for the proxies that are named.
    ///
    /// Axum knows it where the service is made with `into_make_service_with_connect_info::<SocketAddr>()`, or run by
    /// `rooms_axum::serve`.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Without the token, the headers and the query.
impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("token", &self.token.is_some())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_is_without_the_token() {
        let hidden = ["token".to_owned(), "ticket".to_owned()];
        for (uri, shown) in [
            ("/live?a=1&token=secret&b=2", "/live?a=1&b=2"),
            ("/live?token=secret", "/live"),
            ("/live?%74oken=secret&ticket=secret&token", "/live"),
            ("/live?tokens=1&a", "/live?tokens=1&a"),
            ("/live", "/live"),
            ("http://rooms.example/live?token=secret&a=%26", "/live?a=%26"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let attempt = Attempt::new(Some("secret")).with_uri(&uri).hiding(&hidden);
            assert_eq!(attempt.uri(), shown, "{uri}");
            assert!(!format!("{attempt:?}").contains("secret"));
        }
    }
}
