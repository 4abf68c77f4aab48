//! How many are in a room over all nodes, who they are, and who is told of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Effects, Room, State,
    departing::Departing,
    log::Entry,
    present::{Arrival, Named, Present},
    rows::{Applied, Outgoing, RowSource, Rows},
    viewers::{Announcement, Event, Viewers},
};
use crate::{
    kind::{Kind, Occupancy},
    limits::Limits,
    lock::lock,
    node::ConnectionId,
    nodes::{
        Peer,
        wire::{Name, Row, User},
    },
    outbox::About,
    protocol::{self, Change, MAX_LISTED, MemberList, Person},
};

/// The counting part of a room's state.
pub(super) struct Count {
    viewers: Viewers,
    rows: Rows,
    /// For a kind that names its members.
    present: Option<Box<Present>>,
    departing: Departing,
    /// Members that are really here, so without departing ones.
    live: usize,
    /// The room waits in the queue of windows.
    in_window: bool,
    occupancy: Told,
}

/// What the application was told of the room as a whole.
#[derive(Debug, Default)]
struct Told {
    here: bool,
    anywhere: bool,
    /// The first member on all nodes came here, and that is yet to be told: no other node tells it.
    first: bool,
    /// A task is telling.
    running: bool,
}

/// Which user a member is, in a room that knows it.
#[derive(Debug)]
pub(super) struct Known {
    user: Name,
    named: Named,
}

/// Whether one who joins is told who is there, or how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    Names,
    Count,
}

/// One user of a room, over all nodes that are known here.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) users: Vec<User>,
    /// Connections whose users are not named.
    pub(crate) unnamed: usize,
}

impl Count {
    pub(super) fn new(kind: &Kind, limits: &Limits) -> Self {
        Self {
            viewers: Viewers::default(),
            rows: Rows::default(),
            present: kind.names_members().then(|| Box::new(Present::new(limits.max_named_users))),
            departing: Departing::default(),
            live: 0,
            in_window: false,
            occupancy: Told::default(),
        }
    }

    pub(super) const fn viewers(&self) -> usize {
        self.viewers.count()
    }

    /// A member is about to be told that it joined: how many viewers there are with it, and who.
    pub(super) fn arrive(&mut self, connection: ConnectionId, arrival: Option<Arrival>, listing: Listing) -> Arriving {
        if self.live == 0
            && let Some(present) = &mut self.present
        {
            present.settle();
        }
        self.live += 1;
        let member = arrival.as_ref().and_then(|arrival| self.departing.back(&arrival.user));
        if let (Some(named), Some(Arrival { user, info, .. })) = (member, &arrival) {
            if let Some(present) = &mut self.present
                && present.renew(user, info.as_ref())
            {
                self.rows.change();
            }
            self.viewers.returned(connection);
            let list = self.list(Some(user), listing);
            let known = Some(Known { user: user.clone(), named });
            return Arriving { viewers: self.viewers.count(), list, known, announcement: Announcement::default() };
        }
        let user = arrival.as_ref().map(|arrival| arrival.user.clone());
        let named = match (&mut self.present, arrival) {
            (Some(present), Some(arrival)) => present.arrive(arrival),
            _ => Named::No,
        };
        let list = self.list(user.as_ref(), listing);
        if let (Some(present), Some(user), Named::Yes) = (&mut self.present, &user, named) {
            present.joined(connection, user);
        }
        self.rows.change();
        if self.viewers.local() == 0 {
            self.rows.occupied();
        }
        let announcement = self.viewers.joined(Some(connection));
        if announcement.event.is_none()
            && !self.viewers.has_window()
            && let Some(present) = &mut self.present
        {
            // It is alone, and its own welcome names it.
            present.settle();
        }
        let known = user.map(|user| Known { user, named });
        Arriving { viewers: self.viewers.count(), list, known, announcement }
    }

