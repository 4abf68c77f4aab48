//! One live connection, and the rooms that it is in.

mod asking_again;
mod beside;
mod leaves;
mod lists;
mod places;
mod replayed;
mod token;
mod unasked;
mod watching;

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, future::join_all};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use self::{
    asking_again::After,
    beside::BesideWork,
    leaves::{Leaves, Leaving},
    lists::Lists,
    places::{Place, Places},
    replayed::Replayed,
};
pub(crate) use self::{
    beside::{Beside, NoRefresh, Refreshed},
    token::Notice,
    watching::Watching,
};
use crate::{
    auth::{Identity, SignIn},
    close::Close,
    context::Shared,
    join_options::JoinOptions,
    kind::{HookError, Joining, Kind, Member, NotLetIn, Rights, Sort, Tell},
    message::{Form, Message},
    node::ConnectionId,
    outbox::{Driver, Progress, Recipient, Waiting},
    payload::Payload,
    presence::{Arrival, Listing, Share, entry::Name},
    protocol::{self, Ref, Standing},
    room::{Arriving, Ready, Room, WentLive},
    room_key::RoomKey,
    runtime::RuntimeEnded,
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

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The user has too many connections on this node.
    #[error("the user has {limit} connections on this node, and no more are allowed")]
    TooManyConnections {
        /// `Limits::max_connections_per_user`.
        limit: usize,
    },
    /// The identity is [revoked](crate::RoomManager::revoke).
    #[error("the token, or its user, is revoked")]
    Revoked,
    /// Too many connections come from this address.
    #[error("there are {limit} connections from this address, and no more are allowed")]
    TooManyFromAddress {
        /// `Limits::max_connections_per_ip`.
        limit: usize,
    },
    /// The node has as many connections as it may.
    #[error("this node has {limit} connections, and no more are allowed")]
    NodeFull {
        /// `Limits::max_connections`.
        limit: usize,
    },
    /// The manager is shutting down.
    #[error("the process is shutting down")]
    Draining,
    /// The tokio runtime that the manager was built in has ended, so that nothing would be sent.
    #[error("the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded,
}

impl ConnectError {
    /// The close that tells the client. While the process is shutting down a session uses the close of its
    /// [`Shutdown`](crate::Shutdown) in place of this one.
    #[must_use]
    pub const fn close(&self) -> Close {
        match self {
            Self::TooManyConnections { .. } | Self::TooManyFromAddress { .. } => Close::TOO_MANY_CONNECTIONS,
            Self::Revoked => Close::REVOKED,
            Self::Draining => Close::RESTART,
            Self::NodeFull { .. } | Self::RuntimeEnded => Close::UNAVAILABLE,
        }
    }
}

/// Why a connection did not get into a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The rule of the kind said no, or there is no such kind.
    #[error("{room}: not allowed")]
    NotAllowed {
        /// Where.
        room: RoomKey,
    },
    /// The rule of the kind decided [`Decision::Unavailable`](crate::Decision::Unavailable), panicked, or took longer than
    /// `Limits::rule_timeout`.
    #[error("{room}: the rule of the kind could not decide just now")]
    RuleUnavailable {
        /// Where.
        room: RoomKey,
    },
    /// The connection is in too many rooms.
    #[error("{room}: the connection is in {limit} rooms, and no more are allowed")]
    TooManyRooms {
        /// Where.
        room: RoomKey,
        /// `Limits::max_rooms_per_connection`.
        limit: usize,
    },
    /// A client's join would make a room on this node, and its user has made too many in a short time; see
    /// `Limits::new_rooms_per_second_per_user`. Not for [`Connection::join`], which the application calls.
    #[error("{room}: the user has joined too many rooms that were new on this node; the next one in {retry_after:?}")]
    TooManyNewRooms {
        /// Where.
        room: RoomKey,
        /// When one more is let through.
        retry_after: Duration,
    },
    /// The bus did not confirm the subscription, or give the history or the state, in time; see `Limits::subscribe_timeout`.
    /// Or the connection was given more of them than `Limits::max_replay_bytes` just now.
    #[error("{room}: the bus did not confirm the subscription or give the history")]
    Unavailable {
        /// Where.
        room: RoomKey,
    },
    /// The tokio runtime that the manager was built in has ended, so that nothing would be sent.
    #[error("{room}: the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded {
        /// Where.
        room: RoomKey,
    },
    /// The `on_join` hook returned an error, panicked, or took longer than `Limits::hook_timeout`.
    #[error("{room}: the `on_join` hook refused the join")]
    Refused {
        /// Where.
        room: RoomKey,
        /// The error of the hook.
        source: HookError,
    },
}

