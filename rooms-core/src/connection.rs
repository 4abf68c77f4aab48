//! One live connection, and the rooms that it is in.

mod asking_again;
mod beside;
mod errors;
mod joining;
mod leaves;
mod leaving;
mod lists;
mod pausing;
mod places;
mod replayed;
mod to_enter;
mod token;
mod unasked;
mod watching;

use std::{collections::VecDeque, fmt, sync::Arc, task::Poll};

use serde_json::Value;

pub use self::errors::{ConnectError, JoinError};
use self::{
    beside::BesideWork,
    leaves::Leaves,
    lists::Lists,
    places::{Place, Places},
    replayed::Replayed,
};
pub(crate) use self::{
    beside::{Beside, NoRefresh, Refreshed},
    joining::{Joined, NewRooms},
    leaving::Leave,
    token::Notice,
    watching::Watching,
};
use crate::{
    auth::{Identity, SignIn},
    close::Close,
    context::Shared,
    kind::{Joining, Member, Rights, Sort, Tell},
    message::Message,
    node::ConnectionId,
    outbox::{Driver, Progress, Recipient, Waiting},
    protocol,
    room_key::RoomKey,
    timers::Moment,
};

/// One connection: an identity, a sink, and memberships.
///
/// Dropping it leaves every room and gives the user's place back, also when a future is cancelled or a task panics. What
/// a healthy sink takes is written by whoever sends; what it does not take at once waits until
/// [`drive`](Self::drive) is polled, so poll it from the connection's task.
///
/// ```
/// use futures::{StreamExt as _, channel::mpsc, sink::SinkExt as _};
/// use rooms_core::{Identity, Kind, Message, RoomKey, RoomManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build()?;
/// let (sink, mut received) = mpsc::unbounded();
/// let mut connection = rooms.connect(Identity::new("5")?, sink)?;
/// assert_eq!(connection.join(&RoomKey::new("post", 42)?).await?, 1);
///
/// tokio::select! {
///     _ = connection.drive() => unreachable!("nothing closes it"),
///     first = received.next() => {
///         let first: Message = first.unwrap();
///         assert_eq!(first.as_text(), Some(r#"{"type":"room_joined","room":"post:42","viewers":1}"#));
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping a connection leaves its rooms"]
pub struct Connection {
    shared: Arc<Shared>,
    recipient: Driver,
    /// Left one by one by `Drop`.
    rooms: Places,
    /// When its task is to be woken, whatever happens until then.
    wake_at: Moment,
    /// What few connections have.
    seldom: Option<Box<Seldom>>,
}

