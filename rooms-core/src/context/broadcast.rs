//! A payload for a room: to the bus, and from it to the members on this node.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;

use super::Shared;
use crate::{
    bus::{BusError, Topic},
    envelope::{self, BrokenEnvelope, Carried, Opened},
    json::{self, JsonFault},
    kind::Tell,
    message::Message,
    node::ConnectionId,
    payload::Payload,
    protocol::{is_reserved, multi},
    receipt::{BroadcastError, Reach, Receipt},
    room_key::RoomKey,
    runtime::RuntimeEnded,
};

impl Shared {
    /// Sends what a member published. Where it has the `type` of an event of the server's, no member is given it bare.
    pub(crate) async fn publish(&self, room: &RoomKey, payload: Payload) -> Result<Receipt, BroadcastError> {
        let carried = if is_reserved(payload.as_str()) { Carried::Wrapped } else { Carried::Bare };
        self.broadcast(room, payload.into_bytes(), None, carried).await
    }

    pub(crate) async fn broadcast(
        &self,
        room: &RoomKey,
        payload: Bytes,
        except: Option<ConnectionId>,
        carried: Carried,
    ) -> Result<Receipt, BroadcastError> {
        let limit = self.limits.max_broadcast_bytes;
        if payload.len() > limit {
            return Err(BroadcastError::TooBig { room: room.clone(), length: payload.len(), limit });
        }
        if json::check_depth(&payload).is_err() {
            return Err(BroadcastError::TooDeep { room: room.clone() });
        }
        let space = async {
            match self.registry.find(room) {
                Some(local) => Some(local.reserve(payload.len()).await),
                None => None,
            }
        };
        // Held until the message is through the bus, and so in the log.
        let space = self.runtime.wait(space).await;
        let _space = space.map_err(|RuntimeEnded| BroadcastError::RuntimeEnded { room: room.clone() })?;
        let payload = envelope::seal(except, carried, payload);
        let topic = Topic::Room(room.clone());
        let publish = AssertUnwindSafe(async { self.bus.publish(&topic, payload.clone()).await }).catch_unwind();
        let published = match timeout(self.limits.publish_timeout, publish).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) => Err(BusError::Unknown("the bus panicked".into())),
            Err(elapsed) => Err(BusError::Unknown(elapsed.into())),
        };
        match published {
            Ok(()) => Ok(Receipt { reach: Reach::AllNodes }),
            // It certainly did not happen, so it can't come a second time: the members here need not wait for the bus.
            Err(BusError::Down) => {
                self.deliver(room, &payload);
                Ok(Receipt { reach: Reach::LocalOnly })
            }
            Err(source) => Err(BroadcastError::Bus { room: room.clone(), source }),
        }
    }
}

impl Tell for Shared {
    fn tell(
        self: Arc<Self>,
        room: RoomKey,
        payload: Vec<u8>,
        except: Option<ConnectionId>,
    ) -> BoxFuture<'static, Result<Receipt, BroadcastError>> {
        async move { self.broadcast(&room, payload.into(), except, Carried::Bare).await }.boxed()
    }
}

impl Shared {
    /// Gives a payload to the members of a room on this node. Bytes that are no message are counted and dropped; what
    /// they are is not logged, because it can be anything.
    pub(crate) fn deliver(&self, room: &RoomKey, payload: &[u8]) {
        match self.read(payload) {
            Ok(Opened { json, except, carried }) => {
                let message = match carried {
                    Carried::Bare => Message::text_of(&[json]),
                    Carried::Wrapped => multi::message(room, json),
                };
                if !self.registry.append(room, message, except, carried)
                    && let Some(left_out) = self.warnings.full_room.line()
                {
                    tracing::warn!(%room, left_out, "a message was dropped: the room's log is full");
                }
            }
            Err(fault) => {
                self.bad_payloads.fetch_add(1, Ordering::Relaxed);
                if let Some(left_out) = self.warnings.bad_payload.line() {
                    tracing::warn!(%room, length = payload.len(), %fault, left_out, "a payload from the bus was dropped");
                }
                // It was meant for the members, and they do not get it: a publisher of another make, or another limit.
                let meant = matches!(fault, BadPayload::TooLong | BadPayload::Json(JsonFault::TooDeep));
                if let Some(room) = meant.then(|| self.registry.find(room)).flatten() {
                    self.registry.act(&room, room.gap());
                }
            }
        }
    }

    fn read<'a>(&self, payload: &'a [u8]) -> Result<Opened<'a>, BadPayload> {
        let opened = envelope::open(payload)?;
        if opened.json.len() > self.limits.max_broadcast_bytes {
            return Err(BadPayload::TooLong);
        }
        json::check(opened.json)?;
        Ok(opened)
    }
}

/// Why a payload is not given to anybody.
#[derive(Debug, thiserror::Error)]
enum BadPayload {
    #[error(transparent)]
    Envelope(#[from] BrokenEnvelope),
    #[error("too long")]
    TooLong,
    #[error(transparent)]
    Json(#[from] JsonFault),
}
