//! What comes from Redis, in the task that reads from it.

use std::sync::Arc;

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::oneshot;

use crate::shared::Shared;

/// The ear of one connection.
///
/// It runs where the client crate reads from the socket, so it must not wait: it takes two short locks, and hands the
/// message to the receiver, whose call never blocks. A queue and a task between would only move the place where too much
/// is dropped; the receiver has a bound for each room, and says itself what it can't take.
pub(super) struct Hearing {
    shared: Arc<Shared>,
    generation: u64,
    /// Dropped with the connection, which tells the supervisor.
    _alive: oneshot::Sender<()>,
}

impl Hearing {
    pub(super) fn new(shared: Arc<Shared>, generation: u64, alive: oneshot::Sender<()>) -> Self {
        Self { shared, generation, _alive: alive }
    }

    pub(super) fn hear(&self, push: PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let mut data = push.data.into_iter();
        if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (data.next(), data.next()) {
            self.message(&channel, payload);
        }
    }

    fn message(&self, channel: &[u8], payload: Vec<u8>) {
        let Shared { counters, subscriptions, status, limits, probe, probe_arrived, .. } = &*self.shared;
        counters.received.count();
        if channel == probe.as_bytes() {
            if let Some(number) = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok()) {
                probe_arrived.send_replace((self.generation, number));
            }
            return;
        }
        let Some(topic) = std::str::from_utf8(channel).ok().and_then(|channel| subscriptions.topic(channel)) else {
            // Just unsubscribed, most probably.
            counters.unwanted.count();
            return;
        };
        if payload.len() > limits.payload {
            counters.oversized.count();
            tracing::warn!(?topic, length = payload.len(), "a payload from Redis was dropped: it is too long");
            status.gap(topic);
            return;
        }
        status.message(self.generation, topic, Bytes::from(payload));
    }
}
