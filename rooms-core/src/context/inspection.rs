//! What a node reports of itself, put together a part at a time so that nothing else waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::{sync::Semaphore, task::yield_now, time::Instant};

use super::Shared;
use crate::{
    auth::Rule,
    close::Close,
    kind::Kind,
    lock::{Mutex, lock},
    message::Form,
    node::NodeId,
    outbox::Recipient,
    reports::{
        ConnectionReport, Found, KindReport, LARGEST, MAX_CONNECTIONS, MAX_INCIDENTS, MAX_LINKS, MAX_MEMBERS,
        MAX_MEMBERSHIPS, MAX_PEERS, MemberReport, MembershipReport, NodeReport, NodeSummary, RoomReport, RuleSort,
        SLOWEST, Search, SlowConnection, SubscriptionReport, Top, UserReport,
    },
    room::Room,
    room_key::RoomKey,
};

/// How long a report of the node is given again to whoever asks. A second: a page that asks every 100 ms, and any number of
/// pages, cost one a second.
const FRESH: Duration = Duration::from_secs(1);

/// Rooms, or connections, that are looked at in one turn. 256: some 50 µs.
const TURN: usize = 256;

/// Members that are looked at in one turn, each compared with at most [`MAX_CONNECTIONS`]. 1,024: some 50 µs, be they in one room
/// or in hundreds.
const MEMBERS: usize = 1024;

/// Answers to other nodes that are put together at once; a node that asks for one more is given none, and names this one.
const ANSWERS: usize = 8;

/// What the reports of a node share.
#[derive(Debug)]
pub(crate) struct Inspection {
    latest: Mutex<Option<(Instant, Arc<NodeReport>)>>,
    /// Who puts the next one together.
    collecting: Semaphore,
    /// Who goes through all rooms for the connections of a user.
    scanning: Semaphore,
    answering: Arc<Semaphore>,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            collecting: Semaphore::new(1),
            scanning: Semaphore::new(1),
            answering: Arc::new(Semaphore::new(ANSWERS)),
        }
    }
}

/// The rooms of one connection, and how many more there are.
type Memberships = (Vec<MembershipReport>, usize);

impl Shared {
    /// The node as a whole; at most a second old.
    pub(crate) async fn node_report(&self) -> Arc<NodeReport> {
        // Never closed. Whoever waits here finds the report of the one before.
        let _one = self.inspection.collecting.acquire().await;
        if let Some((since, report)) = &*lock(&self.inspection.latest)
            && since.elapsed() < FRESH
        {
            return Arc::clone(report);
        }
        let report = Arc::new(self.collect().await);
        *lock(&self.inspection.latest) = Some((Instant::now(), Arc::clone(&report)));
        report
    }

    async fn collect(&self) -> NodeReport {
        let (begun, uptime) = (Instant::now(), self.registry.uptime());
        let (mut rooms, mut memberships) = (0, 0);
        let mut largest = Top::new(LARGEST);
        let mut kinds: HashMap<&str, KindReport> =
            self.kinds.iter().map(|(name, kind)| (&**name, KindReport::of(name, kind))).collect();
        for part in self.registry.parts() {
            for some in part.chunks(TURN) {
                for room in some {
                    let here = room.memberships();
                    rooms += 1;
                    memberships += here;
                    if let Some(kind) = kinds.get_mut(room.key.kind()) {
                        kind.rooms += 1;
                        kind.memberships += here;
                    }
                    largest.add(here, || room.size(uptime));
                }
                yield_now().await;
            }
        }
        let mut slowest = Top::new(SLOWEST);
        for part in self.users.parts() {
            for some in part.chunks(TURN) {
                for recipient in some {
                    let load = recipient.load();
                    if load.messages > 0 {
                        let slow =
                            || SlowConnection { connection: recipient.id(), user: recipient.user().into(), load };
                        slowest.add(load, slow);
                    }
                }
                yield_now().await;
            }
        }
        let mut kinds: Vec<_> = kinds.into_values().collect();
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        let (peers, peers_left_out) = self.presence.peer_reports(MAX_PEERS);
        let mut links = self.presence.bus().links();
        let links_left_out = links.len().saturating_sub(MAX_LINKS);
        links.truncate(MAX_LINKS);
        NodeReport {
            node: self.node,
            at: self.incidents.now(),
            took_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            uptime_s: uptime.as_secs(),
            connections: self.users.connections(),
            max_connections: self.limits.max_connections,
            rooms,
            memberships,
            delivered: self.delivered(),
            limited: self.limiters.refused(),
            bad_payloads: self.metrics.bad_payloads.get(),
            undecodable: self.presence.undecodable_count(),
            unsigned: self.presence.unsigned_count(),
            too_old: self.presence.too_old_count(),
            bus_down: self.bus_down.load(Ordering::Relaxed),
            settled: self.presence.is_settled(),
            draining: self.drain.get().is_some(),
            runtime_ended: self.runtime.has_ended(),
            peers,
            peers_left_out,
            links,
            links_left_out,
            kinds,
            largest: largest.into_vec(),
            slowest: slowest.into_vec(),
            incidents: self.incidents.newest(MAX_INCIDENTS, |_| true),
        }
    }

    pub(crate) fn summary(&self) -> NodeSummary {
        NodeSummary {
            node: self.node,
            connections: self.users.connections(),
            rooms: self.registry.count(),
            delivered: self.delivered(),
            bus_down: self.bus_down.load(Ordering::Relaxed),
            draining: self.drain.get().is_some(),
            turned_away: self.incidents.turned_away(),
        }
    }

