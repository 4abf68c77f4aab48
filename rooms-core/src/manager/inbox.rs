//! What comes from the bus.

use std::sync::{Weak, atomic::Ordering};

use super::Shared;
use crate::{
    bus::{BusEvent, BusReceiver, Lost, Topic},
    envelope::{self, BrokenEnvelope, Carried, Opened},
    json::{self, JsonFault},
    message::Message,
    protocol::multi,
    room_key::RoomKey,
};

/// The manager's end of the bus; it does not keep the manager alive.
pub(super) struct Inbox(Weak<Shared>);

impl Inbox {
    pub(super) fn new(shared: &Weak<Shared>) -> Self {
        Self(Weak::clone(shared))
    }
}

impl BusReceiver for Inbox {
    fn event(&self, event: BusEvent) {
        let Some(shared) = self.0.upgrade() else { return };
        match event {
            BusEvent::Message { topic: Topic::Room(room), payload, .. } => shared.deliver(&room, &payload),
            BusEvent::Gap { topic: Topic::Room(room) } => {
                if let Some(room) = shared.registry.find(&room) {
                    shared.registry.act(&room, room.gap());
                }
            }
            BusEvent::Message { topic, payload, .. } => shared.presence.hear(&topic, &payload),
            BusEvent::Gap { topic } => shared.presence.missed(&topic),
            BusEvent::Subscribed { topics } => {
                shared.registry.subscribed(&topics);
                shared.presence.subscribed(&topics);
            }
            BusEvent::Refused { topic, error } => shared.registry.refused(&topic, &error),
            BusEvent::Down => {
                shared.bus_down.store(true, Ordering::Relaxed);
                shared.presence.deaf();
            }
            BusEvent::Up { lost } => {
                shared.bus_down.store(false, Ordering::Relaxed);
                shared.presence.hears();
                if lost == Lost::Perhaps {
                    shared.presence.missed_all();
                    shared.registry.gap_everywhere();
                }
            }
        }
    }
}

impl Shared {
    /// Gives a payload to the members of a room on this node. Bytes that are no message are counted and dropped; what
    /// they are is not logged, because it can be anything.
    pub(super) fn deliver(&self, room: &RoomKey, payload: &[u8]) {
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
        if opened.json.len() > self.limits.broadcast {
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
