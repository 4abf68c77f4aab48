//! The extractor.

use std::{fmt, net::SocketAddr};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRef, FromRequestParts},
    response::Response,
};
#[cfg(feature = "http2")]
use http::Method;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
#[cfg(feature = "http2")]
use rooms_core::adapter::HttpPlace;
use rooms_core::{
    Close, Endpoint, Identity, RoomKey, RoomManager,
    adapter::{Admission, Opening, Refusal},
    ws::Cork,
};

use serde_json::Value;

use crate::socket;

/// An upgrade whose token is good; call [`room`](Self::room) or [`rooms`](Self::rooms) to answer it.
///
/// As an extractor it checks the request by RFC 6455 and the `Origin` by the endpoint's rule, finds the token where the
/// endpoint says and has it authenticated. What fails there is answered without the handler: an HTTP error that says
/// what was wrong, or for a bad token the upgrade and a close frame 1008 `Invalid token` (the endpoint may choose 401).
/// Over HTTP/2 it needs the feature `http2`, see [the crate's docs](crate#http2).
///
/// The endpoint is the manager's, unless the route has an `Extension<Endpoint>`. Once the handler's answer is sent, a
/// task of its own serves the connection until it ends.
#[must_use = "an upgrade is answered by `room` or `rooms`"]
pub struct RoomUpgrade {
    admission: Admission,
    upgrade: OnUpgrade,
    /// From [`serve`](crate::serve()).
    cork: Option<Cork>,
}

impl RoomUpgrade {
    /// Who connects; `None` where the token comes with the [first message](Endpoint::first_message_token).
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.admission.identity().ok().flatten()
    }

    /// The subprotocol that the answer names: the first of the client's offers that is one of
    /// [the endpoint's](Endpoint::subprotocols).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.admission.subprotocol()
    }

    /// Adds claims to those of the identity, for rules and hooks to read; one of the same name takes the place of the token's.
    pub fn with_claims<N: Into<String>>(self, claims: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self { admission: self.admission.with_claims(claims), ..self }
    }

    /// Calls this once when the connection has ended, with the reason, whatever that is; 1001 where it can't be said, as
    /// when the upgrade fails. It has left its rooms by then. It must not wait: spawn a task for what takes time.
    pub fn on_close(self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self { admission: self.admission.on_close(hook), ..self }
    }

    /// Upgrades, and joins the room `kind:id` if its rule lets this user in; else the connection is closed with 4403.
    ///
    /// The id is taken as it is, since Axum's `Path` has decoded it: `auth0%7C5f7c` in the URL is `auth0|5f7c` here. One that
    /// is none is answered with 400, and no room is made.
    pub fn room(self, kind: &str, id: impl fmt::Display) -> Response {
        match RoomKey::new(kind, id) {
            Ok(room) => self.room_key(room),
            Err(_) => refused(&self.admission.refuse(Refusal::Room)),
        }
    }

    /// [`room`](Self::room) for a key that is parsed already.
    pub fn room_key(self, room: RoomKey) -> Response {
        self.answer(Some(room))
    }

    /// Upgrades; the client then joins and leaves rooms by itself, as [`protocol`](rooms_core::protocol) says.
    ///
    /// The user's own room, such as `user:5`, is joined from the start, where there is a kind `user` that lets them in.
    pub fn rooms(self) -> Response {
        self.answer(None)
    }

    fn answer(self, room: Option<RoomKey>) -> Response {
        let answer = self.admission.response().map(|()| Body::empty());
        let socket = socket::open(self.upgrade, self.admission.rooms().clone());
        match room {
            Some(room) => self.admission.serve_room(room, socket),
            None => self.admission.serve(socket),
        }
        // What the connection is told first goes out with the answer.
        self.cork.inspect(Cork::hold);
        answer
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
        let endpoint = parts.extensions.get::<Endpoint>().unwrap_or_else(|| rooms.endpoint());
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let admission = rooms.admit(endpoint, opening(parts), &parts.uri, &parts.headers, peer).await;
        let admission = admission.map_err(|refusal| refused(&refusal))?;
        #[cfg(feature = "http2")]
        let admission = admission.frees(http2_place(parts));
        // hyper leaves it with a request that it can upgrade, and nobody took it before.
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| refused(&Refusal::NotAnUpgrade))?;
        let upgrade = Self { admission, upgrade, cork: parts.extensions.remove() };
        // A bad token is told of by a close frame, and joins nothing.
        if upgrade.admission.identity().is_err() { Err(upgrade.rooms()) } else { Ok(upgrade) }
    }
}

fn opening(parts: &Parts) -> Opening<'_> {
    #[cfg(feature = "http2")]
    if let (&Method::CONNECT, Some(protocol)) = (&parts.method, parts.extensions.get::<hyper::ext::Protocol>()) {
        return Opening::ExtendedConnect(protocol.as_str());
    }
    Opening::Method(&parts.method)
}

/// The place of an HTTP/2 connection, which goes on beside its WebSockets.
#[cfg(feature = "http2")]
fn http2_place(parts: &Parts) -> Option<HttpPlace> {
    if parts.method == Method::CONNECT { parts.extensions.get().cloned() } else { None }
}

pub(crate) fn refused(refusal: &Refusal) -> Response {
    refusal.response().map(Body::from)
}

impl fmt::Debug for RoomUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomUpgrade").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
