//! What comes from the bus.

use std::sync::{Weak, atomic::Ordering};

use crate::{
    bus::{BusEvent, BusReceiver, Lost, Topic},
    context::Shared,
    reports::{Incident, IncidentKind},
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
            BusEvent::Message { topic: Topic::Room(room), payload, position: None } => shared.deliver(&room, &payload),
            BusEvent::Message { topic: Topic::Room(room), payload, position: Some(position) } => {
                shared.deliver_at(&room, &payload, position);
            }
            BusEvent::State { topic: Topic::Room(room), state, patch } => {
                shared.deliver_state(&room, &state, patch.as_ref());
            }
            BusEvent::State { .. } => {}
            BusEvent::Gap { topic: Topic::Room(room) } => {
                shared.metrics.gaps.count("room");
                if let Some(room) = shared.registry.find(&room) {
                    shared.registry.act(&room, room.gap());
                }
            }
            BusEvent::Message { topic, payload, .. } => {
                if let Some(told) = shared.presence.receive(&shared.registry, &topic, &payload) {
                    shared.obey(told);
                }
            }
            BusEvent::Gap { .. } => {
                shared.metrics.gaps.count("nodes");
                shared.presence.gap();
            }
            BusEvent::Subscribed { topics } => {
                shared.registry.subscribed(&topics);
                shared.presence.subscribed(&topics);
            }
            BusEvent::Refused { topic, error } => shared.registry.refused(&topic, &error),
            BusEvent::Down => {
                shared.bus_down.store(true, Ordering::Relaxed);
                shared.incidents.note(Incident::new(IncidentKind::Bus, "the bus is down"));
                shared.metrics.bus_down.set(1);
                shared.presence.bus_down();
            }
            BusEvent::Up { lost } => {
                shared.bus_down.store(false, Ordering::Relaxed);
                let words = match lost {
                    Lost::Perhaps => "the bus is up again, and may have lost messages",
                    _ => "the bus is up, and lost nothing",
                };
                shared.incidents.note(Incident::new(IncidentKind::Bus, words));
                shared.metrics.bus_down.set(0);
                shared.presence.bus_up();
                if lost == Lost::Perhaps {
                    shared.metrics.gaps.count("all");
                    shared.presence.gap();
                    shared.registry.gap_everywhere();
                }
            }
        }
    }
}
