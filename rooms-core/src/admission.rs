//! An upgrade from the head of its request to the connection that is served: what all frameworks' adapters share.

use std::{fmt, sync::Once};

use http::{HeaderMap, Method, Response, Uri};
use tokio::time::timeout;

use crate::{
    auth::{AuthError, Identity},
    close::Close,
    handshake::{self, BadToken, Endpoint, Handshake, Mismatch, Refusal},
    join_options::JoinOptions,
    limits::Limits,
    manager::RoomManager,
    message::Form,
    room_key::RoomKey,
    session::{Served, refuse},
    ws::{FrameSink, FrameStream},
};

/// A request that is answered by an upgrade; what then happens on the socket is decided already.
///
/// An adapter asks [`RoomManager::admit`], answers with [`response`](Self::response), and hands over what its framework
/// calls an upgrade as a future of the socket's two halves, with [`serve_room`](Self::serve_room) or
/// [`serve`](Self::serve). Whoever has a bad token is told so by a close frame whichever of them is called.
#[must_use = "an upgrade is served by `serve_room` or `serve`"]
pub struct Admission {
    rooms: RoomManager,
    handshake: Handshake,
    verdict: Result<Identity, Close>,
}

impl RoomManager {
    /// Checks a request that would be a connection, and asks the authenticator about its token.
    ///
    /// # Errors
    /// [`Refusal`], whose [`response`](Refusal::response) is the answer: the process is shutting down, the request is no
    /// upgrade or from a page that may not connect, or its token is bad and the endpoint answers that over HTTP.
    ///
    /// ```
    /// use http::{HeaderMap, Method, Uri};
    /// use rooms_core::{RoomManager, adapter::Refusal};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let rooms: RoomManager = RoomManager::builder().build().unwrap();
    /// let uri = Uri::from_static("/live");
    /// let refused = rooms.admit(rooms.endpoint(), &Method::GET, &uri, &HeaderMap::new()).await.unwrap_err();
    /// assert_eq!(refused, Refusal::NotAnUpgrade);
    /// assert_eq!(refused.response().status(), 426);
    /// # }
    /// ```
    pub async fn admit(
        &self,
        endpoint: &Endpoint,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Admission, Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let handshake = Handshake::read(endpoint, method, uri, headers)
            .inspect_err(|refusal| self.log_refusal(refusal, uri, headers))?;
        let verdict = match handshake.token() {
            Ok(token) => self.authenticate(token).await,
            Err(reason) => Err(reason).inspect_err(|reason| self.log_bad_token(reason)),
        };
        let verdict = verdict.map_err(|reason| match reason {
            // An authenticator that does not answer is no fault of the token, and the client should come back.
            AuthError::Unavailable => (Refusal::Unavailable, Close::UNAVAILABLE),
            _ => (Refusal::Token, Close::INVALID_TOKEN),
        });
        let verdict = match verdict {
            Ok(identity) => Ok(identity),
            Err((refusal, _)) if handshake.bad_token() == BadToken::Refuse => return Err(refusal),
            Err((_, close)) => Err(close),
        };
        Ok(Admission { rooms: self.clone(), handshake, verdict })
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
                    "a WebSocket over HTTP/2 was refused, and browsers do not fall back: the HTTP server should not \
                     announce SETTINGS_ENABLE_CONNECT_PROTOCOL, or should offer only `http/1.1` by ALPN"
                );
            }),
            _ => {}
        }
    }
}

impl Admission {
    /// Who connects.
    ///
    /// # Errors
    /// The close that turns away whoever has no good token.
    pub const fn identity(&self) -> Result<&Identity, &Close> {
        self.verdict.as_ref()
    }

    /// The bounds that the socket's halves are made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.rooms.limits()
    }

    /// The answer that opens the WebSocket.
    #[must_use]
    pub fn response(&self) -> Response<()> {
        self.handshake.response()
    }

    /// Serves the socket in a task of its own, as a connection that is for one room. What its URL says besides the room is
    /// as in [`Handshake::join_options`].
    pub fn serve_room<E>(self, room: RoomKey, socket: impl Socket<E>)
    where
        E: fmt::Display,
    {
        let join = self.handshake.join_options().clone();
        self.open(socket, |rooms, identity, (stream, sink)| {
            rooms.serve_in(join.form(), stream, sink, identity, Some((room, join)))
        });
    }

    /// Serves the socket in a task of its own, as a connection that joins and leaves rooms by itself.
    pub fn serve<E>(self, socket: impl Socket<E>)
    where
        E: fmt::Display,
    {
        self.open(socket, |rooms, identity, (stream, sink)| {
            let first = rooms.user_room(identity.user()).map(|room| (room, JoinOptions::new()));
            rooms.serve_in(Form::Multi, stream, sink, identity, first)
        });
    }

    /// A connection has a task of its own: it does not keep the memory of its upgrade. And its memory lies where that of the
    /// HTTP server's task was, which has ended by then; else that place would be lost between two connections.
    fn open<E: fmt::Display>(
        self,
        socket: impl Socket<E>,
        serve: impl FnOnce(&RoomManager, Identity, (FrameStream, FrameSink)) -> Served<FrameStream> + Send + 'static,
    ) {
        let Self { rooms, verdict, .. } = self;
        tokio::spawn(Box::pin(async move {
            let within = rooms.limits().handshake_timeout;
            let halves = match timeout(within, socket).await {
                Ok(Ok(halves)) => halves,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "an upgrade failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(?within, "an upgrade took too long");
                    return;
                }
            };
            match verdict {
                Ok(identity) => drop(tokio::spawn(serve(&rooms, identity, halves))),
                Err(close) => {
                    refuse(halves.0, halves.1, close.clone(), rooms.limits()).await;
                }
            }
        }));
    }
}

/// The two halves of a socket, once its upgrade is done: [`ws::tcp`](crate::ws::tcp) or [`ws::over`](crate::ws::over) of
/// what a framework gives.
pub trait Socket<E>: Future<Output = Result<(FrameStream, FrameSink), E>> + Send + 'static {}

impl<E, F> Socket<E> for F where F: Future<Output = Result<(FrameStream, FrameSink), E>> + Send + 'static {}

/// Without the token and the claims.
impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}