#[derive(Default)]
struct Seldom {
    leaves: Leaves,
    /// The lists of members that it was sent.
    lists: Lists,
    /// How it signed in, where that is not as most do.
    sign_in: Option<Arc<SignIn>>,
    /// Who it is since its token was refreshed; others find it at the recipient.
    identity: Option<Arc<Identity>>,
    /// Apart, as many have one of the others, and few have any of it for long.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// When its client is told that the token ends.
    notice: Notice,
    beside: BesideWork,
    /// Rooms that it is to enter without having asked.
    to_enter: VecDeque<RoomKey>,
    /// Rooms with a history that it entered so, and that its client has not joined.
    unasked: Vec<RoomKey>,
    /// What it was given of histories and states.
    replayed: Replayed,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, recipient: Arc<Recipient>) -> Self {
        let recipient = Driver::of(recipient);
        Self { shared, recipient, rooms: Places::None, wake_at: Moment::START, seldom: None }
    }

    /// Its id, unique over all nodes.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.recipient.id()
    }

    /// Who it is: by the token that it has now, where that was refreshed.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        let renewed = self.seldom.as_ref().and_then(|seldom| seldom.identity.as_deref());
        renewed.unwrap_or(self.recipient.first_identity())
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomKey> {
        self.rooms.all().iter().map(|place| &place.room.key)
    }

    fn place(&self, key: &RoomKey) -> Option<&Place> {
        self.rooms.all().iter().find(|place| place.room.key == *key)
    }

    fn rare(&self) -> Option<&Rare> {
        self.seldom.as_ref()?.rare.as_deref()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.seldom.get_or_insert_default().rare.get_or_insert_default()
    }

    pub(crate) fn signed_in(&mut self, sign_in: Option<Arc<SignIn>>) {
        if sign_in.is_some() {
            self.seldom.get_or_insert_default().sign_in = sign_in;
        }
    }

    /// Sends to this connection alone.
    pub fn send(&self, message: &Message) {
        self.recipient.deliver(std::slice::from_ref(message));
    }

    /// Closes the connection: what waits goes out first, then the close frame.
    pub fn close(&self, close: Close) {
        self.recipient.close(close, Waiting::Flush);
    }

    /// Writes what the sink did not take at once, for as long as the connection lives. Resolves with the reason once it
    /// is closed and everything is out, or `None` when the sink failed, or the connection was dropped without a close.
    ///
    /// The connection has ended then: its sink is dropped, and it counts as one of its user's no more, also where it is
    /// kept. It is in its rooms until it is dropped.
    ///
    /// The sink is dropped as soon as the close frame is out: over [`ws::tcp`](crate::ws::tcp) the stream ends right behind
    /// it, and a client that is still sending may lose the frame to the reset that this causes.
    /// [`serve_room`](crate::RoomManager::serve_room) and [`serve`](crate::RoomManager::serve) wait for the client's answer
    /// to it.
    ///
    /// May be dropped and called again.
    pub fn drive(&self) -> impl Future<Output = Option<Close>> + Send + use<> {
        let (recipient, shared) = (Driver::of(Arc::clone(&self.recipient)), Arc::clone(&self.shared));
        std::future::poll_fn(move |cx| {
            let close = match shared.drive(&recipient, cx) {
                Progress::Closed(close) => Some(close),
                Progress::Broken => None,
                Progress::Open(_) | Progress::Closing(_) => return Poll::Pending,
            };
            recipient.end();
            shared.users.leave(&recipient);
            Poll::Ready(close)
        })
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn recipient(&self) -> &Arc<Recipient> {
        &self.recipient
    }

    /// When its task is woken next, whatever happens until then; the start where it never asked for that.
    pub(crate) const fn wakes_at(&self) -> Moment {
        self.wake_at
    }

    /// Has its task woken at a time, in place of the one before.
    pub(crate) fn wake_at(&mut self, at: Moment) {
        let Self { shared, recipient, wake_at, .. } = self;
        shared.timers.set(shared.runtime.handle(), recipient, *wake_at, at);
        *wake_at = at;
    }

    /// It, as a hook is given it: in a room that it is in.
    pub(crate) fn member(&self, room: &RoomKey) -> Member {
        let observed = |place: &&Place| place.room.kind.has_observers();
        let sort = self.place(room).filter(observed).map_or(Sort::Member, |place| place.room.rights(place.slot).sort);
        self.member_of_sort(room, sort)
    }

    fn member_of_sort(&self, room: &RoomKey, sort: Sort) -> Member {
        let rooms = Arc::clone(&self.shared) as Arc<dyn Tell>;
        let identity = self.seldom.as_ref().and_then(|seldom| seldom.identity.clone());
        let sign_in = self.seldom.as_ref().and_then(|seldom| seldom.sign_in.clone());
        let sign_in = sign_in.filter(|sign_in| sign_in.subprotocol.is_some());
        let joining = sign_in.map(|sign_in| Arc::new(Joining { sign_in: Some(sign_in), ..Joining::default() }));
        Member { room: room.clone(), recipient: Arc::clone(&self.recipient), identity, rooms, joining, sort }
    }

    /// It is in the room with these rights from now on. Where it may see the members now, or may not any more, it is told how
    /// things stand, as if it joined again.
    fn change_rights(&mut self, key: &RoomKey, rights: Rights) {
        let Some(place) = self.place(key) else { return };
        if !place.room.change_rights(place.slot, rights) {
            return;
        }
        if let Some(standing) = self.standing(key) {
            self.recipient.deliver_standing(key, &[protocol::room_joined(key, standing, Value::Null, None)]);
        }
    }

    /// Forgets what is over.
    pub(crate) fn tidy(&mut self) {
        let now = self.shared.timers.now();
        self.seldom.take_if(|seldom| seldom.tidy(now));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.timers.remove(&self.recipient, self.wake_at);
        self.leave_all();
        self.shared.note_end(&self.recipient);
        self.recipient.abandon();
        self.shared.users.leave(&self.recipient);
    }
}

impl Seldom {
    /// Forgets what is over; says whether nothing is left.
    fn tidy(&mut self, now: Moment) -> bool {
        self.rare.take_if(|rare| rare.is_idle(now));
        let is_lasting = self.sign_in.is_some() || self.identity.is_some();
        self.leaves.tidy() && self.lists.is_empty() && !is_lasting && self.rare.is_none()
    }
}

impl Rare {
    fn is_idle(&self, now: Moment) -> bool {
        self.notice == Notice::default()
            && self.to_enter.is_empty()
            && self.unasked.is_empty()
            && self.replayed.is_empty()
            && self.beside.is_idle(now)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id()).field("identity", self.identity()).finish_non_exhaustive()
    }
}
