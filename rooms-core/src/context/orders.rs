//! What an application has done to connections, wherever they are: its part on this node.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use super::Shared;
use crate::{
    auth::{Identity, Revoked},
    close::{Close, CloseCode},
    lock::{Mutex, lock},
    message::{Form, Message},
    node::ConnectionId,
    outbox::{Order, Recipient, Waiting},
    presence::{NodeOrder, Told, Whom, entry::Name},
    protocol::multi,
    reports::{Incident, IncidentKind},
    room::Room,
    room_key::RoomKey,
};

/// Searches for a claim that wait for the one that runs. 1,024, of at most some kilobytes: each takes some 100 ms where there
/// are a hundred thousand connections, so these are those of minutes.
pub(crate) const SEARCHES: usize = 1024;

/// [`SEARCHES`] wait on this node, and nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManySearches;

/// The searches through all connections, one after another in one task that is started on demand.
#[derive(Debug, Default)]
pub(crate) struct Searches(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Search>,
    running: bool,
}

/// Whom to look for, and so to close.
#[derive(Debug, Clone, PartialEq)]
enum Search {
    /// Whoever is revoked.
    Revoked,
    /// Whose claim of this name has this value.
    Claim { name: Box<str>, value: Value, close: Close },
}

impl Shared {
    /// Does what another node asks for.
    pub(crate) fn obey(self: &Arc<Self>, told: Told) {
        match told {
            Told::Order(order) => {
                if let Err(TooManySearches) = self.carry_out(order) {
                    self.log_unsearched();
                }
            }
            Told::Revoked(revoked) => self.end_revoked(&revoked),
            Told::Search(node, id, search) => self.answer(node, id, search),
        }
    }

    /// Does to the connections of this node what is ordered; how many it concerns, as far as that is known at once.
    pub(crate) fn carry_out(self: &Arc<Self>, order: NodeOrder) -> Result<usize, TooManySearches> {
        Ok(match order {
            NodeOrder::Kick { room, user, reason } => self.kick(&room, &user, &reason),
            NodeOrder::Enter { room, user } => self.leave_order(&user, &Order::Enter(room)),
            NodeOrder::Leave { room, user } => self.leave_order(&user, &Order::Leave(room)),
            NodeOrder::RecheckUser { user } => self.leave_order(&user, &Order::Recheck(None)),
            NodeOrder::RecheckRoom { room } => {
                let members = self.registry.find(&room).map(|room| room.recipients()).unwrap_or_default();
                members.iter().for_each(|member| _ = member.order(Order::Recheck(Some(room.clone()))));
                members.len()
            }
            NodeOrder::Disconnect { whom, code, reason } => {
                // It was checked where it came from.
                let code = CloseCode::new(code).unwrap_or(CloseCode::POLICY);
                self.disconnect(whom, Close::new(code, String::from(reason)))?
            }
            NodeOrder::Send { to, payload } => usize::from(self.send_to(to, payload.as_bytes())),
        })
    }

    fn leave_order(&self, user: &str, order: &Order) -> usize {
        let connections = self.users.of(user);
        connections.iter().filter(|connection| connection.order(order.clone())).count()
    }

    fn kick(self: &Arc<Self>, room: &RoomKey, user: &str, reason: &str) -> usize {
        let connections = self.users.of(user);
        if !connections.is_empty() {
            let words = if reason.is_empty() { "kicked" } else { reason };
            self.note(Incident::new(IncidentKind::PutOut, words).of_user(user).in_room(room));
        }
        for connection in &connections {
            if !connection.order(Order::Kick(room.clone(), reason.into())) {
                // Its rooms are in the hands of the application, which can't be made to leave one of them.
                self.kick_by_hand(room, connection, reason);
            }
        }
        // Who closed the page a moment ago is not shown any more either.
        if let Some(room) = self.registry.find(room) {
            let ((), effects) = room.change_share(|share| ((), share.end_grace_of(&Name(user.into()))));
            self.registry.act(&room, effects);
        }
        connections.len()
    }