    pub(crate) async fn user_report(&self, user: &str) -> UserReport {
        let mut connections = self.users.of(user);
        let connections_left_out = connections.len().saturating_sub(MAX_CONNECTIONS);
        connections.truncate(MAX_CONNECTIONS);
        let memberships = self.memberships(&connections).await;
        let report = |(recipient, rooms): (&Arc<Recipient>, Memberships)| self.connection_report(recipient, rooms);
        UserReport {
            node: self.node,
            user: user.into(),
            connections: connections.iter().zip(memberships).map(report).collect(),
            connections_left_out,
            incidents: self.incidents.newest(MAX_INCIDENTS, |incident| incident.user.as_deref() == Some(user)),
        }
    }

    fn connection_report(&self, of: &Arc<Recipient>, (rooms, rooms_left_out): Memberships) -> ConnectionReport {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (max_outbox_messages, max_outbox_bytes) = of.most();
        ConnectionReport {
            connection: of.id(),
            user: of.user().into(),
            connected_at: of.connected_at(),
            expires_at: of.with_identity(|identity| identity.expires_at()).map(seconds),
            many_rooms: of.form() == Form::Multi,
            closing: of.closing().as_ref().map(Close::code).map(|code| code.get()),
            load: of.load(),
            max_outbox_messages,
            max_outbox_bytes,
            rooms,
            rooms_left_out,
            max_rooms: self.limits.max_rooms_per_connection,
        }
    }

    /// The rooms of some connections. A connection's task alone knows its rooms, and may be at work, so all rooms are gone
    /// through, for one who asks at a time.
    async fn memberships(&self, of: &[Arc<Recipient>]) -> Vec<Memberships> {
        let mut all = vec![Memberships::default(); of.len()];
        if of.is_empty() {
            return all;
        }
        let _one = self.inspection.scanning.acquire().await;
        let mut looked = 0;
        for part in self.registry.parts() {
            for room in part {
                let mut from = Some(0);
                while let Some(slot) = from {
                    let next = note_members(&room, slot, of, &mut all);
                    // A room without members costs about as much as a few of them.
                    looked += 4 + next.unwrap_or_else(|| room.memberships()).saturating_sub(slot);
                    if looked >= MEMBERS {
                        looked = 0;
                        yield_now().await;
                    }
                    from = next;
                }
            }
        }
        all
    }

    pub(crate) async fn room_report(&self, key: &RoomKey) -> RoomReport {
        let mut report = RoomReport {
            node: self.node,
            room: key.clone(),
            here: false,
            subscription: SubscriptionReport::None,
            memberships: 0,
            viewers: 0,
            log_head: 0,
            log_messages: 0,
            log_bytes: 0,
            quiet_s: None,
            position: None,
            members: Vec::new(),
            members_left_out: 0,
            incidents: self.incidents.newest(MAX_INCIDENTS, |incident| incident.room.as_ref() == Some(key)),
        };
        let Some(room) = self.registry.find(key) else { return report };
        room.describe(self.registry.uptime(), &mut report);
        let (mut slowest, mut from) = (Top::new(MAX_MEMBERS), Some(0));
        while let Some(slot) = from {
            from = room.look_at_members(slot, |member| {
                let load = member.recipient.load();
                slowest.add((load, member.lag), || MemberReport {
                    connection: member.recipient.id(),
                    user: member.recipient.user().into(),
                    lag: member.lag,
                    joining: member.joining,
                    behind: member.behind,
                    observer: member.observer,
                    server: member.server,
                    paused: member.paused,
                    load,
                });
            });
            yield_now().await;
        }
        report.members = slowest.into_vec();
        report.members_left_out = report.memberships.saturating_sub(report.members.len());
        report
    }

    /// Answers another node, in a task of its own.
    pub(super) fn answer(self: &Arc<Self>, node: NodeId, id: u64, search: Search) {
        let Ok(place) = Arc::clone(&self.inspection.answering).try_acquire_owned() else { return };
        let shared = Arc::clone(self);
        self.runtime.handle().spawn(async move {
            let found = match search {
                Search::User(user) => Found::User(shared.user_report(&user).await),
                Search::Room(room) => Found::Room(shared.room_report(&room).await),
                Search::Node {} => Found::Node(shared.summary()),
            };
            shared.presence.answer(node, id, found).await;
            drop(place);
        });
    }
}

/// Notes which of some connections are members of a room, from a slot on.
fn note_members(room: &Room, from: usize, of: &[Arc<Recipient>], all: &mut [Memberships]) -> Option<usize> {
    room.look_at_members(from, |member| {
        let at = of.iter().position(|recipient| Arc::ptr_eq(recipient, member.recipient));
        let Some((rooms, left_out)) = at.and_then(|at| all.get_mut(at)) else { return };
        if rooms.len() == MAX_MEMBERSHIPS {
            *left_out += 1;
            return;
        }
        rooms.push(MembershipReport {
            room: room.key.clone(),
            lag: member.lag,
            joining: member.joining,
            behind: member.behind,
            observer: member.observer,
            paused: member.paused,
        });
    })
}

impl KindReport {
    fn of(name: &str, kind: &Kind) -> Self {
        let rule = match &kind.rule {
            Rule::Nobody => RuleSort::Nobody,
            Rule::Everybody => RuleSort::Everybody,
            Rule::Authenticated => RuleSort::Authenticated,
            Rule::Owner => RuleSort::Owner,
            Rule::Claim(_) => RuleSort::Claim,
            Rule::Ask(_) | Rule::AskWith(_) => RuleSort::Application,
        };
        let (history, state) = (kind.history.is_some(), kind.state.is_some());
        Self { kind: name.into(), rule, history, state, rooms: 0, memberships: 0 }
    }
}
