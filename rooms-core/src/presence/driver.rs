//! The task of a node: it owns the timers, and does what the state machine asks for.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    select,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    Presence,
    node::Action,
    rooms::{Rooms, apply, forget, reply},
    wire::{NodeMessage, ROOMS},
};
use crate::{bus::Topic, lock::lock, node::NodeId, room_key::RoomKey};

/// Messages published at once. 128: enough to hide a round trip to the backplane, and few enough to hold in hand.
const AT_ONCE: usize = 128;

/// Of these, replies. 4, as one is up to a megabyte.
const REPLIES_AT_ONCE: usize = 4;

/// Messages that wait to be published. 2,048: those of two seconds in which a thousand nodes begin. What finds no place is
/// dropped, as if the bus had lost it: whoever misses it asks again.
const WAITING: usize = 2048;

/// Rooms that are looked at in one turn. 512: some hundred microseconds.
const TURN: usize = ROOMS;

/// How long the task waits for a timer, at least: as exactly as tokio's clock goes.
const AT_LEAST: Duration = Duration::from_millis(1);

struct Outgoing {
    from: NodeId,
    topic: Topic,
    message: NodeMessage,
}

/// Runs until the manager is gone, and what was to be published is.
pub(super) async fn run(presence: Arc<Presence>, rooms: impl Rooms + Send + Sync) {
    let mut waiting: VecDeque<Outgoing> = VecDeque::new();
    let (mut sending, mut replies) = (FuturesUnordered::new(), 0);
    let mut wake = Instant::now();
    loop {
        let ended = presence.has_ended();
        let now = Instant::now();
        if now >= wake || lock(&presence.node).is_urgent() {
            let actions = {
                let mut node = lock(&presence.node);
                node.poll(now);
                // Later than now, so that no timer keeps this task from waiting.
                wake = node.wake().max(now + AT_LEAST);
                node.actions()
            };
            let mut keys = None;
            for action in actions {
                act(&presence, &rooms, action, &mut keys, &mut waiting).await;
            }
        }
        let window_end = end_windows(&presence, &rooms, ended).await;
        while sending.len() < AT_ONCE
            && let Some(Outgoing { from, topic, message }) =
                next(&presence, &rooms, &mut waiting, replies < REPLIES_AT_ONCE)
        {
            replies += usize::from(matches!(message, NodeMessage::Reply { .. }));
            sending.push(presence.publish(from, topic, message));
        }
        if ended && sending.is_empty() {
            return;
        }
        let soonest = window_end.map_or(wake, |end| end.min(wake));
        select! {
            () = sleep_until(soonest), if !ended => {}
            () = presence.wake.notified() => {}
            Some(was_reply) = sending.next(), if !sending.is_empty() => replies -= usize::from(was_reply),
        }
    }
}

/// Does what the node wants. `keys` are all rooms, looked up once for the actions of one turn.
async fn act(
    presence: &Presence,
    rooms: &(impl Rooms + Sync),
    action: Action,
    keys: &mut Option<Arc<[RoomKey]>>,
    waiting: &mut VecDeque<Outgoing>,
) {
    match action {
        Action::Subscribe(topics) => _ = presence.bus.state(|bus| bus.subscribe(&topics)),
        Action::Unsubscribe(topics) => _ = presence.bus.state(|bus| bus.unsubscribe(&topics)),
        Action::Send { from, topic, message } if waiting.len() < WAITING => {
            waiting.push_back(Outgoing { from, topic, message });
        }
        Action::Send { .. } => tracing::debug!(limit = WAITING, "a node message is dropped: too many wait for the bus"),
        Action::Apply { peer, query, rooms: told, reply } => {
            apply(rooms, &peer, query, &told, reply);
            yield_now().await;
        }
        Action::Open { rooms: opened, query } => opened.iter().for_each(|room| rooms.open(room, query)),
        Action::Sync(peer) => {
            let keys = keys.get_or_insert_with(|| rooms.keys().into());
            lock(&presence.node).sync(peer, Arc::clone(keys), Instant::now());
        }
        Action::Forget(peer) => {
            for some in rooms.keys().chunks(TURN) {
                forget(rooms, &peer, some);
                yield_now().await;
            }
            lock(&presence.node).forgotten(&peer);
        }
        Action::Surveyed { id, reply } => presence.surveyed(id, reply),
        Action::SurveyEnded { id, complete } => presence.survey_ended(id, complete),
    }
}

/// Looks at the rooms whose window has ended; returns when the next one does.
async fn end_windows(presence: &Presence, rooms: &(impl Rooms + Sync), all: bool) -> Option<Instant> {
    loop {
        let now = Instant::now();
        let (due, next) = lock(&presence.work).take_windows(now, TURN, all);
        let more = due.len() == TURN;
        for room in due {
            rooms.change(&room, |share| ((), share.window_ended(now)));
        }
        if !more {
            return next;
        }
        yield_now().await;
    }
}

/// The next message to publish: what the node has to say, then replies, then entries.
fn next(
    presence: &Presence,
    rooms: &impl Rooms,
    waiting: &mut VecDeque<Outgoing>,
    may_reply: bool,
) -> Option<Outgoing> {
    if let Some(outgoing) = waiting.pop_front() {
        return Some(outgoing);
    }
    let now = Instant::now();
    let (from, asked) = {
        let mut node = lock(&presence.node);
        (node.me(), if may_reply { node.next_reply(now) } else { None })
    };
    if let Some((asked, space)) = asked {
        let message = reply(rooms, &presence.ledger, &asked, space);
        return Some(Outgoing { from, topic: Topic::Node(asked.from), message });
    }
    loop {
        let room: RoomKey = lock(&presence.work).entries.pop_front()?;
        let Some(Some(outgoing)) = rooms.change(&room, |share| (share.take_entry(&room), super::Due::default())) else {
            continue;
        };
        presence.entry_published(&room, outgoing.first, now);
        return Some(Outgoing { from, topic: Topic::Control(room), message: NodeMessage::Entry(outgoing.entry) });
    }
}
