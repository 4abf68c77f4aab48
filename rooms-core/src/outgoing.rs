//! A payload's way to the bus: the same for a manager and for a publisher.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::timeout;
use tracing::{
    Span,
    field::{Empty, display},
};

use crate::{
    bus::{Appended, Bus, BusError, History, IdempotencyKey, Retention, Topic},
    envelope::Carried,
    json,
    kind::{EventType, Kind, Oversize},
    limits::Limits,
    metrics::UNKNOWN,
    node::ConnectionId,
    receipt::BroadcastError,
    room_key::RoomKey,
};

/// The kind of the rooms that hold a user's connections.
pub(crate) const USER: &str = "user";

/// A few, by name: to compare names takes less time than to hash one, and several are looked up for each connection.
pub(crate) type Kinds = BTreeMap<Box<str>, Arc<Kind>>;

/// The kind of a room as a span names it: one that was declared.
pub(crate) fn kind_name<'a>(kinds: &Kinds, room: &'a RoomKey) -> &'a str {
    if kinds.contains_key(room.kind()) { room.kind() } else { UNKNOWN }
}

/// The span of one broadcast, which leaves this connection out; its `outcome` is recorded at the end.
pub(crate) fn span(kinds: &Kinds, room: &RoomKey, except: Option<ConnectionId>) -> Span {
    let span = tracing::debug_span!("publish", kind = kind_name(kinds, room), connection = Empty, outcome = Empty);
    if let Some(except) = except {
        span.record("connection", display(except));
    }
    span
}

/// What decides about a payload for a room.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) room: &'a RoomKey,
    pub(crate) kinds: &'a Kinds,
    pub(crate) limits: &'a Limits,
    pub(crate) bus: &'a dyn Bus,
}

impl<'a> Outgoing<'a> {
    /// Compares the type of what is sent with the one that the kind declares, in builds with debug assertions.
    pub(crate) fn check_type(&self, event: Option<EventType>) -> Result<(), BroadcastError> {
        let Some(event) = event.filter(|_| cfg!(debug_assertions)) else { return Ok(()) };
        match self.kind().and_then(|kind| kind.other_type(event)) {
            Some(declared) => Err(BroadcastError::OtherType { room: self.room.clone(), declared, came: event.name }),
            None => Ok(()),
        }
    }

    /// The same of a state.
    pub(crate) fn check_state(&self, state: EventType) -> Result<(), BroadcastError> {
        match self.kind().filter(|_| cfg!(debug_assertions)).and_then(|kind| kind.other_state(state)) {
            Some(declared) => Err(BroadcastError::OtherState { room: self.room.clone(), declared, came: state.name }),
            None => Ok(()),
        }
    }

    /// Holds a payload to its bounds: as it is, or as what the kind has in place of one that is too long.
    pub(crate) fn fit(&self, payload: Bytes, carried: Carried) -> Result<(Bytes, Carried), BroadcastError> {
        let limit = self.limits.max_broadcast_bytes;
        let (payload, carried) = if payload.len() <= limit {
            (payload, carried)
        } else if self.kind().is_some_and(|kind| kind.oversize == Oversize::Refresh) {
            (Bytes::from_static(b"null"), Carried::Refresh)
        } else {
            return Err(BroadcastError::TooBig { room: self.room.clone(), length: payload.len(), limit });
        };
        if carried != Carried::Binary && json::check_depth(&payload).is_err() {
            return Err(BroadcastError::TooDeep { room: self.room.clone() });
        }
        Ok((payload, carried))
    }

    /// Where the messages of the room are kept; `None` where they are not.
    pub(crate) fn history(&self) -> Option<(&'a dyn History, Retention)> {
        let retention = self.kind()?.history?;
        Some((self.bus.history()?, retention))
    }

    /// Hands a payload in its envelope to the bus, and to the history where there is one; once for a key.
    pub(crate) async fn publish(
        &self,
        payload: Bytes,
        history: Option<(&dyn History, Retention)>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<Appended>, BusError> {
        let topic = Topic::Room(self.room.clone());
        let publish = async {
            match (history, key) {
                (Some((history, retention)), Some(key)) => {
                    history.append_once(&topic, payload, retention, key).await.map(Some)
                }
                (Some((history, retention)), None) => {
                    history.append(&topic, payload, retention).await.map(|position| Some(Appended::Now(position)))
                }
                (None, _) => self.bus.publish(&topic, payload).await.map(|()| None),
            }
        };
        let publish = AssertUnwindSafe(publish).catch_unwind();
        match timeout(self.limits.publish_timeout, publish).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) => Err(BusError::Unknown("the bus panicked".into())),
            Err(elapsed) => Err(BusError::Unknown(elapsed.into())),
        }
    }

    fn kind(&self) -> Option<&'a Kind> {
        self.kinds.get(self.room.kind()).map(|kind| &**kind)
    }
}