impl JoinError {
    const fn room(&self) -> &RoomKey {
        match self {
            Self::NotAllowed { room }
            | Self::RuleUnavailable { room }
            | Self::TooManyRooms { room, .. }
            | Self::TooManyNewRooms { room, .. }
            | Self::Unavailable { room }
            | Self::RuntimeEnded { room }
            | Self::Refused { room, .. } => room,
        }
    }

    /// The close that tells the client.
    #[must_use]
    pub fn close(&self) -> Close {
        match self {
            Self::NotAllowed { .. } => Close::NOT_ALLOWED,
            Self::TooManyRooms { .. } => Close::new(crate::close::CloseCode::POLICY, "too many rooms"),
            Self::TooManyNewRooms { .. } => Close::TOO_MANY_MESSAGES,
            Self::RuleUnavailable { .. } | Self::Unavailable { .. } | Self::RuntimeEnded { .. } => Close::UNAVAILABLE,
            Self::Refused { source, .. } => source.clone().into_close(),
        }
    }
}

impl ConnectError {
    /// What it is called in the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::TooManyConnections { .. } => "user_limit",
            Self::Revoked => "revoked",
            Self::TooManyFromAddress { .. } => "address_limit",
            Self::NodeFull { .. } => "node_full",
            Self::Draining => "draining",
            Self::RuntimeEnded => "runtime_ended",
        }
    }
}

