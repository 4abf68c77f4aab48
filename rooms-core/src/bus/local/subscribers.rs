//! Who is subscribed to what.

use std::{collections::HashMap, sync::Arc};

use super::Receiver;
use crate::{bus::Topic, room_key::RoomKey, shrink::shrink};

/// The subscribers of some topics.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// The two topics of a room are subscribed together, and share a place: there may be many rooms.
    rooms: HashMap<RoomKey, OfRoom>,
    /// Of the topics that are no room's.
    nodes: HashMap<Topic, Subscribers>,
}

#[derive(Debug, Default)]
struct OfRoom {
    messages: Option<Subscribers>,
    control: Option<Subscribers>,
}

/// Never empty. Shared, as most topics have the same one.
pub(super) type Subscribers = Arc<Vec<Subscriber>>;

#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub(super) port: u64,
    pub(super) receiver: Receiver,
}

impl Subscriptions {
    pub(super) fn of(&self, topic: &Topic) -> &[Subscriber] {
        let all = match topic {
            Topic::Room(room) => self.rooms.get(room).and_then(|room| room.messages.as_ref()),
            Topic::Control(room) => self.rooms.get(room).and_then(|room| room.control.as_ref()),
            Topic::Nodes | Topic::Node(_) => self.nodes.get(topic),
        };
        all.map_or(&[], |all| all)
    }

    pub(super) fn has(&self, topic: &Topic) -> bool {
        !self.of(topic).is_empty()
    }

    pub(super) fn add(&mut self, topic: &Topic, subscriber: &Subscribers) {
        self.change(topic, |all| match all {
            None => Some(Arc::clone(subscriber)),
            Some(all) if subscriber.iter().all(|new| all.iter().any(|old| old.port == new.port)) => Some(all),
            Some(mut all) => {
                Arc::make_mut(&mut all).extend(subscriber.iter().cloned());
                Some(all)
            }
        });
    }

    pub(super) fn remove(&mut self, topic: &Topic, port: u64) {
        self.change(topic, |all| without(all, port));
    }

    pub(super) fn remove_all(&mut self, port: u64) {
        self.rooms.retain(|_, room| {
            room.messages = without(room.messages.take(), port);
            room.control = without(room.control.take(), port);
            !room.is_empty()
        });
        self.nodes.retain(|_, all| {
            let left = without(Some(Arc::clone(all)), port);
            left.map(|left| *all = left).is_some()
        });
    }

    fn change(&mut self, topic: &Topic, change: impl FnOnce(Option<Subscribers>) -> Option<Subscribers>) {
        let (Topic::Room(key) | Topic::Control(key)) = topic else {
            if let Some(all) = change(self.nodes.remove(topic)) {
                self.nodes.insert(topic.clone(), all);
            }
            return;
        };
        let room = match self.rooms.get_mut(key) {
            Some(room) => room,
            None => self.rooms.entry(key.clone()).or_default(),
        };
        let all = if matches!(topic, Topic::Room(_)) { &mut room.messages } else { &mut room.control };
        *all = change(all.take());
        if room.is_empty() {
            self.rooms.remove(key);
            shrink(&mut self.rooms);
        }
    }
}

impl OfRoom {
    const fn is_empty(&self) -> bool {
        self.messages.is_none() && self.control.is_none()
    }
}

fn without(all: Option<Subscribers>, port: u64) -> Option<Subscribers> {
    let all = all?;
    if all.iter().all(|subscriber| subscriber.port != port) {
        return Some(all);
    }
    let left: Vec<_> = all.iter().filter(|subscriber| subscriber.port != port).cloned().collect();
    (!left.is_empty()).then(|| Arc::new(left))
}
