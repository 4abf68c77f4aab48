//! The extractor for event streams.

use std::{fmt, net::SocketAddr};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRef, FromRequestParts},
    response::Response,
};
use http::request::Parts;
use rooms_core::{
    Close, Endpoint, Identity, RoomKey, RoomManager,
    adapter::{Admission, EventBody, HttpPlace, Opening, Refusal},
};
use serde_json::Value;

use crate::upgrade::refused;

/// A request for an event stream whose token is good; call [`room`](Self::room) or [`rooms`](Self::rooms) to answer it.
///
/// It is checked as a [`RoomUpgrade`](crate::RoomUpgrade) is, and what fails is answered without the handler. A bad token is
/// always answered with 401: a page can see that here. The route is a `get(..)`.
///
/// ```
/// use axum::{Router, extract::Path, response::Response, routing::get};
/// use rooms_axum::RoomEvents;
/// use rooms_core::RoomManager;
///
/// async fn events(events: RoomEvents, Path(post): Path<u64>) -> Response {
///     events.room("post", post)
/// }
///
/// let app: Router<RoomManager> = Router::new().route("/sse/posts/{post}/live", get(events));
/// # let _ = app;
/// ```
#[must_use = "a request is answered by `room` or `rooms`"]
pub struct RoomEvents(Admission);

impl RoomEvents {
    /// Who connects.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity().ok().flatten()
    }

    /// Adds claims to those of the identity, for rules and hooks to read; one of the same name takes the place of the token's.
    pub fn with_claims<N: Into<String>>(self, claims: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self(self.0.with_claims(claims))
    }

    /// Calls this once when the connection has ended, with the reason. It must not wait: spawn a task for what takes time.
    pub fn on_close(self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self(self.0.on_close(hook))
    }

    /// Answers with the events of the room `kind:id`, if its rule lets this user in; else the stream has one event, `close`
    /// with the code 4403. The id is taken as it is; one that is none is answered with 400.
    pub fn room(self, kind: &str, id: impl fmt::Display) -> Response {
        match RoomKey::new(kind, id) {
            Ok(room) => self.room_keys([room]),
            Err(_) => refused(&self.0.refuse(Refusal::Room)),
        }
    }

    /// Answers with the events of the rooms that the URL names, `?room=post:42&room=post:43`: 1 to 16, else 400. A room that
    /// the user may not join is told of by an event `error`, and the others go on; also where it is the only one.
    pub fn rooms(self) -> Response {
        answer(self.0, Admission::events_asked_for)
    }

    /// [`rooms`](Self::rooms) for those that the handler chooses; one alone is as with [`room`](Self::room).
    pub fn room_keys(self, rooms: impl IntoIterator<Item = RoomKey>) -> Response {
        answer(self.0, |admission| admission.events(rooms))
    }
}

fn answer(admission: Admission, events: impl FnOnce(Admission) -> Result<EventBody, Refusal>) -> Response {
    let head = admission.response();
    match events(admission) {
        Ok(body) => head.map(|()| Body::from_stream(body)),
        Err(refusal) => refused(&refusal),
    }
}

impl<S> FromRequestParts<S> for RoomEvents
where
    S: Send + Sync,
    RoomManager: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let rooms = RoomManager::from_ref(state);
        let endpoint = parts.extensions.get::<Endpoint>().unwrap_or_else(|| rooms.endpoint());
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let opening = Opening::EventStream(&parts.method);
        let admission = rooms.admit(endpoint, opening, &parts.uri, &parts.headers, peer).await;
        let place = parts.extensions.get::<HttpPlace>().cloned();
        admission.map(|admission| Self(admission.frees(place))).map_err(|refusal| refused(&refusal))
    }
}

impl fmt::Debug for RoomEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomEvents").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
