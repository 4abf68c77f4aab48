//! What a service says of how its upgrades are checked.

use std::sync::{Arc, Once};

use http::HeaderMap;

use super::{
    Refusal,
    origin::{OriginError, Origins},
    token::{BEARER, Sources, protocols},
};
use crate::auth::{Authenticator, SignIn};

/// How an endpoint checks an upgrade: where the token is, which pages may connect, what becomes of a bad token.
///
/// A token is looked for in the sources that are enabled, and nowhere else. Two tokens there are refused with 400, even when
/// they are equal: to guess which is meant would be wrong half the time.
///
/// | source | for | mind |
/// |---|---|---|
/// | `Authorization: Bearer`, on unless [switched off](Self::without_header_token) | services, apps | a page can't set it |
/// | [`protocol_token`](Self::protocol_token) | pages | the token has no `=`, `/` or space |
/// | [`cookie_token`](Self::cookie_token) | pages of a site with a session | needs a list of origins |
/// | [`first_message_token`](Self::first_message_token) | pages | the socket is open before anybody knows whose it is |
/// | [`query_token`](Self::query_token) | pages | URLs are written into logs |
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
    pub(super) sources: Sources,
    /// What is answered where a client offers it, and kept by the connections that speak it.
    protocols: Vec<Arc<SignIn>>,
    requires_protocol: bool,
    pub(super) origins: Origins,
    pub(super) bad_token: BadToken,
    /// With the authenticator of its own.
    pub(super) sign_in: Option<Arc<SignIn>>,
    /// Compression is agreed on where a client offers it.
    pub(super) deflate: bool,
}

/// Why an endpoint would be open to attacks, or can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The token is in a cookie, which a browser sends for every page, and it is not said which pages may connect.
    #[error(
        "a cookie is sent for every page, so name the pages that may connect: `Endpoint::origins` or \
         `Endpoint::origins_by`"
    )]
    CookieWithoutOrigins,
    /// A protocol has no name that may stand in `Sec-WebSocket-Protocol`, or that of the entry in front of a token.
    #[error("`{0}` is no name of a protocol: letters, digits and !#$%&'*+-.^_`|~, and not `bearer`")]
    Protocol(String),
    /// A protocol is required, and none is named.
    #[error("a subprotocol is required, so name some: `Endpoint::subprotocols`")]
    NoProtocol,
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

impl EndpointError {
    /// What a client is told. What is wrong is for whoever runs the service, and is logged once.
    pub(super) fn refusal(&self) -> Refusal {
        static SAID: Once = Once::new();
        SAID.call_once(|| tracing::error!(error = %self, "an endpoint of a route refuses every upgrade"));
        Refusal::Misconfigured
    }
}

impl Endpoint {
    /// Takes the token from `Authorization: Bearer`, lets pages of the same host connect, and closes bad tokens with 1008.
    ///
    /// The `Origin` of a page must have the host and the port of the request's `Host`; `X-Forwarded-Host` is not read. Let
    /// the proxy pass `Host` on, or name the origins with [`origins`](Self::origins). A refusal is a 403, of which a browser
    /// tells its page no more than 1006; a `warn` names both hosts, at most once in ten seconds and with the number of
    /// refusals in between.
    pub fn new() -> Self {
        let sources =
            Sources { header: true, query: Vec::new(), cookies: Vec::new(), protocol: false, first_message: false };
        Self {
            sources,
            protocols: Vec::new(),
            requires_protocol: false,
            origins: Origins::SameHost,
            bad_token: BadToken::Close,
            sign_in: None,
            deflate: false,
        }
    }

    /// Takes the token from a query parameter, too: `?token=..`. A browser's page can send no header with an upgrade.
    ///
    /// Its name and its value are percent-decoded (RFC 3986 section 2.1), and `+` stays `+`; a value that can't be decoded to
    /// UTF-8 is a bad token. A URL is written into access logs; strip the parameter there, and keep such tokens
    /// short-lived.
    pub fn query_token(mut self, parameter: impl Into<String>) -> Self {
        push_new(&mut self.sources.query, parameter.into());
        self
    }

    /// Takes the token from this cookie, too. Then [`origins`](Self::origins) or [`origins_by`](Self::origins_by) is required:
    /// a browser sends the cookie whichever page connects, and the upgrade does not obey CORS, so without a list any page
    /// on the web could connect in the name of whoever visits it. A request with the cookie and without an `Origin` is
    /// refused with 403, too.
    ///
    /// Let the cookie be `HttpOnly; Secure; SameSite=Lax` (or `Strict`): then the browser does not send it for pages of other
    /// sites. That alone is not enough, as all subdomains of a site are one site. The value is taken as it stands, without
    /// percent-decoding.
    ///
    /// ```
    /// use rooms_core::{BuildError, Endpoint, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = Endpoint::new().cookie_token("session");
    /// let forgotten = RoomManager::builder().endpoint(endpoint.clone()).build();
    /// assert!(matches!(forgotten, Err(BuildError::Endpoint(_))));
    /// let rooms = RoomManager::builder().endpoint(endpoint.origins(["https://app.example"])?).build()?;
    /// # let _ = rooms;
    /// # Ok(()) }
    /// ```
    pub fn cookie_token(mut self, name: impl Into<String>) -> Self {
        push_new(&mut self.sources.cookies, name.into());
        self
    }