    fn kick_by_hand(&self, room: &RoomKey, connection: &Arc<Recipient>, reason: &str) {
        let is_member = |room: &Arc<Room>| room.recipients().iter().any(|member| Arc::ptr_eq(member, connection));
        if self.registry.find(room).is_some_and(|room| is_member(&room)) {
            connection.remove(Close::kicked(reason), Waiting::Drop);
        }
    }

    fn disconnect(self: &Arc<Self>, whom: Whom, close: Close) -> Result<usize, TooManySearches> {
        let connections = match whom {
            Whom::User(user) => self.users.of(&user),
            Whom::Connection(id) => self.users.find(id).into_iter().collect(),
            Whom::Claim { name, value } => {
                return self.search(Search::Claim { name, value, close }).map(|()| 0);
            }
        };
        connections.iter().for_each(|connection| connection.remove(close.clone(), Waiting::Flush));
        Ok(connections.len())
    }

    fn send_to(&self, id: ConnectionId, payload: &[u8]) -> bool {
        let Some(connection) = self.users.find(id) else { return false };
        let message = match connection.form() {
            Form::Single => Message::text_of(&[payload]),
            Form::Multi | Form::Positioned => multi::to_connection(payload),
        };
        connection.deliver(&[message]);
        true
    }

    /// Closes the connections of what is revoked since just now.
    pub(crate) fn end_revoked(self: &Arc<Self>, revoked: &[Revoked]) {
        for user in revoked.iter().filter_map(Revoked::user) {
            self.users.of(user).iter().for_each(|connection| self.end_if_revoked(connection));
        }
        if revoked.iter().any(|revoked| revoked.user().is_none()) {
            // There is always a place for one.
            _ = self.search(Search::Revoked);
        }
    }

    pub(crate) fn end_if_revoked(&self, connection: &Recipient) {
        if connection.with_identity(|identity| self.revocations.cover(identity)) {
            connection.remove(Close::REVOKED, Waiting::Drop);
        }
    }

    fn search(self: &Arc<Self>, search: Search) -> Result<(), TooManySearches> {
        let mut queue = lock(&self.searches.0);
        // One that waits finds these, too.
        if queue.waiting.contains(&search) {
            return Ok(());
        }
        if search == Search::Revoked {
            // Who is revoked is out within a second, however many searches for claims wait.
            queue.waiting.push_front(search);
        } else if queue.waiting.len() < SEARCHES {
            queue.waiting.push_back(search);
        } else {
            return Err(TooManySearches);
        }
        if !std::mem::replace(&mut queue.running, true) {
            self.runtime.handle().spawn(run(Arc::clone(self)));
        }
        Ok(())
    }

    /// Of what another node asked for, as whoever called is on that node and was told that the bus has it.
    fn log_unsearched(&self) {
        if let Some(left_out) = self.warnings.unsearched.line() {
            tracing::warn!(limit = SEARCHES, left_out, "`disconnect_where` did nothing on this node: too many wait");
        }
    }

    fn next_search(&self) -> Option<Search> {
        let mut queue = lock(&self.searches.0);
        let next = queue.waiting.pop_front();
        queue.running = next.is_some();
        next
    }

    fn look_at(&self, connection: &Recipient, search: &Search) {
        match search {
            Search::Revoked => self.end_if_revoked(connection),
            Search::Claim { name, value, close } => {
                let has = |identity: &Identity| matches!(identity.claim::<Value>(name), Ok(Some(is)) if is == *value);
                if connection.with_identity(has) {
                    connection.remove(close.clone(), Waiting::Flush);
                }
            }
        }
    }
}

async fn run(shared: Arc<Shared>) {
    /// Connections that are looked at in one turn: some hundred microseconds.
    const TURN: usize = 256;

    while let Some(search) = shared.next_search() {
        for part in shared.users.parts() {
            for some in part.chunks(TURN) {
                some.iter().for_each(|connection| shared.look_at(connection, &search));
                tokio::task::yield_now().await;
            }
        }
    }
}
