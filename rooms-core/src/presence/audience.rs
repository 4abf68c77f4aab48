//! Who of a room's members is told what.

use serde::Serialize;

use super::{
    entry::{Info, Name},
    known_users::{Arrival, KnownUsers, Named},
    replica::Replica,
    viewers::{Announcement, Change, Counts, Viewers},
};
use crate::node::ConnectionId;

/// What the members here were told, and are to be told.
#[derive(Debug)]
pub(super) struct Audience {
    viewers: Viewers,
    /// Some members may not see the others: what names them is told twice, once with the number alone.
    hides: bool,
    /// For a kind that names its members.
    pub(super) users: Option<Box<KnownUsers>>,
}

/// An event for the members.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) change: Change,
    pub(crate) viewers: usize,
    /// Who came or went, where the kind names its members.
    pub(crate) users: Vec<Person>,
    /// Who knows already.
    pub(crate) except: Option<ConnectionId>,
    pub(crate) to: For,
}

/// Whom an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    All,
    /// Those who may see the members.
    Seeing,
    /// Those who may not, and are told the number alone.
    Counting,
}

/// A user, as the members of a room are told.
#[derive(Debug, Serialize)]
pub(crate) struct Person {
    pub(crate) user: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Info>,
}

/// Who is in a room, as one who joins is told.
#[derive(Debug, Serialize)]
pub(crate) struct MemberList {
    /// How many there are.
    pub(crate) users: usize,
    /// At most [`MAX_LISTED`] of them, and the one who is told first of all; none where it was told a moment ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<Person>>,
}

/// The users that `room_joined` names. A hundred: a page shows no more, and a join costs the same in a large room.
pub(crate) const MAX_LISTED: usize = 100;

/// Whether one who joins is told who is there, or how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    Names,
    Count,
    /// Neither: it may not see the members.
    Nothing,
}

impl Audience {
    pub(super) fn new(users: Option<KnownUsers>, hides: bool) -> Self {
        Self { viewers: Viewers::default(), hides, users: users.map(Box::new) }
    }

    /// Whoever joins next begins with what there is: nobody is here to be told anything else.
    pub(super) fn settle(&mut self) {
        if let Some(users) = &mut self.users {
            users.settle();
        }
    }

    /// Counts in the user of one who joins.
    pub(super) fn arrive(&mut self, arrival: Option<Arrival>) -> Named {
        match (&mut self.users, arrival) {
            (Some(users), Some(arrival)) => users.arrive(arrival),
            _ => Named::No,
        }
    }

    /// Counts out the user of one who left.
    pub(super) fn depart(&mut self, user: &Name, named: Named) {
        if let Some(users) = &mut self.users {
            users.depart(user, named);
        }
    }

    /// One joined, and is told the number with itself, and who is there.
    pub(super) fn joined(
        &mut self,
        counts: Counts,
        connection: ConnectionId,
        user: Option<(&Name, Named)>,
        replica: &Replica,
    ) -> Vec<Event> {
        if let (Some(users), Some((user, Named::Yes))) = (&mut self.users, user) {
            users.joined(connection, user);
        }
        let announcement = self.viewers.joined(counts, connection);
        if announcement.is_none() && !self.viewers.has_window() {
            // It is alone, and its own welcome names it.
            self.settle();
        }
        self.events(announcement, replica)
    }

    /// One is told what there is, and changes nothing: an observer, or one who is here again and was never told to have left.
    pub(super) fn returned(&mut self, counts: Counts, connection: ConnectionId) {
        self.viewers.returned(counts, connection);
    }

    /// Something changed: what the members are told of it now.
    pub(super) fn changed(&mut self, counts: Counts, listeners: usize, replica: &Replica) -> Vec<Event> {
        let news = self.has_news(listeners);
        let announcement = self.viewers.changed(counts, news);
        self.events(announcement.filter(|_| listeners > 0), replica)
    }

    /// The window ended: what the members are told of all that happened in it.
    pub(super) fn window_ended(&mut self, counts: Counts, listeners: usize, replica: &Replica) -> Vec<Event> {
        if !self.viewers.has_window() {
            return self.changed(counts, listeners, replica);
        }
        let news = self.has_news(listeners);
        let announcement = self.viewers.window_ended(counts, news);
        self.events(announcement.filter(|_| listeners > 0), replica)
    }

    pub(super) const fn has_window(&self) -> bool {
        self.viewers.has_window()
    }

    fn has_news(&self, listeners: usize) -> bool {
        listeners > 0 && self.users.as_ref().is_some_and(|users| users.has_news())
    }

    /// Who the members here were told of, and before all others the one who is to be told now, where it is named: it knows
    /// that it is there.
    pub(super) fn list(&self, who: Option<&Name>, listing: Listing, replica: &Replica) -> Option<MemberList> {
        let users = self.users.as_ref().filter(|_| listing != Listing::Nothing)?;
        let (told, who) = (users.announced(), who.filter(|who| users.user(who).is_some()));
        let names = || {
            let others = told.iter().filter(|name| Some(*name) != who);
            let members = who.into_iter().chain(others).take(MAX_LISTED);
            members.map(|name| person(users, name.clone(), replica)).collect()
        };
        let untold = who.is_some_and(|who| !told.contains(who));
        Some(MemberList { users: told.len() + usize::from(untold), members: (listing == Listing::Names).then(names) })
    }

    /// The events that tell a change: first who came, then who went, each with the number that is.
    fn events(&mut self, announcement: Option<Announcement>, replica: &Replica) -> Vec<Event> {
        let Some(Announcement { change, count: viewers, moved, except }) = announcement else { return Vec::new() };
        let number = |to| Event { change, viewers, users: Vec::new(), except, to };
        let Some(known) = self.users.as_mut().filter(|users| users.has_news()) else { return vec![number(For::All)] };
        let (to, alone_told) = if self.hides { (For::Seeing, moved) } else { (For::All, false) };
        let counted = alone_told.then(|| number(For::Counting));
        let news = known.take_news();
        let people = |names: Vec<Name>| names.into_iter().map(|name| person(known, name, replica)).collect();
        // Whoever joined was told of itself, and of the others here it may hear only now.
        let (own, came): (Vec<_>, Vec<_>) = match &news.joined {
            Some((_, user)) => news.came.into_iter().partition(|name| name == user),
            None => (Vec::new(), news.came),
        };
        let alone = came.is_empty() && news.went.is_empty();
        // Where there is no other event, it has the number from nowhere but its welcome.
        let joined = news.joined.map(|(connection, _)| connection).filter(|it| !alone || except == Some(*it));
        let events: [(_, _, Vec<Person>); 3] = [
            (Change::Joined, joined, people(own)),
            (Change::Joined, None, people(came)),
            (Change::Left, None, people(news.went)),
        ];
        let events = events.into_iter().filter(|(_, _, users)| !users.is_empty());
        let events = events.map(|(change, except, users)| Event { change, viewers, users, except, to });
        events.chain(counted).collect()
    }
}

fn person(known: &KnownUsers, user: Name, replica: &Replica) -> Person {
    let on_any = known.user(&user).or_else(|| replica.user(&user));
    let info = on_any.and_then(|user| user.info.as_ref());
    Person { info: info.cloned(), user }
}
