//! Who is in a room, over all nodes, and what the members here were told of it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    node::ConnectionId,
    presence::entry::{Info, Name, User, Users},
};

/// Users named in one event. At some 30 bytes each a few kilobytes; the rest is named a window later.
pub(super) const NAMED_AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct KnownUsers {
    /// Who has connections on this node.
    here: HashMap<Name, User>,
    /// On how many nodes each user is.
    nodes: HashMap<Name, u32>,
    announced: HashSet<Name>,
    /// Who is here and not told, or told and not here.
    news: BTreeSet<Name>,
    joined: Joined,
    /// Who changed on this node since its entry was published; past `most` of them, everybody may have.
    unsent: HashSet<Name>,
    all_unsent: bool,
    /// Connections on this node whose users are not named.
    unnamed: u32,
    /// The users that are named on this node: `Limits::max_named_users`.
    most: usize,
}

/// One who joins a room whose kind asks who is there.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) user: Name,
    /// In milliseconds since 1970.
    pub(crate) since: u64,
    pub(crate) info: Option<Info>,
}

/// Whose users are in the news because they joined here, and so were told of themselves.
#[derive(Debug, Default)]
enum Joined {
    #[default]
    Nobody,
    One(ConnectionId, Name),
    Several,
}

/// Whether a connection's user is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Yes,
    No,
}

/// Who came and who went, as far as one event says.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) came: Vec<Name>,
    pub(super) went: Vec<Name>,
    /// The only connection here that joined meanwhile, and its user, who is among those who came.
    pub(super) joined: Option<(ConnectionId, Name)>,
}

impl KnownUsers {
    pub(super) fn new(most: usize) -> Self {
        Self {
            here: HashMap::new(),
            nodes: HashMap::new(),
            announced: HashSet::new(),
            news: BTreeSet::new(),
            joined: Joined::Nobody,
            unsent: HashSet::new(),
            all_unsent: false,
            unnamed: 0,
            most,
        }
    }

    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// A connection of this node joined.
    pub(super) fn arrive(&mut self, arrival: Arrival) -> Named {
        let Arrival { user: name, since, info } = arrival;
        if let Some(user) = self.here.get_mut(&name) {
            user.connections += 1;
            user.info = info.or(user.info.take());
        } else if self.here.len() >= self.most {
            self.unnamed += 1;
            return Named::No;
        } else {
            self.here.insert(name.clone(), User { user: name.clone(), connections: 1, since, info });
            self.on_node(&name);
        }
        self.changed(name);
        Named::Yes
    }

    /// A connection of this node left.
    pub(super) fn depart(&mut self, name: &Name, named: Named) {
        if named == Named::No {
            self.unnamed = self.unnamed.saturating_sub(1);
            return;
        }
        let Some(user) = self.here.get_mut(name) else { return };
        user.connections -= 1;
        if user.connections == 0 {
            self.here.remove(name);
            self.off_node(name);
        }
        self.changed(name.clone());
    }

    /// Takes what is said of a user who is back; whether it is news.
    pub(super) fn renew(&mut self, name: &Name, info: Option<&Info>) -> bool {
        let Some(user) = self.here.get_mut(name).filter(|user| info.is_some() && user.info.as_ref() != info) else {
            return false;
        };
        user.info = info.cloned();
        self.changed(name.clone());
        true
    }

    /// A node that is alone publishes nothing, so this is bounded by itself.
    fn changed(&mut self, name: Name) {
        if self.unsent.len() >= self.most {
            self.unsent = HashSet::new();
            self.all_unsent = true;
        }
        if !self.all_unsent {
            self.unsent.insert(name);
        }
    }

    /// A user is on one node more.
    pub(super) fn on_node(&mut self, name: &Name) {
        *self.nodes.entry(name.clone()).or_default() += 1;
        self.look_at(name);
    }

    /// A user is on one node less.
    pub(super) fn off_node(&mut self, name: &Name) {
        if let Some(nodes) = self.nodes.get_mut(name) {
            *nodes -= 1;
            if *nodes == 0 {
                self.nodes.remove(name);
            }
        }
        self.look_at(name);
    }

    fn look_at(&mut self, name: &Name) {
        if self.nodes.contains_key(name) == self.announced.contains(name) {
            self.news.remove(name);
        } else {
            self.news.insert(name.clone());
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// A connection joined, and was told of its user.
    pub(super) fn joined(&mut self, connection: ConnectionId, name: &Name) {
        if self.news.contains(name) {
            self.joined = match self.joined {
                Joined::Nobody => Joined::One(connection, name.clone()),
                Joined::One(..) | Joined::Several => Joined::Several,
            };
        }
    }

    /// The news for the members here. Who came and went again meanwhile is not in it.
    pub(super) fn take_news(&mut self) -> News {
        let mut news = News::default();
        for _ in 0..NAMED_AT_ONCE {
            let Some(name) = self.news.pop_first() else { break };
            if self.nodes.contains_key(&name) {
                self.announced.insert(name.clone());
                news.came.push(name);
            } else {
                self.announced.remove(&name);
                news.went.push(name);
            }
        }
        if let Joined::One(connection, name) = std::mem::take(&mut self.joined)
            && news.came.contains(&name)
        {
            news.joined = Some((connection, name));
        }
        news
    }

    /// Nobody is here to be told anything: the next who joins begins with what there is.
    pub(super) fn settle(&mut self) {
        self.news.clear();
        self.joined = Joined::Nobody;
        self.announced = self.nodes.keys().cloned().collect();
    }

    /// Who was announced to the members here.
    pub(super) fn announced(&self) -> &HashSet<Name> {
        &self.announced
    }

    /// The users of this node.
    pub(super) fn users(&self) -> impl Iterator<Item = &User> {
        self.here.values()
    }

    /// One user on this node.
    pub(super) fn user(&self, name: &Name) -> Option<&User> {
        self.here.get(name)
    }

    pub(super) const fn unnamed(&self) -> usize {
        self.unnamed as usize
    }

    /// The users of this node's entry: all of them.
    pub(super) fn whole(&self) -> Users {
        Users { since: None, here: self.here.values().cloned().collect(), gone: Vec::new(), unnamed: self.unnamed }
    }

    /// The users of this node's entry: those that changed since a version, or all.
    pub(super) fn changed_since(&mut self, since: Option<u64>) -> Users {
        let changed = std::mem::take(&mut self.unsent);
        if std::mem::take(&mut self.all_unsent) || since.is_none() {
            return self.whole();
        }
        let mut users = Users { since, here: Vec::new(), gone: Vec::new(), unnamed: self.unnamed };
        for name in changed {
            match self.here.get(&name) {
                Some(user) => users.here.push(user.clone()),
                None => users.gone.push(name),
            }
        }
        users
    }
}
