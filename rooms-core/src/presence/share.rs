//! A room's share in counting over nodes: one value, which the room keeps under its lock.
//!
//! Nothing here waits, and nothing is sent: time is an argument, and what is to be done is returned as [`Due`].

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    audience::{Audience, Event, Listing, MemberList},
    departing::Departing,
    entry::{Entry, Name, User},
    known_users::{Arrival, KnownUsers, Named},
    ledger::Ledger,
    occupancy::{Occupancy, ToldOccupancy},
    peer::Peer,
    replica::{Applied, EntrySource, Here, Outgoing, Replica},
    viewers::Counts,
};
use crate::{node::ConnectionId, room_key::RoomKey};

#[derive(Debug)]
pub(crate) struct Share {
    replica: Replica,
    audience: Audience,
    departing: Departing,
    /// Members that joined and did not leave.
    members: usize,
    /// Who is here and not counted.
    observers: usize,
    /// [`window_ended`](Self::window_ended) will be called.
    timer: bool,
    occupancy: ToldOccupancy,
    tells_occupancy: bool,
    ledger: Arc<Ledger>,
}

/// What a room's kind wants of its share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How many users a node names, for a kind that names them.
    pub(crate) max_named: Option<usize>,
    /// How long who left is shown still.
    pub(crate) leave_grace: Duration,
    /// The application is told when a room is occupied, and when it is empty.
    pub(crate) tells_occupancy: bool,
    /// Not every member may see the others.
    pub(crate) hides_members: bool,
}

/// What is to be done because of a change.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Due {
    /// For the members.
    pub(crate) events: Vec<Event>,
    /// The entry is to be published.
    pub(crate) entry: bool,
    /// [`Share::window_ended`] is to be called a window from now.
    pub(crate) timer: bool,
    /// The application is to be told what [`Share::next_occupancy`] returns.
    pub(crate) occupancy: bool,
}

/// Which user a member is, in a room that knows it.
#[derive(Debug)]
pub(crate) struct Known {
    user: Name,
    named: Named,
}

/// What a member that joins is told.
pub(crate) struct Arriving {
    pub(crate) viewers: usize,
    pub(crate) list: Option<MemberList>,
    pub(crate) known: Option<Known>,
}

/// The users of a room.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) users: Vec<User>,
    /// Connections whose users are not named.
    pub(crate) unnamed: usize,
}

impl Share {
    pub(crate) fn new(rules: Rules, ledger: Arc<Ledger>) -> Self {
        Self {
            replica: Replica::default(),
            audience: Audience::new(rules.max_named.map(KnownUsers::new), rules.hides_members),
            departing: Departing::new(rules.leave_grace),
            members: 0,
            observers: 0,
            timer: false,
            occupancy: ToldOccupancy::default(),
            tells_occupancy: rules.tells_occupancy,
            ledger,
        }
    }

    /// The number of the query that this node sent last.
    pub(crate) fn last_query(&self) -> u64 {
        self.ledger.last_query()
    }

    /// How many connections are counted on this node: who joined, and who left a moment ago.
    pub(crate) fn here(&self) -> usize {
        self.members + self.departing.len()
    }

    /// How many connections are counted on all nodes.
    pub(crate) fn viewers(&self) -> usize {
        self.counts().all
    }

    fn counts(&self) -> Counts {
        let here = self.here();
        Counts { here, all: here.saturating_add(self.replica.elsewhere()), observers: self.observers }
    }

    /// How many there are here to be told something.
    const fn listeners(&self) -> usize {
        self.members + self.observers
    }

    /// What this node has in the room, as the others are told.
    fn presence(&self) -> Here {
        Here { connections: self.here(), observed: self.observers > 0 }
    }

