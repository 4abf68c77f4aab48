//! A connection from the head of its request until it is served: what all frameworks' adapters share.

#[cfg(all(test, not(rooms_loom)))]
mod compressed_once;
mod events;
mod first_message;
mod gate;
mod on_close;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Once},
};

use http::{HeaderMap, Response, Uri};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument as _, Span, field::Empty};

use self::{
    first_message::{Unauthenticated, attempt, close_for},
    gate::Newcomer,
    on_close::OnClose,
};
use crate::{
    auth::{AuthError, Authenticator, Identity, SignIn},
    close::Close,
    handshake::{self, BadToken, Endpoint, Handshake, Mismatch, Opening, Refusal},
    http_places::HttpPlace,
    join_options::JoinOptions,
    limits::Limits,
    manager::RoomManager,
    message::Form,
    network::Network,
    outbox::Framing,
    room_key::RoomKey,
    runtime::in_time,
    session::{Served, Source},
    ws::{FrameSink, FrameStream},
};

/// A request that is answered by an upgrade; what then happens on the socket is decided already, unless its token comes with
/// the first message.
///
/// An adapter asks [`RoomManager::admit`], answers with [`response`](Self::response), and hands over what its framework
/// calls an upgrade as a future of the socket's two halves, with [`serve_room`](Self::serve_room) or
/// [`serve`](Self::serve). Whoever has a bad token is told so by a close frame whichever of them is called.
#[must_use = "an upgrade is served by `serve_room` or `serve`"]
pub struct Admission {
    rooms: RoomManager,
    handshake: Handshake,
    verdict: Verdict,
    newcomer: Newcomer,
    /// Of the endpoint, for the tokens that follow and for hooks.
    sign_in: Option<Arc<SignIn>>,
    claims: Vec<(String, Value)>,
    on_close: Option<OnClose>,
    /// Where it does not end the HTTP connection that it came on.
    place: Option<HttpPlace>,
    /// Open until it is a connection, or none.
    span: Span,
}

enum Verdict {
    Known(Identity),
    /// With its place among those that are turned away by a close frame.
    Bad(Close, OwnedSemaphorePermit),
    /// The token comes with the first message.
    Later(Box<Unauthenticated>),
}

impl RoomManager {
    /// Checks a request that would be a connection, and asks the authenticator about its token. `peer` is the other end of the
    /// TCP connection, where the framework says it: it is for the application's own authenticator, and for the limits by address.
    ///
    /// # Errors
    /// [`Refusal`], whose [`response`](Refusal::response) is the answer: the process is shutting down, the request is no
    /// upgrade or from a page that may not connect, a limit is reached, or its token is bad and the endpoint answers that over
    /// HTTP. That is also what becomes of a bad token where `Limits::max_unauthenticated` others are being closed for theirs.
    ///
    /// ```
    /// use http::{HeaderMap, Method, Uri};
    /// use rooms_core::{RoomManager, adapter::Refusal};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let rooms: RoomManager = RoomManager::builder().build().unwrap();
    /// let uri = Uri::from_static("/live");
    /// let refused = rooms.admit(rooms.endpoint(), &Method::GET, &uri, &HeaderMap::new(), None).await.unwrap_err();
    /// assert_eq!(refused, Refusal::NotAnUpgrade);
    /// assert_eq!(refused.response().status(), 426);
    /// # }
    /// ```
    pub async fn admit<'a>(
        &self,
        endpoint: &Endpoint,
        opening: impl Into<Opening<'a>>,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Admission, Refusal> {
        let span = tracing::info_span!("upgrade", connection = Empty, outcome = Empty);
        match self.check(endpoint, opening.into(), uri, headers, peer).instrument(span.clone()).await {
            Ok(admission) => Ok(Admission { span, ..admission }),
            Err(refusal) => {
                span.record("outcome", refusal.word());
                self.note_refusal(&refusal);
                Err(refusal)
            }
        }
    }

    async fn check(
        &self,
        endpoint: &Endpoint,
        opening: Opening<'_>,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Admission, Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let handshake = Handshake::read(endpoint, opening, uri, headers)
            .inspect_err(|refusal| self.log_refusal(refusal, uri, headers))?;
        let newcomer =
            self.newcomer(peer, headers).inspect_err(|refusal| tracing::debug!(%refusal, "an upgrade was refused"))?;
        let verdict = if handshake.awaits_message() {
            let place = Arc::clone(&self.shared.unauthenticated).try_acquire_owned();
            let place = place.map_err(|_| {
                self.shared.limiters.note_refusal();
                Refusal::TooManyUnauthenticated
            })?;
            let (endpoint, uri, headers) = (endpoint.clone(), uri.clone(), headers.clone());
            Verdict::Later(Box::new(Unauthenticated { endpoint, uri, headers, peer, place }))
        } else {
            let answer = match handshake.token() {
                Ok(token) => {
                    let attempt = attempt(token, endpoint, uri, headers, peer);
                    self.shared.ask(self.authenticator_of(endpoint), &attempt).await
                }
                Err(reason) => Err(reason).inspect_err(|reason| self.shared.refuse_token(reason, None)),
            };
            match answer {
                Ok(identity) => Verdict::Known(identity),
                Err(AuthError::Unavailable) if handshake.bad_token() == BadToken::Refuse => {
                    return Err(Refusal::Unavailable);
                }
                Err(_) if handshake.bad_token() == BadToken::Refuse => return Err(Refusal::Token),
                Err(reason) => {
                    let place = Arc::clone(&self.shared.turned_away).try_acquire_owned();
                    Verdict::Bad(close_for(&reason), place.map_err(|_| Refusal::Token)?)
                }
            }
        };
        let (rooms, sign_in) = (self.clone(), handshake.sign_in().cloned());
        let (claims, on_close, place, span) = (Vec::new(), None, None, Span::none());
        Ok(Admission { rooms, handshake, verdict, newcomer, sign_in, claims, on_close, place, span })
    }

    fn note_refusal(&self, refusal: &Refusal) {
        self.shared.metrics.upgrades_refused.count(refusal.word());
        self.shared.note_refused_upgrade(refusal);
    }

    fn authenticator_of<'a>(&'a self, endpoint: &'a Endpoint) -> &'a dyn Authenticator {
        &**endpoint.own_authenticator().unwrap_or(&self.shared.authenticator)
    }

    /// A browser tells its page nothing of a refused upgrade, so whoever looks for the reason looks here.
    fn log_refusal(&self, refusal: &Refusal, uri: &Uri, headers: &HeaderMap) {
        // Once in a process, as clients decide how many there are.
        static WARNED: Once = Once::new();
        tracing::debug!(%refusal, "an upgrade was refused");
        match refusal {
            // Behind a proxy that does not pass `Host` on every page is refused, and for ever.
            Refusal::Origin => {
                if let Some(left_out) = self.warnings().origin.line() {
                    let Mismatch { origin, host } = handshake::mismatch(uri, headers);
                    tracing::warn!(
                        origin,
                        host,
                        left_out,
                        "an upgrade was refused for its `Origin`: where that page may connect, let the proxy pass `Host` \
                         on or name its origin with `Endpoint::origins`"
                    );
                }
            }
            Refusal::ExtendedConnect => WARNED.call_once(|| {
                tracing::warn!(
                    "a WebSocket over HTTP/2 was refused, and browsers do not fall back: enable the feature `http2` of \
                     rooms, or let the HTTP server not announce SETTINGS_ENABLE_CONNECT_PROTOCOL"
                );
            }),
            _ => {}
        }
    }
}

