//! Kinds of rooms: who may join, and what the application does when something happens in one.

mod binary;
mod event_type;
mod hook_error;
mod member;
mod oversize;
mod rights;
mod state_type;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};

use self::binary::Binary;
#[cfg(feature = "schema")]
pub(crate) use self::event_type::TypeSchema;
pub(crate) use self::{
    event_type::{EventType, Events, Publications},
    member::{Joining, Said, Tell},
    rights::{NotLetIn, Rights, Sort},
    state_type::StateType,
};
pub use self::{
    hook_error::HookError,
    member::{Member, Sent},
    oversize::Oversize,
};
use crate::{
    auth::{Decision, Identity, Rule},
    bus::Retention,
    close::Close,
    limits::Limits,
    metrics::{Hook, KindMetrics, Stopwatch},
    outbox::Overflow,
    payload::{Payload, PayloadError},
    presence::{Occupancy, Rules, entry::Info},
    rate_limited_log::RateLimitedLog,
    room_key::RoomKey,
};

/// The longest `leave_grace`. A minute: past that a member is away, not reloading.
const MAX_GRACE: Duration = Duration::from_secs(60);

/// The rule and the hooks of all rooms of one kind, such as `post` for `post:42`.
///
/// A kind begins with default deny: without a rule nobody joins, and without a rule of its own nobody publishes.
///
/// The hooks of a connection run one after another, but for `on_leave`, which runs beside the others and before the next
/// `on_join` of the same room. Each has `Limits::hook_timeout`; a panic or a longer run closes that connection with 1011 and touches
/// no other. A hook says no by a [`HookError`]. When its connection ends, a hook at work is dropped where it stands, within
/// `Limits::close_timeout` if it was the client who left: what has to be finished belongs in a task.
///
/// ```
/// use rooms_core::Kind;
/// use serde_json::json;
///
/// let posts = Kind::new()
///     .join_rule(|who, room| async move { who.user() != "mallory" && room.id() != "secret" })
///     .on_join(|member| async move { Ok(json!({"title": format!("Post {}", member.room().id())})) })
///     .on_message(|member, message| async move {
///         member.send(&json!({"type": "echo", "of": message.json()?}));
///         Ok(())
///     });
/// let notices = Kind::owner_only();
/// # let _ = (posts, notices);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Kind {
    pub(crate) rule: Rule,
    pub(crate) publish: Rule,
    /// Who sees the members.
    members: Rule,
    /// Who may be in a room without being counted.
    observe: Rule,
    /// How often the rules are asked about one who is in a room.
    pub(crate) ask_again: Option<Duration>,
    pub(crate) overflow: Overflow,
    on_join: Option<Arc<OnJoin>>,
    on_message: Option<Arc<OnMessage>>,
    on_publish: Option<Arc<OnPublish>>,
    binary: Binary,
    on_leave: Option<Arc<OnLeave>>,
    on_occupancy: Option<Arc<OnOccupancy>>,
    names: bool,
    info: Option<Arc<MemberInfo>>,
    bad_info: Arc<RateLimitedLog>,
    pub(crate) leave_grace: Duration,
    pub(crate) history: Option<Retention>,
    pub(crate) oversize: Oversize,
    /// For how long a state is kept that nobody uses.
    pub(crate) state: Option<Duration>,
    pub(crate) state_type: Option<StateType>,
    pub(crate) events: Option<Events>,
    /// What members publish, where that is declared.
    pub(crate) publications: Option<Publications>,
    /// Those of nobody before the manager is built.
    pub(crate) metrics: Arc<KindMetrics>,
}

type OnJoin = dyn Fn(Member) -> BoxFuture<'static, Result<Value, HookError>> + Send + Sync;
type OnMessage = dyn Fn(Member, Payload) -> BoxFuture<'static, Result<(), HookError>> + Send + Sync;
type OnPublish = dyn Fn(Member, Payload) -> BoxFuture<'static, Result<Payload, HookError>> + Send + Sync;
type OnLeave = dyn Fn(Member) -> BoxFuture<'static, ()> + Send + Sync;
type OnOccupancy = dyn Fn(RoomKey, Occupancy) -> BoxFuture<'static, ()> + Send + Sync;
type MemberInfo = dyn Fn(&Identity, &RoomKey) -> Value + Send + Sync;

