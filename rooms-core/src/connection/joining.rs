//! How a connection gets into a room.

use std::{sync::Arc, time::SystemTime};

use futures::FutureExt as _;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::{
    Connection, JoinError, asking_again::After, leaves::Leaving, leaving::Entered, places::Place, replayed::Replayed,
};
use crate::{
    context::Shared,
    join_options::JoinOptions,
    kind::{Joining, Kind, Member, NotLetIn, Rights, Sort},
    message::{Form, Message},
    node::ConnectionId,
    payload::Payload,
    presence::{Arrival, Listing, entry::Name},
    protocol::{self, Ref, Standing},
    room::{Arriving, Ready, Room, WentLive},
    room_key::RoomKey,
    runtime::RuntimeEnded,
};

impl Connection {
    /// Joins a room: asks its rule, waits for the bus, runs `on_join`, and sends `room_joined`. Returns the number of
    /// viewers. From the call on nothing that is broadcast is lost to the connection: what comes before `room_joined` is
    /// kept, in bounds, and follows it. A room that it is in already is joined again without an event, but where it is
    /// [paused](JoinOptions::paused) there, and now goes on.
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
        if self.place(key).is_some() {
            return self.join_again(key, options).await;
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
        let paused = self.place(key).is_some_and(|place| place.room.is_paused(place.slot));
        // What it misses is said when it goes on.
        let (observer, recovered) = (sort == Sort::Observer, paused.then_some(true));
        Some(Standing { viewers, list, observer, paused, recovered, ..Standing::default() })
    }

    /// All of the state of a room that it is in, if it may be given that now.
    pub(crate) fn state(&mut self, key: &RoomKey) -> Option<Message> {
        let room = Arc::clone(&self.place(key).filter(|place| !place.room.is_paused(place.slot))?.room);
        if !self.may_replay() {
            return None;
        }
        let state = room.whole_state()?;
        self.replayed().add(state.frame().len(), Instant::now());
        Some(state)
    }

    pub(super) fn replayed(&mut self) -> &mut Replayed {
        &mut self.seldom.get_or_insert_default().rare.get_or_insert_default().replayed
    }

    pub(super) fn may_replay(&mut self) -> bool {
        let most = self.shared.limits.max_replay_bytes;
        let rare = self.seldom.as_mut().and_then(|seldom| seldom.rare.as_mut());
        rare.is_none_or(|rare| rare.replayed.may(most, Instant::now()))
    }

    /// Whether a join is answered with the list of the members. A connection that is for one room joins once.
    pub(super) fn listing(&mut self, key: &RoomKey) -> Listing {
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
            if room.is_in_hand(member.recipient.id()) {
                Box::pin(put_down(&shared, room, member.recipient.id())).await?;
            }
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
pub(super) async fn subscribed(shared: &Shared, room: &Room) -> Result<(), JoinError> {
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

/// Waits until no flusher has something in hand that the connection is to be given from before it left.
async fn put_down(shared: &Shared, room: &Room, connection: ConnectionId) -> Result<(), JoinError> {
    match shared.runtime.wait(timeout(shared.limits.subscribe_timeout, room.put_down(connection))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(JoinError::Unavailable { room: room.key.clone() }),
        Err(RuntimeEnded) => Err(JoinError::RuntimeEnded { room: room.key.clone() }),
    }
}

/// Waits until what a join needs of a room's history is known.
pub(super) async fn ready(shared: &Shared, room: &Arc<Room>, options: &JoinOptions) -> Result<(), JoinError> {
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

/// What is told of a user who joins a room whose members are known by name.
fn arrival(shared: &Shared, kind: &Kind, member: &Member) -> Arrival {
    let since = shared.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Arrival {
        user: Name(member.identity().user().into()),
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        info: kind.info(member.identity(), &member.room),
    }
}
