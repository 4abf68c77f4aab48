//! The filter for event streams.

use std::{convert::Infallible, fmt};

use rooms_core::{
    Close, Endpoint, Identity, RoomKey, RoomManager,
    adapter::{Admission, EventBody, Opening, Refusal},
};
use serde_json::Value;
use warp::{
    Filter,
    reply::{Reply as _, Response},
};

use crate::{
    head::{Head, head},
    upgrade::refused,
};

/// A request for an event stream at an endpoint of the manager's, to be answered by [`RoomEvents::room`] or
/// [`RoomEvents::rooms`].
///
/// It is checked as [`upgrade`](crate::upgrade()) checks its requests, and it rejects nothing: what failed there is the answer. A
/// bad token is always answered with 401: a page can see that here. So put it behind the path.
///
/// ```
/// use rooms_core::RoomManager;
/// use rooms_warp::RoomEvents;
/// use warp::Filter;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: RoomManager = RoomManager::builder().build()?;
/// let events = warp::path!("sse" / "posts" / u64 / "live")
///     .and(rooms_warp::events(&rooms))
///     .map(|post, events: RoomEvents| events.room("post", post));
/// # let _ = events;
/// # Ok(()) }
/// ```
pub fn events(
    rooms: &RoomManager,
) -> impl Filter<Extract = (RoomEvents,), Error = Infallible> + Clone + Send + Sync + use<> {
    events_at(rooms, rooms.endpoint().clone())
}

/// [`events`] with an endpoint of the route's own.
pub fn events_at(
    rooms: &RoomManager,
    endpoint: Endpoint,
) -> impl Filter<Extract = (RoomEvents,), Error = Infallible> + Clone + Send + Sync + use<> {
    let rooms = rooms.clone();
    let ask = move |head: Head| {
        let (rooms, endpoint) = (rooms.clone(), endpoint.clone());
        async move { RoomEvents(head.admit(&rooms, &endpoint, Opening::EventStream(&head.method)).await) }
    };
    head().then(ask)
}

/// A request for an event stream, or what is wrong with it; call [`room`](Self::room) or [`rooms`](Self::rooms) to answer it.
#[must_use = "a request is answered by `room` or `rooms`"]
pub struct RoomEvents(Result<Admission, Refusal>);

impl RoomEvents {
    /// Who connects; `None` where the request is refused.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.as_ref().ok()?.identity().ok().flatten()
    }

    /// Adds claims to those of the identity, for rules and hooks to read; one of the same name takes the place of the token's.
    pub fn with_claims<N: Into<String>>(self, claims: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self(self.0.map(|admission| admission.with_claims(claims)))
    }

    /// Calls this once when the connection has ended, with the reason; not where the request is refused. It must not wait:
    /// spawn a task for what takes time.
    pub fn on_close(self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self(self.0.map(|admission| admission.on_close(hook)))
    }

    /// Answers with the events of the room `kind:id`, if its rule lets this user in; else the stream has one event, `close`
    /// with the code 4403. Kind and id are percent-decoded, once; an id that is none is answered with 400.
    pub fn room(self, kind: &str, id: impl fmt::Display) -> Response {
        let room = RoomKey::from_url(kind, id);
        self.answer(|admission| match room {
            Ok(room) => admission.events([room]),
            Err(_) => Err(admission.refuse(Refusal::Room)),
        })
    }

    /// Answers with the events of the rooms that the URL names, `?room=post:42&room=post:43`: 1 to 16, else 400. A room that
    /// the user may not join is told of by an event `error`, and the others go on; also where it is the only one.
    pub fn rooms(self) -> Response {
        self.answer(Admission::events_asked_for)
    }

    /// [`rooms`](Self::rooms) for those that the handler chooses; one alone is as with [`room`](Self::room).
    pub fn room_keys(self, rooms: impl IntoIterator<Item = RoomKey>) -> Response {
        self.answer(|admission| admission.events(rooms))
    }

    fn answer(self, events: impl FnOnce(Admission) -> Result<EventBody, Refusal>) -> Response {
        let answer = self.0.and_then(|admission| {
            let head = admission.response().map(drop);
            Ok((head, events(admission)?))
        });
        match answer {
            Ok((head, body)) => {
                let body = warp::reply::stream(body).into_response().into_body();
                head.map(|()| body)
            }
            Err(refusal) => refused(&refusal),
        }
    }
}

impl fmt::Debug for RoomEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomEvents").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
