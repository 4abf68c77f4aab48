//! The opening handshake (RFC 6455 section 4.2), checked once for every framework.

mod events;
mod extensions;
mod opening;
mod origin;
mod token;

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Response, StatusCode, Uri,
    header::{
        ALLOW, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
    },
};

pub(crate) use self::events::{Asked, MAX_ROOMS};
pub(crate) use self::extensions::Deflate;
pub(crate) use self::origin::{Mismatch, mismatch};
use self::{
    opening::Answer,
    origin::Origins,
    token::{BEARER, Sources, protocols},
};
pub use self::{opening::Opening, origin::OriginError};
use crate::{
    auth::{AuthError, Authenticator, SignIn},
    join_options::JoinOptions,
    room_key::RoomKey,
};

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
    sources: Sources,
    /// What is answered where a client offers it, and kept by the connections that speak it.
    protocols: Vec<Arc<SignIn>>,
    requires_protocol: bool,
    origins: Origins,
    bad_token: BadToken,
    /// With the authenticator of its own.
    sign_in: Option<Arc<SignIn>>,
    /// Compression is agreed on where a client offers it.
    deflate: bool,
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
    fn protocol(&self, headers: &HeaderMap) -> Result<Option<Arc<SignIn>>, Refusal> {
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

/// An upgrade that is well-formed and from a page that may connect; its token is not checked yet.
pub struct Handshake {
    answer: Answer,
    token: Result<Option<String>, AuthError>,
    /// What its connection keeps, with the protocol that it speaks.
    sign_in: Option<Arc<SignIn>>,
    bad_token: BadToken,
    join: JoinOptions,
    awaits_message: bool,
    /// Compression, as it was agreed on.
    deflate: Option<Deflate>,
    /// What an event stream is for.
    events: Option<Asked>,
}

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
    /// The endpoint can't be used, as [`Endpoint::check`] says.
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

impl Handshake {
    /// Checks the head of a request.
    ///
    /// # Errors
    /// [`Refusal`], whose [`response`](Refusal::response) is the answer.
    pub fn read<'a>(
        endpoint: &Endpoint,
        opening: impl Into<Opening<'a>>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let opening = opening.into();
        let answer = opening.check(headers)?;
        endpoint.check().map_err(|error| Refusal::misconfigured(&error))?;
        // Only one of each: of two `Origin` headers none can be believed.
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {}
            (Some(origin), None) if endpoint.origins.allow(origin, headers.get(HOST), uri) => {}
            _ => return Err(Refusal::Origin),
        }
        let found = endpoint.sources.find(uri, headers)?;
        // Not a browser, so whose cookie is it? For an event stream a browser sends no `Origin` to the page's own host, but
        // says where the request is from in a header that no page can set.
        let is_own_page = opening.is_event_stream()
            && headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin")
            && endpoint.origins.allow_own(headers.get(HOST), uri);
        if found.as_ref().is_some_and(|found| found.is_cookie) && !headers.contains_key(ORIGIN) && !is_own_page {
            return Err(Refusal::Origin);
        }
        let token = found.map(|found| found.token).transpose();
        let query = uri.query().unwrap_or_default();
        let events = opening.is_event_stream().then(|| Asked::read(query, headers));
        let is_other = |name: &str| endpoint.sources.is_query(name) || (events.is_some() && Asked::is_parameter(name));
        // An event stream is no WebSocket, and has no protocol inside.
        let protocol = if events.is_some() { None } else { endpoint.protocol(headers)? };
        Ok(Self {
            join: JoinOptions::from_query(query, is_other),
            deflate: (endpoint.deflate && events.is_none()).then(|| Deflate::negotiate(headers)).flatten(),
            sign_in: protocol.or_else(|| endpoint.sign_in.clone()),
            awaits_message: events.is_none() && endpoint.sources.first_message && token == Ok(None),
            // A page sees the status of an event stream, and its browser does not ask again after this one.
            bad_token: if events.is_some() { BadToken::Refuse } else { endpoint.bad_token },
            answer,
            token,
            events,
        })
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

    /// The subprotocol that the answer names: the first of the client's offers that is one of
    /// [the endpoint's](Endpoint::subprotocols).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.sign_in.as_ref()?.subprotocol.as_deref()
    }

    /// What the connection keeps for the tokens that follow, and for hooks.
    pub(crate) const fn sign_in(&self) -> Option<&Arc<SignIn>> {
        self.sign_in.as_ref()
    }

    /// Whether the token comes with the first message, as [`Endpoint::first_message_token`] says.
    #[must_use]
    pub const fn awaits_message(&self) -> bool {
        self.awaits_message
    }

    /// What a bad token is answered with.
    #[must_use]
    pub const fn bad_token(&self) -> BadToken {
        self.bad_token
    }

    /// The rooms that the URL of an event stream names; `None` where one is none.
    pub(crate) fn take_rooms(&mut self) -> Option<Vec<RoomKey>> {
        self.events.as_mut()?.rooms.take()
    }

    /// What an event stream is for; `None` for a WebSocket.
    pub(crate) const fn events(&self) -> Option<&Asked> {
        self.events.as_ref()
    }

    /// Compression, where both sides want it.
    pub(crate) const fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// The answer that opens the connection: 101 for a WebSocket over HTTP/1.1, and 200 for one over HTTP/2 and for an event
    /// stream.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        let mut response = self.answer.response();
        if let Some(protocol) = self.subprotocol().and_then(|name| HeaderValue::from_str(name).ok()) {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(deflate) = self.deflate {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, deflate.header());
        }
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
    /// What is wrong is for whoever runs the service, and not for the client.
    fn misconfigured(error: &EndpointError) -> Self {
        static SAID: Once = Once::new();
        SAID.call_once(|| tracing::error!(%error, "an endpoint of a route refuses every upgrade"));
        Self::Misconfigured
    }

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

#[cfg(test)]
mod tests;
