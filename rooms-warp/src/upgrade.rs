//! The filter.

use std::{convert::Infallible, fmt};

use hyper::upgrade::OnUpgrade;
use rooms_core::{
    Close, Endpoint, Identity, RoomKey, RoomManager,
    adapter::{Admission, Refusal},
    ws::Cork,
};
use serde_json::Value;
use warp::{
    Filter,
    reply::{Reply as _, Response},
};

use crate::{
    head::{Head, head},
    socket,
};

/// A request to an endpoint of the manager's, to be answered by [`RoomUpgrade::room`] or [`RoomUpgrade::rooms`].
///
/// The filter checks the request by RFC 6455 and the `Origin` by the endpoint's rule, finds the token where the endpoint
/// says and has it authenticated. It rejects nothing: what failed there is in the [`RoomUpgrade`], whose answer is then an
/// HTTP error that says what was wrong, or for a bad token the upgrade and a close frame 1008 `Invalid token` (the endpoint
/// may choose 401). So put it behind the path.
pub fn upgrade(
    rooms: &RoomManager,
) -> impl Filter<Extract = (RoomUpgrade,), Error = Infallible> + Clone + Send + Sync + use<> {
    upgrade_at(rooms, rooms.endpoint().clone())
}

/// [`upgrade`] with an endpoint of the route's own.
pub fn upgrade_at(
    rooms: &RoomManager,
    endpoint: Endpoint,
) -> impl Filter<Extract = (RoomUpgrade,), Error = Infallible> + Clone + Send + Sync + use<> {
    let rooms = rooms.clone();
    let ask = move |head: Head, upgrade: Option<OnUpgrade>, cork: Option<Cork>| {
        let (rooms, endpoint) = (rooms.clone(), endpoint.clone());
        async move {
            let admitted = head.admit(&rooms, &endpoint, head.opening()).await;
            // hyper leaves it with a request that it can upgrade.
            RoomUpgrade(admitted.and_then(|admission| {
                let upgrade = upgrade.ok_or(Refusal::NotAnUpgrade)?;
                Ok(Admitted { admission, upgrade, cork })
            }))
        }
    };
    head().and(warp::ext::optional::<OnUpgrade>()).and(warp::ext::optional::<Cork>()).then(ask)
}

/// An upgrade, or what is wrong with it; call [`room`](Self::room) or [`rooms`](Self::rooms) to answer it.
///
/// Once the answer is sent, a task of its own serves the connection until it ends.
#[must_use = "an upgrade is answered by `room` or `rooms`"]
pub struct RoomUpgrade(Result<Admitted, Refusal>);

struct Admitted {
    admission: Admission,
    upgrade: OnUpgrade,
    /// From [`serve`](crate::serve()).
    cork: Option<Cork>,
}

impl RoomUpgrade {
    /// Who connects; `None` where the request is refused, the token is bad, or it comes with the
    /// [first message](Endpoint::first_message_token).
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.as_ref().ok()?.admission.identity().ok().flatten()
    }

    /// The subprotocol that the answer names: the first of the client's offers that is one of
    /// [the endpoint's](rooms_core::Endpoint::subprotocols). `None` also where the request is refused.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.as_ref().ok()?.admission.subprotocol()
    }

    /// Adds claims to those of the identity, for rules and hooks to read; one of the same name takes the place of the token's.
    pub fn with_claims<N: Into<String>>(self, claims: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self(self.0.map(|it| Admitted { admission: it.admission.with_claims(claims), ..it }))
    }

    /// Calls this once when the connection has ended, with the reason, whatever that is; 1001 where it can't be said, as
    /// when the upgrade fails. It has left its rooms by then. It is not called where the request is refused over HTTP. It
    /// must not wait: spawn a task for what takes time.
    pub fn on_close(self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self(self.0.map(|it| Admitted { admission: it.admission.on_close(hook), ..it }))
    }

    /// Upgrades, and joins the room `kind:id` if its rule lets this user in; else the connection is closed with 4403.
    ///
    /// Warp gives the parameters of a path as they stand in the URL, so kind and id are percent-decoded here, once:
    /// `auth0%7C5f7c` is the id `auth0|5f7c`. What a handler checks by itself it checks on a decoded key, made with
    /// [`RoomKey::from_url`] and answered with [`room_key`](Self::room_key); a kind's rule sees no other. An id that is none
    /// is answered with 400, and no room is made.
    pub fn room(self, kind: &str, id: impl fmt::Display) -> Response {
        match RoomKey::from_url(kind, id) {
            Ok(room) => self.room_key(room),
            // What is wrong with the request itself comes first, and a bad token is told by its close frame.
            Err(_) => match self.0 {
                Ok(Admitted { admission, .. }) if admission.identity().is_ok() => {
                    refused(&admission.refuse(Refusal::Room))
                }
                other => Self(other).rooms(),
            },
        }
    }

    /// [`room`](Self::room) for a key that is parsed already; nothing is decoded.
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
        let Admitted { admission, upgrade, cork } = match self.0 {
            Ok(admitted) => admitted,
            Err(refusal) => return refused(&refusal),
        };
        let answer = admission.response().map(|()| "").into_response();
        let socket = socket::open(upgrade, admission.rooms().clone());
        match room {
            Some(room) => admission.serve_room(room, socket),
            None => admission.serve(socket),
        }
        // What the connection is told first goes out with the answer.
        cork.inspect(Cork::hold);
        answer
    }
}

pub(crate) fn refused(refusal: &Refusal) -> Response {
    refusal.response().into_response()
}

impl fmt::Debug for RoomUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomUpgrade").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