impl Admission {
    /// Who connects; `None` where the token comes with the first message.
    ///
    /// # Errors
    /// The close that turns away whoever has no good token.
    pub const fn identity(&self) -> Result<Option<&Identity>, &Close> {
        match &self.verdict {
            Verdict::Known(identity) => Ok(Some(identity)),
            Verdict::Later(_) => Ok(None),
            Verdict::Bad(close, _) => Err(close),
        }
    }

    /// The subprotocol that the answer names, where the endpoint speaks one that the client [offers](Endpoint::subprotocols).
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.handshake.subprotocol()
    }

    /// Adds claims to those of the identity, for rules and hooks to read; one of the same name takes the place of the token's.
    pub fn with_claims<N: Into<String>>(mut self, claims: impl IntoIterator<Item = (N, Value)>) -> Self {
        self.claims.extend(claims.into_iter().map(|(name, value)| (name.into(), value)));
        self
    }

    /// Calls this once when the connection has ended, with the reason, whatever that is; 1001 where it can't be said, as
    /// when the upgrade fails. It has left its rooms by then. It must not wait: spawn a task for what takes time.
    pub fn on_close(mut self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        self.on_close = Some(OnClose::new(hook));
        self
    }

    /// Frees the place of the HTTP connection that it came on for as long as it is counted as a connection itself. For event
    /// streams and for WebSockets over HTTP/2; over HTTP/1.1 the upgrade to a WebSocket ends the HTTP connection.
    pub fn frees(self, place: Option<HttpPlace>) -> Self {
        Self { place, ..self }
    }

    /// The manager that admitted it.
    #[must_use]
    pub const fn rooms(&self) -> &RoomManager {
        &self.rooms
    }

    /// The bounds that the socket's halves are made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.rooms.limits()
    }

    /// The answer that opens the connection; that of an event stream is its head.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        self.handshake.deflating_response()
    }

    /// Refuses the request after all, as when its URL names no room: gives the refusal back, whose
    /// [`response`](Refusal::response) is the answer.
    pub fn refuse(self, refusal: Refusal) -> Refusal {
        self.span.record("outcome", refusal.word());
        self.rooms.note_refusal(&refusal);
        refusal
    }

    /// Serves the socket in a task of its own, as a connection that is for one room. What its URL says besides the room is
    /// as in [`Handshake::join_options`].
    pub fn serve_room<E>(self, room: RoomKey, socket: impl Socket<E>)
    where
        E: fmt::Display,
    {
        let join = self.handshake.join_options().clone();
        let framing = Framing { form: join.form(), deflate: self.handshake.deflate() };
        self.open(socket, move |rooms, who, sign_in, (stream, sink)| {
            rooms.serve_in(framing, stream, sink, who, Some((room, join)), sign_in)
        });
    }

    /// Serves the socket in a task of its own, as a connection that joins and leaves rooms by itself.
    pub fn serve<E>(self, socket: impl Socket<E>)
    where
        E: fmt::Display,
    {
        let framing = Framing { form: Form::Multi, deflate: self.handshake.deflate() };
        self.open(socket, move |rooms, who, sign_in, (stream, sink)| {
            let first = rooms.user_room(who.0.user()).map(|room| (room, JoinOptions::new()));
            rooms.serve_in(framing, stream, sink, who, first, sign_in)
        });
    }

    /// A connection has a task of its own: it does not keep the memory of its upgrade.
    #[expect(clippy::async_yields_async, reason = "the task goes on as what its opening comes to")]
    fn open<E: fmt::Display>(
        self,
        socket: impl Socket<E>,
        serve: impl FnOnce(&RoomManager, Who, Option<Arc<SignIn>>, (FrameStream, FrameSink)) -> Served<FrameStream>
        + Send
        + 'static,
    ) {
        let Self { rooms, handshake, verdict, newcomer, sign_in, claims, on_close, place: http, span } = self;
        let deflate = handshake.deflate();
        tokio::spawn(Served::Opening(Box::pin(async move {
            let within = rooms.limits().handshake_timeout;
            let mut halves = match in_time(within, socket).await {
                Ok(Ok(halves)) => halves,
                Ok(Err(error)) => {
                    span.record("outcome", "failed");
                    tracing::debug!(%error, "an upgrade failed");
                    return Served::over();
                }
                Err(_) => {
                    span.record("outcome", "timed_out");
                    tracing::debug!(?within, "an upgrade took too long");
                    return Served::over();
                }
            };
            if deflate.is_some() {
                halves.0.takes_deflated();
            }
            let mut place = None;
            let verdict = match verdict {
                Verdict::Known(identity) => Ok(identity),
                Verdict::Bad(close, turned_away) => {
                    place = Some(turned_away);
                    Err(close)
                }
                // Boxed, because most have their token with the request.
                Verdict::Later(unauthenticated) => Box::pin(unauthenticated.identity(&rooms, &mut halves)).await,
            };
            let served = match verdict.and_then(|identity| with_claims(identity, claims.clone())) {
                Ok(identity) => {
                    let sign_in = if claims.is_empty() {
                        sign_in
                    } else {
                        let of_endpoint = sign_in.map(|sign_in| SignIn::clone(&sign_in)).unwrap_or_default();
                        Some(Arc::new(SignIn { claims, ..of_endpoint }))
                    };
                    let served = serve(&rooms, (identity, newcomer.from), sign_in, halves);
                    served.note_in(&span);
                    // Now it is counted as a connection.
                    drop(newcomer);
                    served.freeing(http)
                }
                Err(close) => {
                    span.record("outcome", "turned_away");
                    let refused = Served::refused(halves, close, rooms.limits().clone());
                    refused.and_then(move |_| drop((place, newcomer)))
                }
            };
            match on_close {
                None => served,
                Some(on_close) => served.and_then(|close| on_close.ended(close)),
            }
        })));
    }
}