    /// Takes the token from `Sec-WebSocket-Protocol`, too, where it stands behind an entry `bearer`, and speaks this protocol
    /// of the application's:
    ///
    /// ```js
    /// new WebSocket("wss://app.example/live", ["app.v1", "bearer", token]);
    /// ```
    ///
    /// The answer names `app.v1`, and never the token. A page has to offer that protocol: where nothing is answered to what
    /// it offers, its browser closes the connection. JWTs are made of characters that may stand there (RFC 7230 section
    /// 3.2.6); of other tokens, encode those with `=`, `/` or a space in base64url. May be called again for another protocol,
    /// as [`subprotocols`](Self::subprotocols) may.
    ///
    /// A name is what RFC 7230 section 3.2.6 calls a token, which [`check`](Self::check) checks.
    pub fn protocol_token(mut self, protocol: impl Into<String>) -> Self {
        self.sources.protocol = true;
        self.subprotocols([protocol])
    }

    /// Speaks these subprotocols of the application's (RFC 6455 section 1.9), besides those that are there. Of those that the
    /// client offers, the answer names the first that is here: the client's order is what it prefers. A client that offers
    /// none of them is let in without one, unless [`require_subprotocol`](Self::require_subprotocol) is called.
    ///
    /// What they mean is the application's: a version of its messages, say. Its handler finds the one that was chosen at
    /// `RoomUpgrade::subprotocol`, and a hook at [`Member::subprotocol`](crate::Member::subprotocol). Names are compared
    /// exactly, and may be what RFC 7230 section 3.2.6 calls a token, which [`check`](Self::check) checks. An event stream
    /// has none.
    ///
    /// ```
    /// use rooms_core::{Endpoint, Kind};
    /// use serde_json::json;
    ///
    /// let endpoint = Endpoint::new().subprotocols(["app.v2", "app.v1"]).require_subprotocol();
    /// let post = Kind::authenticated().on_join(|member| async move {
    ///     let is_old = member.subprotocol() == Some("app.v1");
    ///     Ok(if is_old { json!({"text": "Hello"}) } else { json!({"title": "Hello", "body": ""}) })
    /// });
    /// # let _ = (endpoint, post);
    /// ```
    pub fn subprotocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let all = protocols.into_iter().map(Into::into);
        for name in all {
            if self.protocols.iter().all(|known| known.subprotocol.as_deref() != Some(&*name)) {
                let of_endpoint = self.sign_in.as_deref().cloned().unwrap_or_default();
                self.protocols.push(Arc::new(SignIn { subprotocol: Some(name.into()), ..of_endpoint }));
            }
        }
        self
    }

    /// Refuses an upgrade that offers none of the [`subprotocols`](Self::subprotocols), with 400 and their names. A browser
    /// tells its page no more of that than 1006.
    pub fn require_subprotocol(self) -> Self {
        Self { requires_protocol: true, ..self }
    }

    /// Takes the token from the first message, where the request has none: `{"type":"auth","token":"..."}`. It has to come
    /// within `Limits::first_message_timeout`, and at most `Limits::max_unauthenticated` sockets wait for theirs on a node;
    /// one more is refused with 503. Until then the socket is in no room, and no hook has heard of it. Where nothing comes it
    /// is closed with 4408, and with 1008 where it is no good token; [`bad_token`](Self::bad_token) does not apply.
    ///
    /// With this source every request without a token is upgraded; a [guest](crate::Identity::guest) sends `{"type":"auth"}`.
    pub fn first_message_token(mut self) -> Self {
        self.sources.first_message = true;
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
        self.sources.header = false;
        self
    }

    /// Lets only pages of these origins connect, instead of those of the same host. Compared exactly, by scheme, host and
    /// port.
    ///
    /// | entry | pages |
    /// |---|---|
    /// | `https://app.example`, `http://localhost:3000` | of that origin |
    /// | `https://*.example.com` | of every host below it, `a.b.example.com` too, and not `example.com` itself. All of them have to be yours: an attacker on one of them is let in |
    /// | `capacitor://localhost`, `tauri://localhost`, `ionic://localhost` | of apps |
    /// | `chrome-extension://{id}`, `moz-extension://{id}` | of a browser's extension |
    /// | `null` | that hide where they are from: files, sandboxed frames, some redirects. Any site can make a page of this origin, so never together with a cookie |
    ///
    /// A request without `Origin` is not a browser's, and is let in with its token, unless that is a cookie.
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

    /// Lets the pages connect for whose origin this returns `true`, as when each customer has a domain of their own. It is
    /// given the text of the header, which may be any visible ASCII, `null` too: look it up as it is, and do not search in it.
    /// It is called for each upgrade and must not wait.
    ///
    /// ```
    /// use std::collections::HashSet;
    /// use rooms_core::Endpoint;
    ///
    /// let customers = HashSet::from(["https://a.example", "https://b.example"]);
    /// let endpoint = Endpoint::new().origins_by(move |origin| customers.contains(origin));
    /// # let _ = endpoint;
    /// ```
    pub fn origins_by(self, allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { origins: Origins::Ask(Arc::new(allowed)), ..self }
    }

    /// Lets pages of every origin connect, for a public service whose pages are on other people's sites. Not with a cookie.
    pub fn any_origin(self) -> Self {
        Self { origins: Origins::Any, ..self }
    }

    /// Gives this endpoint an authenticator of its own, in place of the manager's: so that browsers come by cookie and
    /// services by token, into the same rooms.
    pub fn authenticator(self, authenticator: impl Authenticator) -> Self {
        let own = SignIn { authenticator: Some(Arc::new(authenticator)), ..SignIn::default() };
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|known| SignIn { subprotocol: known.subprotocol.clone(), ..own.clone() });
        Self { protocols: protocols.map(Arc::new).collect(), sign_in: Some(Arc::new(own)), ..self }
    }

    /// Compresses what is broadcast for the clients that can read it, as nearly all browsers can: permessage-deflate (RFC 7692),
    /// for WebSockets over HTTP/1.1 and HTTP/2. Off unless this is called; an event stream is never compressed.
    ///
    /// A broadcast of [`Limits::min_deflate_bytes`](crate::Limits::min_deflate_bytes) or more is compressed once, whatever the
    /// members, and only sent so where that is smaller. No message refers to an earlier one (`server_no_context_takeover`),
    /// so an idle connection keeps no memory for it. What is sent to one connection alone is plain: answers, and the history
    /// and the state that it is given when it joins.
    ///
    /// **Not for secrets.** TLS hides what is sent, and not how long it is. Where one message has both a secret and text that
    /// somebody else chooses, it gets shorter when that text is like the secret: who can watch the connection and make guesses
    /// learns the secret bit by bit. That is how CRIME and BREACH read cookies and CSRF tokens out of HTTPS. So use it where
    /// messages hold what all members of a room may read, and not where one holds a token or a private address beside what
    /// a client wrote. Messages are compressed one by one, so a secret in another message is safe.
    ///
    /// ```
    /// use rooms_core::Endpoint;
    ///
    /// let endpoint = Endpoint::new().deflate();
    /// # let _ = endpoint;
    /// ```
    pub fn deflate(self) -> Self {
        Self { deflate: true, ..self }
    }

    /// Sets what a client with a bad token is told.
    pub fn bad_token(self, bad_token: BadToken) -> Self {
        Self { bad_token, ..self }
    }

    /// Whether it may be used: [`RoomManagerBuilder::build`](crate::RoomManagerBuilder::build) asks this about its endpoint.
    /// One of a route's own that is not refuses every upgrade with 500.
    ///
    /// # Errors
    /// [`EndpointError`] says what is missing.
    pub fn check(&self) -> Result<(), EndpointError> {
        if !self.sources.cookies.is_empty() && !self.origins.names_pages() {
            return Err(EndpointError::CookieWithoutOrigins);
        }
        if self.requires_protocol && self.protocols.is_empty() {
            return Err(EndpointError::NoProtocol);
        }
        match self.protocol_names().find(|name| !is_protocol(name)) {
            Some(name) => Err(EndpointError::Protocol(name.escape_debug().to_string())),
            None => Ok(()),
        }
    }

    /// The protocol that is answered: the first that the client offers of ours.
    pub(super) fn protocol(&self, headers: &HeaderMap) -> Result<Option<Arc<SignIn>>, Refusal> {
        if self.protocols.is_empty() {
            return Ok(None);
        }
        let offered = protocols(headers).offered;
        let ours = |offer: &str| self.protocols.iter().find(|ours| ours.subprotocol.as_deref() == Some(offer));
        let chosen = offered.into_iter().find_map(ours);
        if chosen.is_none() && self.requires_protocol {
            return Err(Refusal::Subprotocol { spoken: self.protocol_names().collect::<Vec<_>>().join(", ") });
        }
        Ok(chosen.cloned())
    }

    fn protocol_names(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().filter_map(|known| known.subprotocol.as_deref())
    }

    pub(crate) fn own_authenticator(&self) -> Option<&Arc<dyn Authenticator>> {
        self.sign_in.as_ref()?.authenticator.as_ref()
    }

    /// The query parameters that hold tokens.
    pub(crate) fn query_tokens(&self) -> &[String] {
        &self.sources.query
    }
}

fn is_protocol(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token) && name != BEARER
}

/// Twice the same source would find each token twice.
fn push_new(names: &mut Vec<String>, name: String) {
    if !names.contains(&name) {
        names.push(name);
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::new()
    }
}