impl Kind {
    /// A kind that nobody may join, until [`join_rule`](Self::join_rule) says who may.
    pub fn new() -> Self {
        Self {
            rule: Rule::Nobody,
            publish: Rule::Nobody,
            members: Rule::Everybody,
            observe: Rule::Nobody,
            ask_again: None,
            overflow: Overflow::Close,
            on_join: None,
            on_message: None,
            on_publish: None,
            binary: Binary::default(),
            on_leave: None,
            on_occupancy: None,
            names: false,
            info: None,
            bad_info: Arc::default(),
            leave_grace: Duration::ZERO,
            history: None,
            oversize: Oversize::Error,
            state: None,
            state_type: None,
            events: None,
            publications: None,
            metrics: Arc::default(),
        }
    }

    /// A kind that everybody may join, [guests](Identity::guest) too.
    pub fn public() -> Self {
        Self { rule: Rule::Everybody, ..Self::new() }
    }

    /// A kind that everybody who authenticated may join; [guests](Identity::guest) may not.
    pub fn authenticated() -> Self {
        Self { rule: Rule::Authenticated, ..Self::new() }
    }

    /// A kind whose room is joined by the user of its id alone: `user:5` by user 5.
    pub fn owner_only() -> Self {
        Self { rule: Rule::Owner, ..Self::new() }
    }

