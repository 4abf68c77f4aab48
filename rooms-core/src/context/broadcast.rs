//! A payload for a room: to the bus, and from it to the members on this node.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Shared;
use crate::{
    bus::{BusError, IdempotencyKey, Position},
    envelope::{self, BadPayload, Carried, Opened},
    join_options::JoinOptions,
    kind::{EventType, Said, Tell},
    message::Message,
    metrics::Stopwatch,
    node::ConnectionId,
    outgoing::{self, Outgoing},
    payload::Payload,
    protocol::{self, is_reserved, multi},
    receipt::{self, BroadcastError, Reach, Receipt},
    room::{Logged, Ready, Room},
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
        self.broadcast_once(room, payload, except, carried, None).await
    }

    /// [`broadcast`](Self::broadcast); where there is a key, once for it.
    pub(crate) async fn broadcast_once(
        &self,
        room: &RoomKey,
        payload: Bytes,
        except: Option<ConnectionId>,
        carried: Carried,
        key: Option<&IdempotencyKey>,
    ) -> Result<Receipt, BroadcastError> {
        let length = payload.len();
        let span = outgoing::span(&self.kinds, room, except);
        let outcome = self.send_out(room, payload, except, carried, key).instrument(span.clone()).await;
        span.record("outcome", self.note_broadcast(room, length, &outcome));
        outcome
    }

    async fn send_out(
        &self,
        room: &RoomKey,
        payload: Bytes,
        except: Option<ConnectionId>,
        carried: Carried,
        key: Option<&IdempotencyKey>,
    ) -> Result<Receipt, BroadcastError> {
        let outgoing = self.outgoing(room);
        let history = if self.keeps_histories { outgoing.history() } else { None };
        if key.is_some() && history.is_none() {
            return Err(BroadcastError::NoHistory { room: room.clone() });
        }
        let (payload, carried) = outgoing.fit(payload, carried)?;
        let space = async {
            match self.registry.find(room) {
                Some(local) => Some(local.reserve(payload.len()).await),
                None => None,
            }
        };
        // Held until the message is through the bus, and so in the log.
        let space = self.runtime.wait(space).await;
        let _space = space.map_err(|RuntimeEnded| BroadcastError::RuntimeEnded { room: room.clone() })?;
        let payload = envelope::seal(self.current_trace(), except, carried, payload);
        let (published, waited) = waited_for(outgoing.publish(payload.clone(), history, key)).await;
        if let Some(begun) = waited {
            let recorded = if published.is_ok() { &self.metrics.published } else { &self.metrics.not_published };
            recorded.since(begun);
        }
        match published {
            Ok(appended) => Ok(Receipt::of(Reach::AllNodes, appended)),
            // It certainly did not happen, so it can't come a second time: the members here need not wait for the bus. In a
            // history it has no place, so there it is an error.
            Err(BusError::Down) if history.is_none() => {
                self.deliver(room, &payload);
                Ok(Receipt::of(Reach::LocalOnly, None))
            }
            Err(source) => Err(BroadcastError::Bus { room: room.clone(), source }),
        }
    }

    fn note_broadcast(&self, room: &RoomKey, length: usize, outcome: &Result<Receipt, BroadcastError>) -> &'static str {
        let outcome = receipt::word(outcome);
        let metrics = self.metrics_of(room);
        metrics.broadcasts.count(outcome);
        metrics.broadcast_bytes.add(length as u64);
        outcome
    }
}

/// An answer, and since when it was waited for: an answer that is there at once, as a bus in this process gives it, took no
/// time, and is not worth a look at the clock.
async fn waited_for<T>(answer: impl Future<Output = T>) -> (T, Option<Stopwatch>) {
    let (mut answer, mut begun) = (pin!(answer), None);
    let answer = poll_fn(|context| {
        let answer = answer.as_mut().poll(context);
        if answer.is_pending() {
            begun.get_or_insert_with(Stopwatch::start);
        }
        answer
    });
    (answer.await, begun)
}

