//! A connection as everybody else reaches it: rooms, hooks, the users' map.

use std::{fmt, ops::Deref, sync::Arc};

use super::Outbox;
use crate::{auth::Identity, network::Network, node::ConnectionId};

/// Who is at the other end, and the outbox that leads there; shared by all who know the connection.
pub(crate) struct Recipient {
    /// Apart, because what is written to is the outbox. And the allocation of this fits between two of tokio's, which are
    /// aligned to 128 bytes: with both in one, glibc takes 80 bytes more for each connection.
    who: Box<Who>,
    /// Where it connects from, if the framework says so.
    from: Option<Network>,
    outbox: Outbox,
}

struct Who {
    id: ConnectionId,
    identity: Identity,
}

impl Recipient {
    pub(crate) fn new(id: ConnectionId, identity: Identity, outbox: Outbox) -> Self {
        Self { who: Box::new(Who { id, identity }), from: None, outbox }
    }

    /// The same from this address.
    pub(crate) fn from(self, from: Option<Network>) -> Self {
        Self { from, ..self }
    }

    /// The same, connected at this time, in seconds since 1970.
    pub(crate) fn since(self, seconds: u64) -> Self {
        Self { outbox: self.outbox.since(seconds), ..self }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.who.id
    }

    /// The user's id, which a connection keeps.
    pub(crate) fn user(&self) -> &str {
        self.who.identity.user()
    }

    /// Who it was when it connected; see [`renewed`](Outbox::renewed).
    pub(crate) fn first_identity(&self) -> &Identity {
        &self.who.identity
    }

    /// Looks at who it is now.
    pub(crate) fn with_identity<T>(&self, look: impl FnOnce(&Identity) -> T) -> T {
        match self.renewed() {
            Some(identity) => look(&identity),
            None => look(&self.who.identity),
        }
    }

    /// From now on it is this identity, of the same user.
    pub(crate) fn renew(&self, identity: Arc<Identity>) {
        self.outbox.renew(identity);
    }

    /// No refresh changes it, as a guest has no token.
    pub(crate) fn is_guest(&self) -> bool {
        self.who.identity.is_guest()
    }

    pub(crate) fn network(&self) -> Option<Network> {
        self.from
    }

    pub(crate) fn into_outbox(self) -> Outbox {
        self.outbox
    }
}

impl Deref for Recipient {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("id", &self.id())
            .field("identity", self.first_identity())
            .finish_non_exhaustive()
    }
}

/// One who may write what waits: a connection, or a future that drives it. With the last of them the sink is dropped,
/// whoever else keeps the recipient: a member in the hands of the application must not keep a socket open whose client has
/// gone.
pub(crate) struct Driver(Arc<Recipient>);

impl Driver {
    pub(crate) fn of(recipient: Arc<Recipient>) -> Self {
        recipient.begin_driving();
        Self(recipient)
    }
}

impl Deref for Driver {
    type Target = Arc<Recipient>;

    fn deref(&self) -> &Arc<Recipient> {
        &self.0
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.end_driving();
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        assert_eq!((size_of::<Recipient>(), size_of::<Who>()), (88, 40), "every connection has one");
    }
}