    /// Sets who may join: the rule returns a [`Decision`] or a `bool`. It is asked at each join, and about those who are in when
    /// their token is [refreshed](crate::protocol) and by [`recheck`](crate::RoomManager::recheck). A rule that panics, or takes
    /// longer than `Limits::rule_timeout`, decides [`Decision::Unavailable`]: the join fails, and the client is told to try again
    /// later.
    ///
    /// The closure takes owned values, because a `Send` future that borrows its argument can't be named. The room is
    /// given whole; `room.id()` is its id.
    pub fn join_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { rule: Rule::ask(rule), ..self }
    }

    /// [`join_rule`](Self::join_rule) that is also told what the client said with its join; see [`Member::with`]. A client can
    /// say anything there.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// let draft = Kind::new().join_rule_with(|_, room, with| async move {
    ///     let key = with.and_then(|with| with.parse::<String>().ok());
    ///     key.is_some_and(|key| key == format!("the key of {}", room.id()))
    /// });
    /// # let _ = draft;
    /// ```
    pub fn join_rule_with<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey, Option<Payload>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { rule: Rule::ask_with(rule), ..self }
    }

    /// Lets those join whose token names the room in this claim, which is a text or a list of texts: `post:42` is that room,
    /// `post:*` are all of the kind, and `post:team-*` those whose id begins so. Nothing else is a pattern; a token without
    /// the claim names no room.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// // For tokens with `"rooms": ["post:*", "draft:7"], "publishes_in": "draft:7"`.
    /// let drafts = Kind::new().join_claim("rooms").publish_claim("publishes_in");
    /// # let _ = drafts;
    /// ```
    pub fn join_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Claim(claim.into()), ..self }
    }

    /// Lets those members publish by the command `publish` whose token names the room in this claim, as
    /// [`join_claim`](Self::join_claim) says.
    pub fn publish_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { publish: Rule::Claim(claim.into()), ..self }
    }

    /// Lets every member publish by the command `publish`; without this and [`publish_rule`](Self::publish_rule) no
    /// member may. What is published is JSON, and bytes as well with [`allow_binary`](Self::allow_binary).
    pub fn allow_publish(self) -> Self {
        Self { publish: Rule::Everybody, ..self }
    }

    /// Sets which members may publish by the command `publish`: the rule returns a [`Decision`] or a `bool`. It is asked
    /// about each publication, and never about a connection that has not joined. A rule that panics, or takes longer than
    /// `Limits::rule_timeout`, decides [`Decision::Unavailable`]: nothing is published, and the client is told to try again later.
    pub fn publish_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { publish: Rule::ask(rule), ..self }
    }

    /// Sets what happens to a member that does not keep up; [`Overflow::Close`] unless set.
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

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

    /// Lists who is in a room, over all nodes: [`RoomManager::members`](crate::RoomManager::members) lists them,
    /// `room_joined` names up to a hundred of them, and `viewer_joined` and `viewer_left` name the users who came and
    /// went. A user with five tabs on three nodes joins once and leaves once.
    ///
    /// Costs some hundred bytes for each user and node. At most `Limits::max_named_users` users of a room are named on each node;
    /// the others are counted. Everybody in a room sees its members, unless there is a
    /// [`members_rule`](Self::members_rule). The same on all nodes.
    pub fn list_members(self) -> Self {
        Self { names: true, ..self }
    }

    /// Sets what is told about a member besides the user's id; turns [`list_members`](Self::list_members) on.
    ///
    /// Called once for each join, and not again when a token is refreshed. At most 512 bytes of JSON, nested at most 16 deep;
    /// what is longer or deeper is logged and left out, and `null` adds nothing. Whoever sees the members sees it. Where a user has
    /// several connections on a node, the newest one's is shown.
    pub fn member_info<F>(self, info: F) -> Self
    where
        F: Fn(&Identity, &RoomKey) -> Value + Send + Sync + 'static,
    {
        Self { names: true, info: Some(Arc::new(info)), ..self }
    }

    /// Goes on counting, and naming, a member that left for so long; one whose user joins the room again meanwhile has
    /// never left. Hides the reload of a page. At most a minute; zero unless set.
    ///
    /// Where the page comes back on another node, its user is not told to have left either. The number is one too high
    /// there until the first node has heard of it, and for the whole time in a kind without
    /// [`list_members`](Self::list_members).
    pub fn leave_grace(self, grace: Duration) -> Self {
        Self { leave_grace: grace.min(MAX_GRACE), ..self }
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

    /// Keeps the newest messages of a room, on the bus, for those who were away: so much of them, [`Retention`].
    ///
    /// Each message then has a position, and a client that comes back with the last one that it has is given what came
    /// after it, in order and once; or one `resync`, where the history does not have all of that. See
    /// [`protocol`](crate::protocol). Broadcasting is appending to the history and publishing in one step: where the bus is
    /// down it is an error, as a message that only this node's members were given would have no position.
    ///
    /// With [`Overflow::Resync`](crate::Overflow::Resync) a member that reads slowly is given what it missed, too, once it reads.
    ///
    /// The bus has to keep histories, as [`LocalBus`](crate::LocalBus) does in this process's memory; where it does not,
    /// [`build`](crate::RoomManagerBuilder::build) is an error. The same on all nodes. A node with members in the room has a
    /// copy of the history in its memory. What others publish to the room by the bus' own means, and not by appending,
    /// reaches the members at once, and is not kept.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rooms_core::{Kind, bus::Retention};
    ///
    /// let channel = Kind::authenticated().history(Retention::messages(100).age(Duration::from_secs(86_400)));
    /// # let _ = channel;
    /// ```
    pub fn history(self, retention: Retention) -> Self {
        Self { history: Some(retention), ..self }
    }

    /// Keeps the last state of each room, on the bus, that [`broadcast_state`](crate::RoomManager::broadcast_state) sets: a
    /// member is told all of it when it joins, and what has changed from then on, each with a revision. See
    /// [`protocol`](crate::protocol). [`state`](Self::state) declares its type.
    ///
    /// A state is kept for `unused` after it was set, or read for a join, for the last time; 1 ms to 30 days. While there
    /// are members in the room it is not unused: the node looks whether it has missed a state twice a minute. A state has at
    /// most `Limits::max_broadcast_bytes`, and each node with members in the room has a copy of it.
    ///
    /// The bus has to keep states, as [`LocalBus`](crate::LocalBus) does in this process's memory; where it does not,
    /// [`build`](crate::RoomManagerBuilder::build) is an error. The same on all nodes. A kind may have a
    /// [`history`](Self::history) as well: the state is then for what the page shows, and the history for what happened.
    /// Between the two there is no order.
    pub fn keep_state(self, unused: Duration) -> Self {
        Self { state: Some(unused), ..self }
    }

    /// Sets what a broadcast becomes that is longer than `Limits::max_broadcast_bytes`; an error unless set. With
    /// [`Oversize::Refresh`] the members are told to fetch, by an event `refresh`, and the broadcast is `Ok`: for what they
    /// could fetch as well, such as a list that has grown. In a kind with a [`history`](Self::history) the event has its
    /// place there.
    ///
    /// ```
    /// use rooms_core::{Kind, Oversize};
    ///
    /// let cart = Kind::authenticated().oversize(Oversize::Refresh);
    /// # let _ = cart;
    /// ```
    pub fn oversize(self, oversize: Oversize) -> Self {
        Self { oversize, ..self }
    }

    /// Whether the rooms know their users by name.
    pub(crate) const fn names_members(&self) -> bool {
        self.names
    }

    /// Whether a room is to know which user a member is.
    pub(crate) const fn knows_users(&self) -> bool {
        self.names || !self.leave_grace.is_zero()
    }

    /// What is told about a member.
    pub(crate) fn info(&self, identity: &Identity, room: &RoomKey) -> Option<Info> {
        let info = self.info.as_ref()?;
        let Ok(value) = std::panic::catch_unwind(AssertUnwindSafe(|| info(identity, room))) else {
            tracing::error!(hook = "member_info", "a hook panicked");
            return None;
        };
        if value.is_null() {
            return None;
        }
        let info = Info::new(&value);
        if let Err(fault) = &info {
            // It is made of claims, and so of what an issuer puts there.
            if let Some(left_out) = self.bad_info.line() {
                tracing::error!(kind = room.kind(), %fault, left_out, "what `member_info` says about a member is left out");
            }
        }
        info.ok()
    }

    /// How its rooms are counted.
    pub(crate) fn counting(&self, limits: &Limits) -> Rules {
        Rules {
            max_named: self.names_members().then_some(limits.max_named_users),
            leave_grace: self.leave_grace,
            tells_occupancy: self.on_occupancy.is_some(),
            hides_members: self.hides_members(),
        }
    }

    /// Runs the hook about a room as a whole, if there is one.
    pub(crate) async fn occupancy(&self, occupancy: Occupancy, room: &RoomKey, within: Duration) {
        if let Some(hook) = &self.on_occupancy {
            let room = room.clone();
            let call = Call::new("on_occupancy", &self.metrics.on_occupancy, &room);
            guarded(call, within, async { hook(room, occupancy).await }).await;
        }
    }

    pub(crate) const fn has_on_join(&self) -> bool {
        self.on_join.is_some()
    }

    pub(crate) const fn has_on_leave(&self) -> bool {
        self.on_leave.is_some()
    }

    pub(crate) fn takes_messages(&self) -> bool {
        self.on_message.is_some()
    }

    pub(crate) async fn joining(&self, member: impl FnOnce() -> Member, within: Duration) -> Result<Value, HookError> {
        match &self.on_join {
            Some(hook) => {
                let member = member();
                let recorded = &self.metrics.on_join;
                let call = Call::of("on_join", recorded, &member);
                answer(guarded(call, within, async { hook(member).await }).await, recorded)
            }
            None => Ok(Value::Null),
        }
    }

    pub(crate) fn message(
        &self,
        member: Member,
        message: Payload,
        within: Duration,
    ) -> BoxFuture<'static, Result<(), HookError>> {
        let Some(hook) = self.on_message.clone() else { return futures::future::ready(Ok(())).boxed() };
        let metrics = Arc::clone(&self.metrics);
        async move {
            let call = Call::of("on_message", &metrics.on_message, &member);
            answer(guarded(call, within, async { hook(member, message).await }).await, &metrics.on_message)
        }
        .boxed()
    }

    pub(crate) async fn publishing(
        &self,
        member: Member,
        data: Payload,
        within: Duration,
    ) -> Result<Payload, HookError> {
        let published = match &self.on_publish {
            Some(hook) => {
                let recorded = &self.metrics.on_publish;
                let call = Call::of("on_publish", recorded, &member);
                answer(guarded(call, within, async { hook(member, data).await }).await, recorded)
            }
            None => Ok(data),
        };
        published.and_then(|data| self.as_event(data))
    }

    /// What to run once a member has left; `None` where there is no hook.
    pub(crate) fn left(&self, member: impl FnOnce() -> Member, within: Duration) -> Option<BoxFuture<'static, ()>> {
        let hook = self.on_leave.clone()?;
        let (member, metrics) = (member(), Arc::clone(&self.metrics));
        let run = async move {
            let call = Call::of("on_leave", &metrics.on_leave, &member);
            guarded(call, within, async { hook(member).await }).await;
        };
        Some(run.boxed())
    }
}