impl Shared {
    /// Waits until what one who joins needs of a room's history and its state is known, or could not be read.
    ///
    /// May be dropped at any time.
    pub(crate) async fn history(&self, room: &Arc<Room>, join: &JoinOptions) -> Ready {
        let (mut seen, mut seen_of_state, mut changed) = (None, None, None);
        loop {
            let (ready, effects) = room.look(join, &mut seen);
            self.registry.act(room, effects);
            let (of_state, effects) = room.look_at_state(&mut seen_of_state);
            self.registry.act(room, effects);
            match (ready, of_state) {
                (Ready::Yes, Ready::Yes) => return Ready::Yes,
                (Ready::Failed, _) | (_, Ready::Failed) => return Ready::Failed,
                (Ready::NotYet, _) | (_, Ready::NotYet) => {}
            }
            match changed.take() {
                Some(changed) => changed.await,
                // Looked at once more, as it may have changed just now.
                None => changed = Some(room.history_changed()),
            }
        }
    }

    pub(crate) fn outgoing<'a>(&'a self, room: &'a RoomKey) -> Outgoing<'a> {
        Outgoing { room, kinds: &self.kinds, limits: &self.limits, bus: &*self.bus }
    }

    /// Sends what the application says.
    pub(crate) async fn say(
        &self,
        Said { room, payload, carried, event, except, key }: Said,
    ) -> Result<Receipt, BroadcastError> {
        self.outgoing(&room).check_type(event)?;
        self.broadcast_once(&room, payload, except, carried, key.as_ref()).await
    }
}

impl Tell for Shared {
    fn tell(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<Receipt, BroadcastError>> {
        async move { self.say(said).await }.boxed()
    }

    fn other_type(&self, room: &RoomKey, came: EventType) -> Option<&'static str> {
        self.kinds.get(room.kind())?.other_type(came)
    }
}

impl Shared {
    /// Gives a payload to the members of a room on this node. Bytes that are no message are counted and dropped; what
    /// they are is not logged, because it can be anything.
    pub(crate) fn deliver(&self, room: &RoomKey, payload: &[u8]) {
        match envelope::read(payload, self.limits.max_broadcast_bytes) {
            Ok(Opened { payload, trace, except, carried }) => {
                let fan_out = self.fan_out_of(room, trace);
                let message = match carried {
                    Carried::Bare => Message::text_of(&[payload]),
                    Carried::Wrapped => multi::message(room, payload),
                    Carried::Refresh => protocol::refresh(room, None),
                    Carried::Binary => Message::binary(payload),
                };
                if !self.registry.append(room, message, except, carried, fan_out) {
                    self.note_full(room);
                }
            }
            Err(fault) => {
                self.note_bad(room, payload.len(), &fault);
                if let Some(room) = fault.was_meant().then(|| self.registry.find(room)).flatten() {
                    self.registry.act(&room, room.left_out());
                }
            }
        }
    }

    /// [`deliver`](Self::deliver), of a message that has a position in the room's history.
    pub(crate) fn deliver_at(&self, room: &RoomKey, payload: &[u8], position: Position) {
        let Some(local) = self.registry.find(room) else { return };
        if !local.has_history() {
            return self.deliver(room, payload);
        }
        let trace = envelope::open(payload).ok().and_then(|opened| opened.trace);
        let fan_out = self.fan_out_of(room, trace);
        let (logged, fault) = Logged::read(room, payload, position, Instant::now(), self.limits.max_broadcast_bytes);
        if let Some(fault) = fault {
            self.note_bad(room, payload.len(), &fault);
        }
        if !self.registry.arrive(&local, logged, fan_out) {
            self.note_full(room);
        }
    }

    /// Counts bytes that are no message, and says so from time to time.
    pub(super) fn note_bad(&self, room: &RoomKey, length: usize, fault: &BadPayload) {
        self.metrics.bad_payloads.add(1);
        if let Some(left_out) = self.warnings.bad_payload.line() {
            tracing::warn!(%room, length, %fault, left_out, "a payload from the bus was dropped");
        }
    }

    pub(super) fn note_full(&self, room: &RoomKey) {
        if let Some(left_out) = self.warnings.full_room.line() {
            tracing::warn!(%room, left_out, "a message was dropped: the room's log is full");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::waited_for;

    #[tokio::test]
    async fn only_an_answer_that_is_waited_for_has_a_time() {
        assert!(waited_for(async {}).await.1.is_none());
        assert!(waited_for(yield_now()).await.1.is_some());
    }
}
