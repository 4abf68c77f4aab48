//! What the application does when something happens in a room.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;

use super::{HookError, Kind, Member};
use crate::{payload::Payload, presence::Occupancy, room_key::RoomKey};

pub(super) type OnJoin = dyn Fn(Member) -> BoxFuture<'static, Result<Value, HookError>> + Send + Sync;
pub(super) type OnMessage = dyn Fn(Member, Payload) -> BoxFuture<'static, Result<(), HookError>> + Send + Sync;
pub(super) type OnPublish = dyn Fn(Member, Payload) -> BoxFuture<'static, Result<Payload, HookError>> + Send + Sync;
pub(super) type OnLeave = dyn Fn(Member) -> BoxFuture<'static, ()> + Send + Sync;
pub(super) type OnOccupancy = dyn Fn(RoomKey, Occupancy) -> BoxFuture<'static, ()> + Send + Sync;

impl Kind {
    /// Runs when a connection joins, before it is told so. The object that it returns is sent inside `room_joined`; what
    /// is broadcast meanwhile comes after it, so a snapshot read here misses nothing. An error refuses the join. Whatever
    /// becomes of it, `on_leave` runs afterwards, once.
    pub fn on_join<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(Member) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, HookError>> + Send + 'static,
    {
        Self { on_join: Some(Arc::new(move |member| hook(member).boxed())), ..self }
    }

    /// Runs for each message that is no command: on a connection for one room all but `ping` and `refresh`, on one for many all
    /// but `ping`, `refresh`, `join`, `leave` and `publish`. Without it such a message is answered by an `unknown_type` error.
    ///
    /// The hook is given the whole message as the text that came, and parses what it needs:
    /// [`message.json()?`](Payload::json), or [`message.parse::<T>()?`](Payload::parse). It is JSON within its bounds:
    /// `Limits::max_message_bytes`, 64 levels, `Limits::max_containers`; what is beyond them is answered by a `too_big` error.
    ///
    /// The type may also be that of an event of ours, so do not broadcast a message as it came. Success is not answered;
    /// what [`Member::send`] sends has no `ref`. Binary messages are for
    /// [`on_binary_message`](Self::on_binary_message).
    pub fn on_message<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(Member, Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HookError>> + Send + 'static,
    {
        Self { on_message: Some(Arc::new(move |member, message| hook(member, message).boxed())), ..self }
    }

    /// Runs for what a member publishes, once its rule has said yes. What it returns is published: the [`Payload`] as it
    /// came, or something else in its place, which may be a [`Value`]. This is where to write who said it, as a client can
    /// write anything. An error publishes nothing. Without this hook the text is published as it came.
    ///
    /// Where a key is given twice, the hook's parser takes one of the values and a member's may take the other. So a hook
    /// that decides by what it read writes it anew, as here; one that returns what came has checked it for nobody.
    ///
    /// Data whose `type` is that of an event of ours comes here too. Whatever the hook returns with such a `type` reaches
    /// members whose connection is for one room inside an event `message`; see [`protocol`](crate::protocol).
    ///
    /// ```
    /// use rooms_core::Kind;
    /// use serde_json::json;
    ///
    /// let channel = Kind::authenticated().allow_publish().on_publish(|member, said| async move {
    ///     Ok(json!({"from": member.identity().user(), "text": said.json()?["text"]}))
    /// });
    /// # let _ = channel;
    /// ```
    pub fn on_publish<F, Fut, P>(self, hook: F) -> Self
    where
        F: Fn(Member, Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, HookError>> + Send + 'static,
        P: Into<Payload>,
    {
        let hook = move |member, data| hook(member, data).map(|published| published.map(Into::into)).boxed();
        Self { on_publish: Some(Arc::new(hook)), publications: None, ..self }
    }

    /// Runs after a connection left a room, for whatever reason, in a task of its own, to its end.
    ///
    /// Runs once for each join that passed the rule, after `on_join` has returned or was dropped. So it is the place to
    /// undo what `on_join` did, also where that failed, panicked, took too long, refused the join, or was dropped
    /// because the client went; in these cases it runs at once. It must accept a join of which `on_join` noted nothing.
    ///
    /// A join that the rule of the kind refuses calls neither. A [shutdown](crate::RoomManager::shutdown) waits for it.
    /// It does not run where the process is killed.
    pub fn on_leave<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(Member) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self { on_leave: Some(Arc::new(move |member| hook(member).boxed())), ..self }
    }

    /// Runs when a room is occupied, and when it is empty, in a task of its own: on this node, and over all nodes; see
    /// [`Occupancy`]. It is the place to start and stop what a room costs, such as a query that feeds it.
    ///
    /// Calls for one room run one after another, and never for a state that is over: where a room was empty for less time
    /// than a call takes, the hook is not told. Calls for different rooms do not wait for each other. Each call has
    /// `Limits::hook_timeout`; a panic or a longer run is logged, and the next call follows.
    ///
    /// ```
    /// use rooms_core::{Kind, Occupancy};
    ///
    /// let stock = Kind::authenticated().on_occupancy(|room, occupancy| async move {
    ///     match occupancy {
    ///         Occupancy::OccupiedHere => println!("start the feed of {room}"),
    ///         Occupancy::EmptyHere => println!("stop the feed of {room}"),
    ///         _ => {}
    ///     }
    /// });
    /// # let _ = stock;
    /// ```
    pub fn on_occupancy<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(RoomKey, Occupancy) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self { on_occupancy: Some(Arc::new(move |room, occupancy| hook(room, occupancy).boxed())), ..self }
    }
}