impl HookError {
    /// What a member published is not what it should be.
    fn bad_payload(error: PayloadError) -> Self {
        match Self::from(error) {
            Self::Refused(words) => Self::BadMessage(words),
            other => other,
        }
    }
}

impl From<PayloadError> for HookError {
    fn from(error: PayloadError) -> Self {
        /// The longest words about a payload, in bytes, as they may quote all of it.
        const MAX_WORDS: usize = 200;

        match error {
            PayloadError::Parse(error) => {
                let mut words = error.to_string();
                let end = (0..=MAX_WORDS.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
                words.truncate(end.unwrap_or_default());
                Self::refused(words)
            }
            PayloadError::Encode(error) => {
                tracing::error!(%error, "what a hook makes of a payload does not encode");
                Self::Close(Close::INTERNAL)
            }
        }
    }
}

/// A call of a hook.
struct Call<'a> {
    name: &'static str,
    recorded: &'a Hook,
    span: Span,
}

impl<'a> Call<'a> {
    fn new(name: &'static str, recorded: &'a Hook, room: &RoomKey) -> Self {
        // The kind was declared, or it would have no hook.
        let span = tracing::debug_span!("hook", hook = name, kind = room.kind(), connection = Empty, outcome = Empty);
        Self { name, recorded, span }
    }