    /// A member left.
    pub(super) fn leave(&mut self, known: Option<&Known>, kind: &Kind) -> Announcement {
        self.live -= 1;
        if let Some(Known { user, named }) = known {
            if self.departing.keep(user, *named, kind.leave_grace) {
                return Announcement::default();
            }
            self.gone(user, *named);
        }
        self.rows.change();
        self.moved(self.viewers.local().saturating_sub(1))
    }

    fn gone(&mut self, user: &Name, named: Named) {
        if let Some(present) = &mut self.present {
            present.depart(user, named);
        }
    }

    fn moved(&mut self, local: usize) -> Announcement {
        let news = self.has_news();
        self.viewers.moved(local, self.rows.remote(), news)
    }

    fn has_news(&self) -> bool {
        self.live > 0 && self.present.as_ref().is_some_and(|present| present.has_news())
    }

    /// Counts out whoever was kept long enough; returns how many are left here.
    fn expire_departing(&mut self) -> usize {
        let now = Instant::now();
        let mut local = self.viewers.local();
        while let Some((user, named)) = self.departing.over(now) {
            self.gone(&user, named);
            self.rows.change();
            local = local.saturating_sub(1);
        }
        local
    }

    /// Who the members here were told of, and before all others the one who is to be told now, where it is named: it knows
    /// that it is there.
    fn list(&self, who: Option<&Name>, listing: Listing) -> Option<MemberList> {
        let present = self.present.as_ref()?;
        let (told, who) = (present.told(), who.filter(|who| present.user(who).is_some()));
        let names = || {
            let others = told.iter().filter(|name| Some(*name) != who);
            let members = who.into_iter().chain(others).take(MAX_LISTED);
            members.map(|name| self.person(present, name.clone())).collect()
        };
        let untold = who.is_some_and(|who| !told.contains(who));
        Some(MemberList { users: told.len() + usize::from(untold), members: (listing == Listing::Names).then(names) })
    }

    fn person(&self, present: &Present, user: Name) -> Person {
        let known = present.user(&user).or_else(|| self.rows.user(&user));
        let info = known.and_then(|user| user.info.as_ref());
        Person { info: info.cloned(), user }
    }

    /// The events that tell a change: first who came, then who went, each with the number that is.
    fn events(&mut self, event: Event) -> Vec<Entry> {
        let Event { change, count, except } = event;
        let entry = |change, except, people: &[Person], about| {
            Entry::new(protocol::viewers_changed(change, count, people), except, about)
        };
        let news = match &mut self.present {
            Some(present) if present.has_news() => present.tell(),
            _ => return vec![entry(change, except, &[], About::Viewers)],
        };
        let people = |names: Vec<Name>| -> Vec<Person> {
            let Some(present) = &self.present else { return Vec::new() };
            names.into_iter().map(|name| self.person(present, name)).collect()
        };
        // Whoever joined was told of itself, and of the others here it may hear only now.
        let (own, came): (Vec<_>, Vec<_>) = match &news.joined {
            Some((_, user)) => news.came.into_iter().partition(|name| name == user),
            None => (Vec::new(), news.came),
        };
        let alone = came.is_empty() && news.went.is_empty();
        // Where there is no other event, it has the number from nowhere but its welcome.
        let joined = news.joined.map(|(connection, _)| connection).filter(|it| !alone || except == Some(*it));
        [
            (Change::Joined, joined, people(own)),
            (Change::Joined, None, people(came)),
            (Change::Left, None, people(news.went)),
        ]
        .into_iter()
        .filter(|(_, _, people)| !people.is_empty())
        .map(|(change, except, people)| entry(change, except, &people, About::Names))
        .collect()
    }

    /// Whether the application is to be told that somebody, or nobody, is in the room.
    fn occupancy(&mut self, kind: &Kind) -> bool {
        if !kind.has_on_occupancy() {
            return false;
        }
        if self.viewers.remote() == 0 {
            self.occupancy.first = self.viewers.local() > 0 && !self.occupancy.anywhere;
        } else if !self.occupancy.first {
            // Another node had the first member, and told of it.
            self.occupancy.anywhere = true;
        }
        !self.occupancy.running && self.occupancy_now() != (self.occupancy.here, self.occupancy.anywhere)
    }