impl JoinError {
    /// What it is called in the metrics.
    const fn word(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "not_allowed",
            Self::RuleUnavailable { .. } => "rule_unavailable",
            Self::TooManyRooms { .. } => "too_many_rooms",
            Self::TooManyNewRooms { .. } => "too_many_new_rooms",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::RuntimeEnded { .. } => "runtime_ended",
        }
    }
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

    /// Joins a room: asks its rule, waits for the bus, runs `on_join`, and sends `room_joined`. Returns the number of
    /// viewers. From the call on nothing that is broadcast is lost to the connection: what comes before `room_joined` is
    /// kept, in bounds, and follows it. A room that it is in already is joined again without an event.
    ///
    /// Dropping the future leaves the room; where `on_join` had begun, `on_leave` runs.
    ///
    /// # Errors
    /// [`JoinError`], whose [`close`](JoinError::close) suits a connection that is for this room alone.
    pub async fn join(&mut self, key: &RoomKey) -> Result<usize, JoinError> {
        self.join_with(key, JoinOptions::new()).await
    }

    /// [`join`](Self::join), for a client that was there before: with what came after the position that it has, or with the
    /// newest messages, of a kind with a [history](Kind::history). They come after `room_joined`, and what is published
    /// meanwhile after them, in order and once.
    ///
    /// # Errors
    /// As [`join`](Self::join); [`JoinError::Unavailable`] also where the history could not be read.
    pub async fn join_with(&mut self, key: &RoomKey, options: JoinOptions) -> Result<usize, JoinError> {
        if let Some(place) = self.place(key) {
            return Ok(place.room.share(Share::viewers));
        }
        let joined = self.begin_join(key, options, None, NewRooms::Free).await?;
        // Somebody else may be the one who drives it.
        self.recipient.wake();
        Ok(self.keep(joined))
    }

    /// What one who is in a room already is told when it joins again: how many viewers there are, and who, if it may see that
    /// and was not told a moment ago.
    pub(crate) fn standing(&mut self, key: &RoomKey) -> Option<Standing> {
        let place = self.place(key)?;
        let (room, Rights { sort, sees_members }) = (Arc::clone(&place.room), place.room.rights(place.slot));
        let who = Name(self.identity().user().into());
        let listing = if sees_members { self.listing(key) } else { Listing::Nothing };
        let (viewers, list) = room.share(|share| share.standing(&who, listing));
        Some(Standing { viewers, list, observer: sort == Sort::Observer, ..Standing::default() })
    }

    /// All of the state of a room that it is in, if it may be given that now.
    pub(crate) fn state(&mut self, key: &RoomKey) -> Option<Message> {
        let room = Arc::clone(&self.place(key)?.room);
        if !self.may_replay() {
            return None;
        }
        let state = room.whole_state()?;
        self.replayed().add(state.frame().len(), Instant::now());
        Some(state)
    }

    fn replayed(&mut self) -> &mut Replayed {
        &mut self.seldom.get_or_insert_default().rare.get_or_insert_default().replayed
    }

    fn may_replay(&mut self) -> bool {
        let most = self.shared.limits.max_replay_bytes;
        let rare = self.seldom.as_mut().and_then(|seldom| seldom.rare.as_mut());
        rare.is_none_or(|rare| rare.replayed.may(most, Instant::now()))
    }

    /// Whether a join is answered with the list of the members. A connection that is for one room joins once.
    fn listing(&mut self, key: &RoomKey) -> Listing {
        let shared = &self.shared;
        let counted = self.recipient.form() == Form::Multi
            && shared.kinds.get(key.kind()).is_some_and(|kind| kind.names_members());
        let rooms = shared.limits.max_rooms_per_connection;
        if !counted || self.seldom.get_or_insert_default().lists.may_send(key, rooms, Instant::now()) {
            Listing::Names
        } else {
            Listing::Count
        }
    }

    fn place(&self, key: &RoomKey) -> Option<&Place> {
        self.rooms.all().iter().find(|place| place.room.key == *key)
    }

    /// All of a join but the keeping of its place, which leaves the room when it is dropped; so the connection can do
    /// something else meanwhile. The welcome repeats `reference`.
    pub(crate) fn begin_join(
        &mut self,
        key: &RoomKey,
        options: JoinOptions,
        reference: Option<Arc<Ref>>,
        new_rooms: NewRooms,
    ) -> impl Future<Output = Result<Joined, JoinError>> + Send + use<> {
        let (shared, joined) = (Arc::clone(&self.shared), self.rooms.all().len());
        let (mut member, listing) = (self.member_of_sort(key, Sort::of(&options)), self.listing(key));
        let left = self.seldom.as_ref().and_then(|seldom| seldom.leaves.over(key));
        let may_replay = self.may_replay();
        // What `on_join` begins may have to be ended, before the next one of this room.
        let leaves = shared.kinds.get(key.kind()).is_some_and(|kind| kind.has_on_leave());
        let leaving = leaves.then(|| self.seldom.get_or_insert_default().leaves.begin(key.clone()));
        let noted = Arc::clone(&self.recipient);
        let span = tracing::info_span!(
            "join",
            connection = %self.id(),
            kind = self.shared.kind_name(key),
            outcome = tracing::field::Empty,
        );
        let (of_node, room, of_join) = (Arc::clone(&shared), key.clone(), span.clone());
        let ended = move |outcome: &Result<Joined, JoinError>| {
            of_join.record("outcome", outcome.as_ref().map_or_else(JoinError::word, |_| "joined"));
            if let Err(error) = outcome {
                of_node.metrics_of(&room).joins.count(error.word());
                of_node.note_denied(&noted, error.room(), error, &error.close());
            }
        };
        let join = async move {
            let (key, limits) = (&member.room.clone(), &shared.limits);
            if joined >= limits.max_rooms_per_connection {
                return Err(JoinError::TooManyRooms { room: key.clone(), limit: limits.max_rooms_per_connection });
            }
            let not_allowed = || JoinError::NotAllowed { room: key.clone() };
            let kind = shared.kinds.get(key.kind()).ok_or_else(not_allowed)?;
            let (sort, with) = (Sort::of(&options), options.with.as_ref());
            let rights = match kind.rights_now(member.identity(), key, sort) {
                Some(rights) => rights,
                // Boxed, as what else a join may wait for.
                None => Box::pin(kind.rights(member.identity(), key, sort, with, limits.rule_timeout)).await,
            };
            let rights = match rights {
                Ok(rights) => rights,
                Err(NotLetIn::Denied) => return Err(not_allowed()),
                Err(NotLetIn::Unavailable) => return Err(JoinError::RuleUnavailable { room: key.clone() }),
            };
            if !may_replay && (kind.history.is_some() || kind.state.is_some()) {
                return Err(JoinError::Unavailable { room: key.clone() });
            }
            // After the rule, or who may not join could find out whether anybody is in the room.
            if new_rooms == NewRooms::Counted && shared.registry.find(key).is_none() {
                let made = shared.limiters.new_room(shared.runtime.handle(), member.recipient.client());
                made.map_err(|retry_after| JoinError::TooManyNewRooms { room: key.clone(), retry_after })?;
            }
            let said = options.with.clone().filter(|_| kind.rule.asks_with());
            // Before the room is entered, from when on its messages are kept.
            if let Some(left) = left {
                left.await;
            }
            let (room, slot) = shared.registry.enter(key, kind, Arc::clone(&member.recipient));
            let room = &room;
            let entered = Entered::new(&shared, Place { room: Arc::clone(room), slot });
            let mut joined = Joined { entered, viewers: 0, replayed: 0, begun: None, said };
            // Boxed, as is the reading of a history: a join is as large as the largest of what it waits for, and most joins
            // wait for nothing.
            if !room.knows_others() {
                Box::pin(subscribed(&shared, room)).await?;
            }
            if room.has_history() || room.keeps_state() {
                Box::pin(ready(&shared, room, &options)).await?;
            }
            if room.has_history() || options.with.is_some() {
                let position = room.joins_at(slot, &options);
                let sign_in = member.joining.as_ref().and_then(|joining| joining.sign_in.clone());
                member.joining = Some(Arc::new(Joining { position, with: options.with.clone(), sign_in }));
            }
            joined.begun = leaving.map(|leaving| Begun {
                shared: Arc::clone(&shared),
                kind: Arc::clone(kind),
                member: member.clone(),
                leaving: Some(leaving),
            });
            let snapshot = if kind.has_on_join() {
                Box::pin(kind.joining(|| member.clone(), limits.hook_timeout)).await
            } else {
                Ok(Value::Null)
            };
            let snapshot = snapshot.map_err(|source| JoinError::Refused { room: key.clone(), source })?;
            let counts_user = kind.knows_users() && rights.sort == Sort::Member;
            let arrival = counts_user.then(|| arrival(&shared, kind, &member));
            let listing = if rights.sees_members { listing } else { Listing::Nothing };
            let welcome = |standing| protocol::room_joined(key, standing, snapshot, reference.as_deref());
            let arriving = Arriving { arrival, listing, rights };
            let WentLive { viewers, replayed, effects } = room.go_live(slot, arriving, &options, welcome);
            shared.registry.act(room, effects);
            Ok(Joined { viewers, replayed, ..joined })
        };
        join.inspect(ended).instrument(span)
    }

    /// Keeps the place that a join ended with; returns the number of viewers.
    pub(crate) fn keep(&mut self, joined: Joined) -> usize {
        let Joined { entered, viewers, replayed, begun, said } = joined;
        if replayed > 0 {
            self.replayed().add(replayed, Instant::now());
        }
        if let Some(begun) = begun {
            begun.kept();
            self.tidy();
        }
        if let Some(place) = entered.kept() {
            let metrics = &place.room.kind.metrics;
            metrics.joins.count("joined");
            metrics.viewers.add(1);
            if let Some(said) = said {
                self.rare_mut().beside.note(place.room.key.clone(), said);
            }
            let room = place.room.key.clone();
            self.rooms.add(place);
            self.plan(&room, After::Decision);
        }
        viewers
    }

    /// Leaves a room; `false` where it was not in it.
    ///
    /// What was published before may still arrive after it: it was on its way on another thread.
    pub fn leave(&mut self, key: &RoomKey) -> bool {
        self.leave_in(key, Leave::Member)
    }

    /// [`leave`](Self::leave), of one who is put out: not shown for the `leave_grace` of the kind.
    pub(crate) fn leave_in(&mut self, key: &RoomKey, how: Leave) -> bool {
        let Some(place) = self.rooms.remove(key) else { return false };
        if self.rare().is_some() {
            self.rare_mut().beside.forget(key);
        }
        self.is_not_unasked(key);
        self.left(vec![Entered::new(&self.shared, place).leaving(how)]);
        true
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

    /// Notes a room that it is to enter, where it is not in it.
    pub(crate) fn is_to_enter(&mut self, room: RoomKey) {
        // As many as may be entered, and the bound for those that are refused.
        let most = self.shared.limits.max_rooms_per_connection;
        let waiting = &mut self.rare_mut().to_enter;
        if !waiting.contains(&room) && waiting.len() < most {
            waiting.push_back(room);
        }
    }

    /// Forgets that it is to enter a room.
    pub(crate) fn is_not_to_enter(&mut self, room: &RoomKey) {
        if self.rare().is_some() {
            self.rare_mut().to_enter.retain(|entering| entering != room);
        }
    }

    /// Whether there are rooms that it is to enter.
    pub(crate) fn has_rooms_to_enter(&self) -> bool {
        self.rare().is_some_and(|rare| !rare.to_enter.is_empty())
    }

    /// The next room that it is to enter.
    pub(crate) fn next_to_enter(&mut self) -> Option<RoomKey> {
        self.seldom.as_mut()?.rare.as_mut()?.to_enter.pop_front()
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

    pub(crate) fn leave_all(&mut self) {
        let all = std::mem::take(&mut self.rooms).into_vec();
        let how = if self.recipient.is_removed() { Leave::Removed } else { Leave::Member };
        let all: Vec<_> = all.into_iter().map(|place| Entered::new(&self.shared, place).leaving(how)).collect();
        self.left(all);
    }

    /// It is in the room with these rights from now on. Where it may see the members now, or may not any more, it is told how
    /// things stand, as if it joined again.
    fn change_rights(&mut self, key: &RoomKey, rights: Rights) {
        let Some(place) = self.place(key) else { return };
        if !place.room.change_rights(place.slot, rights) {
            return;
        }
        if let Some(standing) = self.standing(key) {
            self.send(&protocol::room_joined(key, standing, Value::Null, None));
        }
    }

    /// Forgets what is over.
    pub(crate) fn tidy(&mut self) {
        let now = self.shared.timers.now();
        self.seldom.take_if(|seldom| seldom.tidy(now));
    }

    /// Gives places up, and then runs the hooks about it in one task.
    fn left(&mut self, places: Vec<Entered>) {
        let within = self.shared.limits.hook_timeout;
        let hook = |Place { room, slot }: &Place| {
            room.kind.left(|| self.member_of_sort(&room.key, room.rights(*slot).sort), within)
        };
        let left = || places.iter().filter_map(|entered| entered.place.as_ref());
        let hooks: Vec<_> = left().filter_map(hook).collect();
        let first = left().next().map(|place| place.room.key.clone());
        for Place { room, .. } in left() {
            room.kind.metrics.viewers.add(-1);
            room.kind.metrics.leaves.add(1);
        }
        drop(places);
        if hooks.is_empty() {
            return;
        }
        // Several at once are left at the end, and then nobody comes after.
        let running = first.map(|room| self.seldom.get_or_insert_default().leaves.begin(room));
        self.shared.registry.hooks.spawn(self.shared.runtime.handle(), async move {
            join_all(hooks).await;
            drop(running);
        });
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

/// Whether a join that makes a room on this node counts for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewRooms {
    /// A client asks for it.
    Counted,
    /// The application does.
    Free,
}

/// Waits until the bus has confirmed the subscription of a room.
async fn subscribed(shared: &Shared, room: &Room) -> Result<(), JoinError> {
    match shared.runtime.wait(timeout(shared.limits.subscribe_timeout, room.subscribed())).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(answer) => {
            if answer.is_err() {
                room.unanswered();
            }
            Err(JoinError::Unavailable { room: room.key.clone() })
        }
        Err(RuntimeEnded) => Err(JoinError::RuntimeEnded { room: room.key.clone() }),
    }
}

/// Waits until what a join needs of a room's history is known.
async fn ready(shared: &Shared, room: &Arc<Room>, options: &JoinOptions) -> Result<(), JoinError> {
    match shared.runtime.wait(timeout(shared.limits.subscribe_timeout, shared.history(room, options))).await {
        Ok(Ok(Ready::Yes)) => Ok(()),
        Ok(_) => Err(JoinError::Unavailable { room: room.key.clone() }),
        Err(RuntimeEnded) => Err(JoinError::RuntimeEnded { room: room.key.clone() }),
    }
}

/// A place in a room whose member is told that it joined, until the connection keeps it.
pub(crate) struct Joined {
    entered: Entered,
    viewers: usize,
    /// The bytes of the history and the state that it was given.
    replayed: usize,
    /// Dropped after the place is given up, as `on_leave` runs after that.
    begun: Option<Begun>,
    /// What the client said with the join, where the rule is told it.
    said: Option<Payload>,
}

impl Joined {
    /// The room; `None` never.
    pub(crate) fn room(&self) -> Option<&RoomKey> {
        self.entered.place.as_ref().map(|place| &place.room.key)
    }
}

/// What `on_join` has begun and nobody keeps: dropping it runs `on_leave`. A join may end anywhere, by an error of the hook
/// or because its future is dropped, and what the hook noted of the member is to be cleared up all the same.
struct Begun {
    shared: Arc<Shared>,
    kind: Arc<Kind>,
    member: Member,
    leaving: Option<Leaving>,
}

impl Begun {
    /// The connection has it in hand.
    fn kept(mut self) {
        self.leaving = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(leaving) = self.leaving.take() else { return };
        let shared = &self.shared;
        let Some(hook) = self.kind.left(|| self.member.clone(), shared.limits.hook_timeout) else { return };
        shared.registry.hooks.spawn(shared.runtime.handle(), async move {
            hook.await;
            drop(leaving);
        });
    }
}

/// How a member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// As it likes: it may be back in a moment.
    Member,
    /// It is put out: nobody waits for it to come back.
    Removed,
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

/// A place in a room, joined or joining. Dropping it leaves, unless somebody else keeps the place.
struct Entered {
    shared: Arc<Shared>,
    place: Option<Place>,
    how: Leave,
}

impl Entered {
    fn new(shared: &Arc<Shared>, place: Place) -> Self {
        Self { shared: Arc::clone(shared), place: Some(place), how: Leave::Member }
    }

    fn leaving(mut self, how: Leave) -> Self {
        self.how = how;
        self
    }

    /// The place, for a connection that leaves it by itself.
    fn kept(mut self) -> Option<Place> {
        self.place.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(Place { room, slot }) = self.place.take() {
            let effects = match self.how {
                Leave::Member => room.leave(slot),
                Leave::Removed => room.remove(slot),
            };
            self.shared.registry.act(&room, effects);
        }
    }
}

/// What is told of a user who joins a room whose members are known by name.
fn arrival(shared: &Shared, kind: &Kind, member: &Member) -> Arrival {
    let since = shared.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Arrival {
        user: Name(member.identity().user().into()),
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        info: kind.info(member.identity(), &member.room),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id()).field("identity", self.identity()).finish_non_exhaustive()
    }
}