    fn of(name: &'static str, recorded: &'a Hook, member: &Member) -> Self {
        let call = Self::new(name, recorded, &member.room);
        call.span.record("connection", display(member.connection()));
        call
    }
}

/// Runs the application's code; `None` where it panicked or took too long, which is logged.
async fn guarded<T>(call: Call<'_>, within: Duration, hook: impl Future<Output = T>) -> Option<T> {
    let (Call { name, recorded, span }, begun) = (call, Stopwatch::start());
    // In a block that drops what took too long, as that may panic too.
    let in_time = async move { tokio::time::timeout(within, hook).await };
    let outcome = AssertUnwindSafe(in_time).catch_unwind().instrument(span.clone()).await;
    recorded.ended(begun);
    let failed = |outcome| {
        span.record("outcome", outcome);
        recorded.failed(outcome);
    };
    match outcome {
        Ok(Ok(value)) => {
            span.record("outcome", "ended");
            Some(value)
        }
        Err(_) => {
            failed("panicked");
            tracing::error!(hook = name, "a hook panicked");
            None
        }
        Ok(Err(_)) => {
            failed("timed_out");
            tracing::error!(hook = name, ?within, "a hook took too long");
            None
        }
    }
}

/// What a hook said; one that failed closes the connection.
fn answer<T>(said: Option<Result<T, HookError>>, recorded: &Hook) -> Result<T, HookError> {
    let said = said.unwrap_or(Err(HookError::Close(Close::INTERNAL)));
    if matches!(said, Err(HookError::Unavailable)) {
        recorded.failed("unavailable");
    }
    said
}

impl Default for Kind {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind")
            .field("join_rule", &self.rule)
            .field("publish_rule", &self.publish)
            .field("members_rule", &self.members)
            .field("observe_rule", &self.observe)
            .field("ask_again_every", &self.ask_again)
            .field("overflow", &self.overflow)
            .field("on_join", &self.on_join.is_some())
            .field("on_message", &self.on_message.is_some())
            .field("on_publish", &self.on_publish.is_some())
            .field("binary", &self.binary)
            .field("on_leave", &self.on_leave.is_some())
            .field("on_occupancy", &self.on_occupancy.is_some())
            .field("list_members", &self.names)
            .field("leave_grace", &self.leave_grace)
            .field("history", &self.history)
            .field("oversize", &self.oversize)
            .field("keep_state", &self.state)
            .field("state", &self.state_type)
            .field("events", &self.events)
            .field("publishes", &self.publications)
            .finish()
    }
}