    fn occupancy_now(&self) -> (bool, bool) {
        (self.viewers.local() > 0, self.viewers.count() > 0)
    }

    /// The room is about to be forgotten: whoever holds it still, such as a question under way, tells nothing of it.
    pub(super) const fn end_telling(&mut self) {
        self.occupancy.running = true;
    }

    /// Whether nothing of this node is left to count, and the others know it.
    pub(super) fn is_over(&self, alone: bool) -> bool {
        // While the application is being told, the room of that name stays this one: another would tell beside it.
        self.departing.is_empty() && !self.occupancy.running && (alone || self.rows.is_told())
    }
}

/// What a member that joins is told, and what the others are.
pub(super) struct Arriving {
    pub(super) viewers: usize,
    pub(super) list: Option<MemberList>,
    pub(super) known: Option<Known>,
    pub(super) announcement: Announcement,
}

impl Room {
    /// How many connections of this node have joined.
    pub(crate) fn local_viewers(&self) -> usize {
        lock(&self.state).count.viewers.local()
    }

    /// How many have joined, on all nodes.
    pub(crate) fn viewers(&self) -> usize {
        lock(&self.state).count.viewers.count()
    }

    /// How many viewers there are, and who, as the members were told last, for one of them.
    pub(crate) fn standing(&self, who: &Name, listing: Listing) -> (usize, Option<MemberList>) {
        let state = lock(&self.state);
        (state.count.viewers(), state.count.list(Some(who), listing))
    }

    /// Who is in the room, on all nodes; `None` where the kind does not ask.
    pub(crate) fn listed(&self) -> Option<Listed> {
        let state = lock(&self.state);
        let Count { present, rows, .. } = &state.count;
        let present = present.as_ref()?;
        let users = present.users().chain(rows.users()).cloned().collect();
        Some(Listed { users, unnamed: present.unnamed() + rows.unnamed() })
    }

    /// Who is in the room on this node; `None` where the kind does not ask.
    pub(crate) fn listed_here(&self) -> Option<Listed> {
        let state = lock(&self.state);
        let present = state.count.present.as_ref()?;
        Some(Listed { users: present.users().cloned().collect(), unnamed: present.unnamed() })
    }

    /// Looks at the count when a window ends: tells the members and the other nodes if need be, and keeps the window
    /// open if so.
    pub(crate) fn window_ended(&self) -> Effects {
        let mut state = lock(&self.state);
        let count = &mut state.count;
        count.in_window = false;
        count.rows.window_ended();
        let local = count.expire_departing();
        let news = count.has_news();
        let announcement = if count.viewers.has_window() {
            // Set without a word, and then told with all that the window holds.
            let _ = count.viewers.moved(local, count.rows.remote(), news);
            count.viewers.window_ended(news)
        } else {
            count.moved(local)
        };
        self.tell(&mut state, announcement)
    }

    /// Whether somebody who left is still counted.
    pub(crate) fn has_departing(&self) -> bool {
        !lock(&self.state).count.departing.is_empty()
    }

    /// Counts out at once whoever left and is still counted: this process goes down, and nobody comes back to it.
    pub(crate) fn end_graces(&self) -> Effects {
        lock(&self.state).count.departing.end();
        self.window_ended()
    }

