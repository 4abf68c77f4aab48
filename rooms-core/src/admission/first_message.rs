//! The token that comes with the first message.

use std::net::SocketAddr;

use futures::{SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, Uri};
use serde::Deserialize;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    auth::{Attempt, AuthError, Identity},
    close::Close,
    handshake::Endpoint,
    manager::RoomManager,
    ws::{FrameSink, FrameStream, Incoming, WsError},
};

/// The most control frames in front of the first message. 16: a client that pings each second.
const MAX_CONTROL: usize = 16;

/// A request that is upgraded although nobody knows yet whose it is.
pub(super) struct Unauthenticated {
    pub(super) endpoint: Endpoint,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) peer: Option<SocketAddr>,
    /// Its place among the sockets that wait, until it is known.
    pub(super) place: OwnedSemaphorePermit,
}

/// `{"type":"auth","token":"..."}`.
#[derive(Deserialize)]
struct Auth {
    r#type: String,
    token: Option<String>,
}

impl Unauthenticated {
    /// Reads the first message, and asks the authenticator about its token.
    pub(super) async fn identity(
        self,
        rooms: &RoomManager,
        (stream, sink): &mut (FrameStream, FrameSink),
    ) -> Result<Identity, Close> {
        let first = async {
            // The answer to the upgrade, where it was held back: who does not take it has no more time for that. That it
            // failed shows in what is read next.
            _ = sink.flush().await;
            first_text(stream).await
        };
        let first = timeout(rooms.limits().first_message_timeout, first).await;
        let text = first.unwrap_or(Err(Close::NO_TOKEN)).inspect_err(|close| {
            // Who goes without a word wished nothing.
            if *close != Close::NORMAL {
                rooms.shared.note_no_token(close);
            }
        })?;
        let bad = |reason: AuthError| {
            rooms.shared.refuse_token(&reason, None);
            Close::INVALID_TOKEN
        };
        let auth: Auth = serde_json::from_str(&text).map_err(|_| bad(AuthError::Malformed))?;
        if auth.r#type != "auth" {
            return Err(bad(AuthError::Missing));
        }
        let attempt = attempt(auth.token.as_deref(), &self.endpoint, &self.uri, &self.headers, self.peer);
        let identity = rooms.shared.ask(rooms.authenticator_of(&self.endpoint), &attempt).await;
        drop(self.place);
        identity.map_err(|reason| close_for(&reason))
    }
}

/// What an authenticator is given.
pub(super) fn attempt<'a>(
    token: Option<&'a str>,
    endpoint: &'a Endpoint,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    peer: Option<SocketAddr>,
) -> Attempt<'a> {
    Attempt::new(token).with_headers(headers).with_uri(uri).hiding(endpoint.query_tokens()).with_peer(peer)
}

/// An authenticator that does not answer is no fault of the token, and the client should come back.
pub(super) fn close_for(reason: &AuthError) -> Close {
    match reason {
        AuthError::Unavailable => Close::UNAVAILABLE,
        AuthError::Revoked => Close::REVOKED,
        _ => Close::INVALID_TOKEN,
    }
}

async fn first_text<R>(stream: &mut R) -> Result<String, Close>
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
{
    for _ in 0..=MAX_CONTROL {
        match stream.next().await {
            Some(Ok(Incoming::Text(text))) => return Ok(text),
            Some(Ok(Incoming::Ping(_) | Incoming::Pong)) => {}
            Some(Ok(Incoming::Binary(_))) => return Err(Close::INVALID_TOKEN),
            Some(Ok(Incoming::Close(_))) | None => return Err(Close::NORMAL),
            Some(Err(error)) => return Err(error.close().unwrap_or(Close::NORMAL)),
        }
    }
    Err(Close::INVALID_TOKEN)
}
