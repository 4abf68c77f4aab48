//! What comes from the bus.

use std::sync::{Weak, atomic::Ordering};

use futures::Sink;

use super::Shared;
use crate::{
    bus::{BusEvent, BusReceiver, Lost, Topic},
    envelope, json,
    message::Message,
    room_key::RoomKey,
};

/// The manager's end of the bus; it does not keep the manager alive.
pub(super) struct Inbox<S>(Weak<Shared<S>>);

impl<S> Inbox<S> {
    pub(super) fn new(shared: &Weak<Shared<S>>) -> Self {
        Self(Weak::clone(shared))
    }
}

impl<S: Sink<Message> + Unpin + Send + 'static> BusReceiver for Inbox<S> {
    fn event(&self, event: BusEvent) {
        let Some(shared) = self.0.upgrade() else { return };
        match event {
            BusEvent::Message { topic: Topic::Room(room), payload } => shared.deliver(&room, &payload),
            BusEvent::Gap { topic: Topic::Room(room) } => {
                if let Some(room) = shared.registry.find(&room) {
                    shared.registry.act(&room, room.gap());
                }
            }
            BusEvent::Message { topic, payload } => shared.presence.hear(&topic, &payload),
            BusEvent::Gap { topic } => shared.presence.missed(&topic),
            BusEvent::Down => {
                shared.bus_down.store(true, Ordering::Relaxed);
                shared.presence.deaf();
            }
            BusEvent::Up { lost } => {
                shared.bus_down.store(false, Ordering::Relaxed);
                shared.presence.hears();
                if lost == Lost::Perhaps {
                    shared.presence.missed_all();
                    for room in shared.registry.rooms() {
                        shared.registry.act(&room, room.gap());
                    }
                }
            }
        }
    }
}

impl<S: Sink<Message> + Unpin + Send + 'static> Shared<S> {
    /// Gives a payload to the members of a room on this node. Bytes that are no message are counted and dropped; what
    /// they are is not logged, because it can be anything.
    pub(super) fn deliver(&self, room: &RoomKey, payload: &[u8]) {
        let opened = envelope::open(payload).map_err(|error| error.to_string());
        let checked = opened.and_then(|opened| {
            if opened.json.len() > self.limits.broadcast {
                return Err("too long".to_owned());
            }
            let text = json::check(opened.json).map_err(|fault| fault.to_string())?;
            Ok((text, opened.except))
        });
        match checked {
            Ok((text, except)) => {
                if !self.registry.append(room, Message::text(text), except) {
                    tracing::warn!(%room, "a message was dropped: the room's log is full");
                }
            }
            Err(fault) => {
                self.bad_payloads.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%room, length = payload.len(), fault, "a payload from the bus was dropped");
            }
        }
    }
}