    /// A connection joins: how many viewers there are with it, and who.
    pub(crate) fn arrive(
        &mut self,
        connection: ConnectionId,
        arrival: Option<Arrival>,
        listing: Listing,
    ) -> (Arriving, Due) {
        if self.listeners() == 0 {
            self.audience.settle();
        }
        let was_empty = self.presence().is_empty();
        let returned = arrival.as_ref().and_then(|arrival| self.departing.back(&arrival.user));
        self.members += 1;
        if let (Some(named), Some(Arrival { user, info, .. })) = (returned, &arrival) {
            if self.audience.users.as_mut().is_some_and(|users| users.renew(user, info.as_ref())) {
                self.replica.change();
            }
            self.audience.returned(self.counts(), connection);
            let list = self.audience.list(Some(user), listing, &self.replica);
            let known = Some(Known { user: user.clone(), named });
            return (Arriving { viewers: self.viewers(), list, known }, self.due(Vec::new()));
        }
        let user = arrival.as_ref().map(|arrival| arrival.user.clone());
        let named = self.audience.arrive(arrival);
        let list = self.audience.list(user.as_ref(), listing, &self.replica);
        self.replica.change();
        if was_empty {
            self.replica.occupied();
        }
        let counts = self.counts();
        let who = user.as_ref().map(|user| (user, named));
        let events = self.audience.joined(counts, connection, who, &self.replica);
        let known = user.map(|user| Known { user, named });
        (Arriving { viewers: counts.all, list, known }, self.due(events))
    }

    /// A member left.
    pub(crate) fn leave(&mut self, known: Option<&Known>, now: Instant) -> Due {
        self.members -= 1;
        if let Some(Known { user, named }) = known {
            if self.departing.keep(user, *named, now) {
                return self.due(Vec::new());
            }
            self.audience.depart(user, *named);
        }
        self.replica.change();
        self.changed()
    }

    /// A connection joins that is not counted: how many viewers there are without it, and who.
    ///
    /// The other nodes are told that somebody is here, and not how many: so that both nodes find out where an entry was lost.
    pub(crate) fn observe(&mut self, connection: ConnectionId, listing: Listing) -> (Arriving, Due) {
        if self.listeners() == 0 {
            self.audience.settle();
        }
        if self.presence().is_empty() {
            self.replica.change();
            self.replica.occupied();
        }
        self.observers += 1;
        self.audience.returned(self.counts(), connection);
        let list = self.audience.list(None, listing, &self.replica);
        (Arriving { viewers: self.viewers(), list, known: None }, self.due(Vec::new()))
    }

    /// An observer left.
    pub(crate) fn stop_observing(&mut self) -> Due {
        self.observers -= 1;
        if self.presence().is_empty() {
            self.replica.change();
        }
        self.due(Vec::new())
    }

    /// A member is taken out, and its user with it, where the user has no other connection here: nobody who left a moment ago
    /// is shown in its place.
    pub(crate) fn remove(&mut self, known: Option<&Known>) -> Due {
        self.members -= 1;
        if let Some(Known { user, named }) = known {
            self.audience.depart(user, *named);
            self.end_departing(user);
        }
        self.replica.change();
        self.changed()
    }

    /// Counts out at once those connections of a user that left and are still counted.
    pub(crate) fn end_grace_of(&mut self, user: &Name) -> Due {
        if !self.end_departing(user) {
            return Due::default();
        }
        self.replica.change();
        self.changed()
    }

    fn end_departing(&mut self, user: &Name) -> bool {
        let mut any = false;
        while let Some(named) = self.departing.back(user) {
            self.audience.depart(user, named);
            any = true;
        }
        any
    }

    /// The window ended: tells what happened in it, and counts out whoever left long enough ago.
    pub(crate) fn window_ended(&mut self, now: Instant) -> Due {
        self.timer = false;
        self.replica.window_ended();
        while let Some((user, named)) = self.departing.over(now) {
            self.audience.depart(&user, named);
            self.replica.change();
        }
        let events = self.audience.window_ended(self.counts(), self.listeners(), &self.replica);
        self.due(events)
    }

    /// Counts out at once whoever left and is still counted: this process goes down, and nobody comes back to it.
    pub(crate) fn end_graces(&mut self, now: Instant) -> Due {
        self.departing.end(now);
        self.window_ended(now)
    }

    /// Whether somebody who left is still counted.
    pub(crate) fn has_departing(&self) -> bool {
        !self.departing.is_empty()
    }