impl<R: Source> Served<R> {
    /// Frees a place among HTTP connections where this one is counted, until it is no more.
    fn freeing(self, place: Option<HttpPlace>) -> Self {
        match (&self, place) {
            (Self::Session(_), Some(place)) => {
                let freed = place.free();
                self.and_then(move |_| drop(freed))
            }
            _ => self,
        }
    }
}

/// Who connects, and from where.
type Who = (Identity, Option<Network>);

fn with_claims(identity: Identity, more: Vec<(String, Value)>) -> Result<Identity, Close> {
    if more.is_empty() {
        return Ok(identity);
    }
    identity.and_claims(more).map_err(|_| {
        tracing::error!("claims can't be added: those that the authenticator gave are not a JSON object");
        Close::INTERNAL
    })
}

/// The two halves of a socket, once its upgrade is done: [`ws::tcp`](crate::ws::tcp) or [`ws::over`](crate::ws::over) of
/// what a framework gives.
pub trait Socket<E>: Future<Output = Result<(FrameStream, FrameSink), E>> + Send + 'static {}

impl<E, F> Socket<E> for F where F: Future<Output = Result<(FrameStream, FrameSink), E>> + Send + 'static {}

/// Without the token and the claims.
impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("identity", &self.identity()).finish_non_exhaustive()
    }
}
