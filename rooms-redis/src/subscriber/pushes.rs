//! What comes from Redis, in the task that reads from it.

use std::sync::Arc;

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use rooms_core::bus::Topic;
use tokio::sync::oneshot;

use crate::{channels::Channel, history, link::Link, shared::Shared, states};

/// What one connection receives.
///
/// It runs where the client crate reads from the socket, so it must not wait: it takes two short locks, and hands the
/// message to the receiver, whose call never blocks. A queue and a task between would only move the place where too much
/// is dropped; the receiver has a bound for each room, and says itself what it can't take.
pub(super) struct Pushes {
    shared: Arc<Shared>,
    link: Arc<Link>,
    generation: u64,
    /// The channel on which this bus hears itself.
    probe: Channel,
    /// Dropped with the connection, which tells the supervisor.
    _alive: oneshot::Sender<()>,
}

impl Pushes {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: Arc<Link>,
        generation: u64,
        probe: Channel,
        alive: oneshot::Sender<()>,
    ) -> Self {
        Self { shared, link, generation, probe, _alive: alive }
    }

    pub(super) fn take(&self, push: PushInfo) {
        let mut data = push.data.into_iter();
        match (push.kind, data.next(), data.next()) {
            (
                PushKind::Message | PushKind::SMessage,
                Some(Value::BulkString(channel)),
                Some(Value::BulkString(payload)),
            ) => self.message(&channel, payload),
            (PushKind::SUnsubscribe, Some(Value::BulkString(channel)), _) => self.unsubscribed(&channel),
            _ => {}
        }
    }

    /// As we asked, or because the slot of the channel was taken from this server.
    fn unsubscribed(&self, channel: &[u8]) {
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        if self.shared.subscriptions.moved(self.link.id, channel) {
            self.shared.doubt();
        }
    }

    fn message(&self, channel: &[u8], payload: Vec<u8>) {
        let Shared { counters, subscriptions, status, limits, .. } = &*self.shared;
        counters.received.count();
        self.link.received.count();
        if channel == self.probe.as_bytes() {
            if let Some(number) = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok()) {
                self.link.probe_arrived.send_replace((self.generation, number));
            }
            return;
        }
        let topic = std::str::from_utf8(channel).ok().and_then(|channel| subscriptions.topic(self.link.id, channel));
        let Some(topic) = topic else {
            // Just unsubscribed, most probably.
            counters.unwanted.count();
            return;
        };
        let payload = Bytes::from(payload);
        if let (Topic::Room(_), Some((state, patch))) = (&topic, states::published(&payload))
            && state.state.len() <= limits.max_payload_bytes
        {
            return status.state((self.link.id, self.generation), topic, state, patch);
        }
        let (position, payload) = match (&topic, history::positioned(&payload)) {
            (Topic::Room(_), Some((position, from))) => (Some(position), payload.slice(from..)),
            _ => (None, payload),
        };
        if payload.len() > limits.max_payload_bytes {
            counters.oversized.count();
            if let Some(left_out) = counters.oversized_gate.pass() {
                let (length, most) = (payload.len(), limits.max_payload_bytes);
                tracing::warn!(?topic, length, most, left_out, "a payload from Redis was dropped: it is too long");
            }
            status.gap(topic);
            return;
        }
        let from = (self.link.id, self.generation);
        match position {
            Some(position) => status.message_at(from, topic, payload, position),
            None => status.message(from, topic, payload),
        }
    }
}