    /// Takes what a peer has in this room.
    pub(crate) fn apply(&mut self, peer: &Arc<Peer>, entry: Entry, source: EntrySource) -> (Applied, Due) {
        let came = self.may_be_back(peer, &entry);
        let applied = self.replica.apply(peer, entry, source, self.audience.users.as_deref_mut(), &self.ledger);
        if applied != Applied::Taken {
            return (applied, Due::default());
        }
        // A user whose page came back on another node is not on both.
        for (user, connections) in came {
            for _ in 0..connections {
                let Some(named) = self.departing.back(&user) else { break };
                self.audience.depart(&user, named);
                self.replica.change();
            }
        }
        (applied, self.changed())
    }

    /// Whom an entry has more connections of than are known, while somebody is departing.
    fn may_be_back(&self, peer: &Peer, entry: &Entry) -> Vec<(Name, u32)> {
        let Some(users) = entry.users.as_ref().filter(|_| self.has_departing()) else { return Vec::new() };
        // An entry also names whom nothing happened to.
        let more = |user: &User| user.connections.saturating_sub(self.replica.connections(peer, &user.user));
        users.here.iter().map(|user| (user.user.clone(), more(user))).collect()
    }

    /// Forgets what a peer that is gone had in this room.
    pub(crate) fn forget(&mut self, room: &RoomKey, peer: &Peer) -> Due {
        if !self.replica.forget(room, peer, self.audience.users.as_deref_mut()) {
            return Due::default();
        }
        self.changed()
    }

    /// The entry to publish.
    pub(crate) fn take_entry(&mut self, room: &RoomKey) -> Option<Outgoing> {
        let here = self.presence();
        self.replica.take(room, here, self.audience.users.as_deref_mut(), &self.ledger)
    }

    /// What this node has in the room, for one who asks; `None` where nothing.
    pub(crate) fn entry(&mut self, room: &RoomKey) -> (Option<Entry>, Due) {
        let entry = self.replica.whole(room, self.presence(), self.audience.users.as_deref());
        // What was not worth publishing while this node was alone is now.
        (entry, self.due(Vec::new()))
    }

    /// How many viewers there are, and who, as the members were told last, for one of them.
    pub(crate) fn standing(&self, who: &Name, listing: Listing) -> (usize, Option<MemberList>) {
        (self.viewers(), self.audience.list(Some(who), listing, &self.replica))
    }

    /// Who is in the room, on all nodes; `None` where the kind does not ask.
    pub(crate) fn listed(&self) -> Option<Listed> {
        let known = self.audience.users.as_ref()?;
        let users = known.users().chain(self.replica.users()).cloned().collect();
        Some(Listed { users, unnamed: known.unnamed() + self.replica.unnamed() })
    }

    /// Who is in the room on this node; `None` where the kind does not ask.
    pub(crate) fn listed_here(&self) -> Option<Listed> {
        let known = self.audience.users.as_ref()?;
        Some(Listed { users: known.users().cloned().collect(), unnamed: known.unnamed() })
    }

    /// What became of the room that the application was not told of; `None` ends the telling.
    pub(crate) fn next_occupancy(&mut self) -> Option<Vec<Occupancy>> {
        let counts = self.counts();
        self.occupancy.next(counts)
    }

    /// Whether nothing of this node is left to count, and everybody was told.
    pub(crate) fn is_over(&self) -> bool {
        // While the application is being told, the room of that name stays this one: another would tell beside it.
        let told = !self.occupancy.is_running() && (self.ledger.is_alone() || self.replica.is_published());
        self.departing.is_empty() && told
    }

    /// The room is about to be forgotten: whoever holds it still, such as a query under way, tells nothing of it.
    pub(crate) const fn end(&mut self) {
        self.occupancy.end();
    }

    fn changed(&mut self) -> Due {
        let events = self.audience.changed(self.counts(), self.listeners(), &self.replica);
        self.due(events)
    }

    /// Whom a change concerns: the members, the other nodes, the application.
    fn due(&mut self, events: Vec<Event>) -> Due {
        // Nobody listens to a node that is alone; whoever comes asks.
        let entry = !self.ledger.is_alone() && self.replica.publish();
        let occupancy = self.tells_occupancy && self.occupancy.note(self.counts());
        let wanted = self.audience.has_window() || self.replica.has_window() || self.has_departing();
        let timer = wanted && !std::mem::replace(&mut self.timer, true);
        Due { events, entry, timer, occupancy }
    }
}
