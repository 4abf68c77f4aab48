//! The opening handshake (RFC 6455 section 4.2), checked once for every framework.

mod endpoint;
mod events;
mod extensions;
mod opening;
mod origin;
mod refusal;
mod token;

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Response, Uri,
    header::{HOST, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL},
};

pub use self::{
    endpoint::{BadToken, Endpoint, EndpointError},
    opening::Opening,
    origin::OriginError,
    refusal::Refusal,
};
pub(crate) use self::{
    events::{Asked, MAX_ROOMS},
    extensions::Deflate,
    origin::{Mismatch, is_from_own_page, mismatch},
};
use self::{extensions::Accepted, opening::Answer};
use crate::{
    auth::{AuthError, SignIn},
    join_options::JoinOptions,
    room_key::RoomKey,
};

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
    deflate: Option<Accepted>,
    /// What an event stream is for.
    events: Option<Asked>,
}

impl Handshake {
    /// Checks the head of a request, for a server that does not go through [`RoomManager::admit`](crate::RoomManager::admit)
    /// and serves the socket by [`RoomManager::serve_room`](crate::RoomManager::serve_room) or
    /// [`RoomManager::serve`](crate::RoomManager::serve).
    ///
    /// These don't compress, so [`response`](Self::response) does not agree to it, whatever [`Endpoint::deflate`] says. And
    /// they are not told the [`subprotocol`](Self::subprotocol): where a hook needs it, put it into the identity's claims.
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
        endpoint.check().map_err(|error| error.refusal())?;
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
            deflate: (endpoint.deflate && events.is_none()).then(|| Accepted::negotiate(headers)).flatten(),
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
    /// [`AuthError::Encoding`] where the token can't be decoded. That is a bad token like any other, and is answered as [`bad_token`](Self::bad_token) says.
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
    pub(crate) fn deflate(&self) -> Option<Deflate> {
        self.deflate.map(|accepted| accepted.deflate)
    }

    /// The [`response`](Self::response) for a socket that is served with compression, where both sides want that.
    pub(crate) fn deflating_response(&self) -> Response<()> {
        let mut response = self.response();
        if let Some(accepted) = self.deflate {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, accepted.header());
        }
        response
    }

    /// The answer that opens the connection: 101 for a WebSocket over HTTP/1.1, and 200 for one over HTTP/2 and for an event
    /// stream.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        let mut response = self.answer.response();
        if let Some(protocol) = self.subprotocol().and_then(|name| HeaderValue::from_str(name).ok()) {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
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

#[cfg(test)]
mod tests;