    /// Takes what another node has in this room.
    pub(crate) fn apply(&self, peer: &Arc<Peer>, row: Row, source: RowSource) -> (Applied, Effects) {
        let mut state = lock(&self.state);
        let Count { rows, present, departing, viewers, .. } = &mut state.count;
        let here: Vec<_> = match &row.users {
            Some(users) if !departing.is_empty() => {
                // A row also names whom nothing happened to.
                let more = |user: &User| user.connections.saturating_sub(rows.connections(peer, &user.user)) as usize;
                users.here.iter().map(|user| (user.user.clone(), more(user))).collect()
            }
            _ => Vec::new(),
        };
        let applied = rows.apply(&self.key, peer, row, source, present.as_deref_mut());
        if applied != Applied::Taken {
            return (applied, Effects::default());
        }
        // A user whose page came back on another node is not on both.
        let mut local = viewers.local();
        for (name, more) in here {
            for _ in 0..more {
                let Some(named) = state.count.departing.back(&name) else { break };
                state.count.gone(&name, named);
                state.count.rows.change();
                local = local.saturating_sub(1);
            }
        }
        let announcement = state.count.moved(local);
        (applied, self.tell(&mut state, announcement))
    }

    /// The version of another node's row, as it is known here.
    pub(crate) fn version_of(&self, peer: &Peer) -> u64 {
        lock(&self.state).count.rows.version_of(peer)
    }

    /// Forgets what a node that is gone had in this room.
    pub(crate) fn forget(&self, peer: &Peer) -> Effects {
        let mut state = lock(&self.state);
        let Count { rows, present, viewers, .. } = &mut state.count;
        if !rows.forget(&self.key, peer, present.as_deref_mut()) {
            return Effects::default();
        }
        let local = viewers.local();
        let announcement = state.count.moved(local);
        self.tell(&mut state, announcement)
    }

    /// The row to publish.
    pub(crate) fn take_row(&self) -> Option<Outgoing> {
        let mut state = lock(&self.state);
        let Count { rows, present, viewers, .. } = &mut state.count;
        rows.take(&self.key, viewers.local(), present.as_deref_mut(), &self.nodes)
    }

    /// What this node has in the room, for one who asks; `None` where nothing.
    pub(crate) fn row(&self) -> (Option<Row>, Effects) {
        let mut state = lock(&self.state);
        let Count { rows, present, viewers, .. } = &state.count;
        let row = rows.whole(&self.key, viewers.local(), present.as_deref());
        // What was not worth telling while this node was alone is now.
        let effects = self.tell(&mut state, Announcement::default());
        (row, effects)
    }

    /// What became of the room that the application was not told of; `None` ends the telling.
    pub(crate) fn next_occupancy(&self) -> Option<Vec<Occupancy>> {
        let mut state = lock(&self.state);
        let now = state.count.occupancy_now();
        let told = &mut state.count.occupancy;
        let news: Vec<_> = [
            (told.here != now.0 && now.0).then_some(Occupancy::OccupiedHere),
            (told.anywhere != now.1 && now.1).then_some(Occupancy::OccupiedAnywhere),
            (told.here != now.0 && !now.0).then_some(Occupancy::EmptyHere),
            (told.anywhere != now.1 && !now.1).then_some(Occupancy::EmptyEverywhere),
        ]
        .into_iter()
        .flatten()
        .collect();
        (told.here, told.anywhere, told.first) = (now.0, now.1, false);
        told.running = !news.is_empty();
        told.running.then_some(news)
    }

    /// Tells a change to whom it concerns: the members, the other nodes, the application.
    pub(super) fn tell(&self, state: &mut State, announcement: Announcement) -> Effects {
        let mut effects = Effects::default();
        if let Some(event) = announcement.event
            && state.count.live > 0
        {
            for entry in state.count.events(event) {
                effects.flush |= state.push(entry).flush;
            }
        }
        let count = &mut state.count;
        // Nobody listens to a node that is alone; whoever comes asks.
        effects.row = !self.nodes.is_alone() && count.rows.publish();
        if count.occupancy(&self.kind) {
            count.occupancy.running = true;
            effects.occupancy = true;
        }
        let wanted = count.viewers.has_window() || count.rows.has_window() || !count.departing.is_empty();
        effects.window = wanted && !std::mem::replace(&mut count.in_window, true);
        effects
    }
}
