//! The extractor.

use std::{fmt, fmt::Display};

use axum::{
    body::Body,
    extract::{FromRef, FromRequestParts},
    response::Response,
};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use rooms_core::{
    AuthError, BadToken, Close, Endpoint, Identity, RoomKey, RoomManager,
    handshake::{Handshake, Refusal},
    refuse,
};

use crate::socket;

/// An upgrade whose token is good; call [`room`](Self::room) to answer it.
///
/// As an extractor it checks the request by RFC 6455 and the `Origin` by the endpoint's rule, finds the token where the
/// endpoint says and has it authenticated. What fails there is answered without the handler: an HTTP error that says
/// what was wrong, or for a bad token the upgrade and a close frame 1008 `Invalid token` (the endpoint may choose 401).
///
/// The endpoint is the manager's, unless the route has an `Extension<Endpoint>`. Once the handler's answer is sent, a
/// task of its own serves the connection until it ends. HTTP/1.1 only.
#[must_use = "an upgrade is answered by `room`"]
pub struct RoomUpgrade {
    rooms: RoomManager,
    handshake: Handshake,
    upgrade: OnUpgrade,
    identity: Identity,
}

impl RoomUpgrade {
    /// Who connects.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Upgrades, and joins the room `kind:id` if its rule lets this user in; else the connection is closed with 4403.
    ///
    /// An id that is none is answered with 400, and no room is made.
    pub fn room(self, kind: &str, id: impl Display) -> Response {
        match RoomKey::new(kind, id) {
            Ok(room) => self.room_key(room),
            Err(_) => answer(&Refusal::Room),
        }
    }

    /// [`room`](Self::room) for a key that is parsed already.
    pub fn room_key(self, room: RoomKey) -> Response {
        let Self { rooms, handshake, upgrade, identity } = self;
        tokio::spawn(async move {
            let Some((stream, sink)) = socket::open(upgrade, rooms.limits()).await else { return };
            // A task of its own, so that a connection does not keep the memory of its upgrade.
            tokio::spawn(rooms.serve_room(stream, sink, identity, room));
        });
        handshake.response().map(|()| Body::empty())
    }
}

impl<S> FromRequestParts<S> for RoomUpgrade
where
    S: Send + Sync,
    RoomManager: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let rooms = RoomManager::from_ref(state);
        if rooms.is_draining() {
            return Err(answer(&Refusal::Draining));
        }
        let endpoint = parts.extensions.get::<Endpoint>().unwrap_or_else(|| rooms.endpoint());
        let handshake = Handshake::read(endpoint, &parts.method, &parts.uri, &parts.headers).map_err(|r| answer(&r))?;
        // hyper leaves it with a request that it can upgrade: HTTP/1.1, and nobody took it before.
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| answer(&Refusal::NotAnUpgrade))?;
        match rooms.authenticate(handshake.token()).await {
            Ok(identity) => Ok(Self { rooms, handshake, upgrade, identity }),
            Err(reason) => Err(turn_away(rooms, &handshake, upgrade, &reason)),
        }
    }
}

/// The answer to a bad token.
fn turn_away(rooms: RoomManager, handshake: &Handshake, upgrade: OnUpgrade, reason: &AuthError) -> Response {
    // An authenticator that does not answer is no fault of the token, and the client should come back.
    let (refusal, close) = match reason {
        AuthError::Unavailable => (Refusal::Unavailable, Close::UNAVAILABLE),
        _ => (Refusal::Token, Close::INVALID_TOKEN),
    };
    if handshake.bad_token() == BadToken::Refuse {
        return answer(&refusal);
    }
    tokio::spawn(async move {
        if let Some((stream, sink)) = socket::open(upgrade, rooms.limits()).await {
            refuse(stream, sink, close, rooms.limits()).await;
        }
    });
    handshake.response().map(|()| Body::empty())
}

fn answer(refusal: &Refusal) -> Response {
    refusal.response().map(Body::from)
}

impl fmt::Debug for RoomUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomUpgrade").field("identity", &self.identity).finish_non_exhaustive()
    }
}
