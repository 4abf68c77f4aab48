//! What goes on beside the commands of a connection: a new token that is checked, rules that are asked again.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::BoxStream};

use super::{
    Connection,
    asking_again::{After, AskingAgain},
};
use crate::{
    auth::{AuthError, Identity},
    context::Shared,
    kind::{Member, NotLetIn, Rights},
    lock::Mutex,
    payload::Payload,
    protocol::Ref,
    room_key::RoomKey,
    timers::Moment,
};

/// How often a token is refreshed: one each five seconds, as checking one may cost a signature and a call over the network.
const EVERY: Duration = Duration::from_secs(5);

/// Rules that one connection asks again at once.
const AT_ONCE: usize = 8;

/// Each in a mutex, because a connection is `Sync`, and what it waits for is not.
#[derive(Default)]
pub(super) struct BesideWork {
    refresh: Option<Mutex<BoxFuture<'static, Refreshed>>>,
    recheck: Option<Recheck>,
    /// What is to be asked again behind the recheck that runs.
    again: Again,
    /// When as many tokens as may be refreshed at once may be again.
    refresh_full_at: Option<Moment>,
    /// What the client said with its joins of rooms whose rule is told it.
    said: Vec<(RoomKey, Payload)>,
    asking: AskingAgain,
}

/// Rules that are being asked again.
struct Recheck {
    answers: Mutex<BoxStream<'static, Answer>>,
    /// The rooms whose answers count: not those that were left since, whoever has joined them anew by then. A rule that said no
    /// to a member who has left, and yes to its next join, would otherwise put it out.
    rooms: Vec<RoomKey>,
}

/// What the rules of a room say about one who is in it.
struct Answer {
    room: RoomKey,
    rights: Result<Rights, NotLetIn>,
}

enum Step {
    Refreshed(Refreshed),
    Answer(Answer),
}

#[derive(Default, PartialEq, Eq)]
enum Again {
    #[default]
    Nothing,
    Room(RoomKey),
    All,
}

/// What came of it.
pub(crate) enum Beside {
    Refreshed(Refreshed),
    /// The rule of this room says no.
    Denied(RoomKey),
}

/// What came of a new token.
pub(crate) struct Refreshed {
    pub(crate) identity: Result<Identity, AuthError>,
    pub(crate) reference: Option<Ref>,
}

/// Why a token is not looked at.
pub(crate) enum NoRefresh {
    UnderWay,
    /// It would be after this time.
    TooSoon(Duration),
}

impl BesideWork {
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.refresh.is_none()
            && self.recheck.is_none()
            && self.said.is_empty()
            && self.asking.is_empty()
            && self.refresh_full_at.is_none_or(|at| at <= now)
    }

    /// Notes what a client said with a join, for when the rule is asked again.
    pub(super) fn note(&mut self, room: RoomKey, said: Payload) {
        self.said.retain(|(of, _)| *of != room);
        self.said.push((room, said));
    }

    pub(super) fn forget(&mut self, room: &RoomKey) {
        self.said.retain(|(of, _)| of != room);
        self.asking.forget(room);
        if let Some(recheck) = &mut self.recheck {
            recheck.rooms.retain(|of| of != room);
        }
    }

    /// When rules are to be asked again; `None` while some are being asked.
    fn next_ask(&self) -> Option<Moment> {
        if self.recheck.is_some() { None } else { self.asking.next() }
    }

    fn said(&self, room: &RoomKey) -> Option<Payload> {
        self.said.iter().find(|(of, _)| of == room).map(|(_, said)| said.clone())
    }

    fn may_refresh(&mut self, now: Moment) -> Result<(), NoRefresh> {
        if self.refresh.is_some() {
            return Err(NoRefresh::UnderWay);
        }
        let full_at = self.refresh_full_at.map_or(now, |at| at.max(now));
        let wait = full_at.since(now.after(EVERY));
        if !wait.is_zero() {
            return Err(NoRefresh::TooSoon(wait));
        }
        self.refresh_full_at = Some(full_at.after(EVERY));
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(refresh) = &mut self.refresh
            && let Poll::Ready(refreshed) = inner(refresh).poll_unpin(cx)
        {
            self.refresh = None;
            return Poll::Ready(Step::Refreshed(refreshed));
        }
        if let Some(recheck) = &mut self.recheck {
            match inner(&mut recheck.answers).poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => return Poll::Ready(Step::Answer(answer)),
                Poll::Ready(None) => self.recheck = None,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

fn inner<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Connection {
    /// Begins to check a token that is to follow the one that the connection has.
    pub(crate) fn begin_refresh(
        &mut self,
        token: String,
        reference: Option<Ref>,
    ) -> Result<(), (NoRefresh, Option<Ref>)> {
        let (shared, now) = (Arc::clone(&self.shared), self.shared.timers.now());
        let recipient = Arc::clone(&self.recipient);
        let sign_in = self.seldom.as_ref().and_then(|seldom| seldom.sign_in.clone());
        let beside = &mut self.rare_mut().beside;
        if let Err(why) = beside.may_refresh(now) {
            return Err((why, reference));
        }
        let refresh = async move {
            let identity = shared.ask_again(sign_in.as_deref(), recipient.user(), &token).await;
            Refreshed { identity, reference }
        };
        beside.refresh = Some(Mutex::new(refresh.boxed()));
        Ok(())
    }

    /// Begins to ask the rule of a room again, or those of all that it is in. Where it is at that already, it does so once
    /// more afterwards: what was answered before may be what was right before.
    pub(crate) fn begin_recheck(&mut self, of: Option<&RoomKey>) {
        let rooms: Vec<RoomKey> = self.rooms().filter(|room| of.is_none_or(|of| of == *room)).cloned().collect();
        if rooms.is_empty() {
            return;
        }
        let beside = &mut self.rare_mut().beside;
        if beside.recheck.is_some() {
            beside.again = match (&beside.again, of) {
                (Again::Nothing, Some(room)) => Again::Room(room.clone()),
                (Again::Room(before), Some(room)) if before == room => return,
                _ => Again::All,
            };
            return;
        }
        self.ask(&rooms);
    }

    fn ask(&mut self, rooms: &[RoomKey]) {
        for room in rooms {
            self.plan(room, After::Decision);
        }
        let asked: Vec<_> = rooms.iter().map(|room| (self.member(room), self.said(room))).collect();
        let shared = Arc::clone(&self.shared);
        let answers = stream::iter(asked)
            .map(move |(member, said)| {
                let shared = Arc::clone(&shared);
                async move {
                    let rights = rights(&shared, &member, said.as_ref()).await;
                    Answer { room: member.room, rights }
                }
            })
            .buffer_unordered(AT_ONCE);
        let answers = Mutex::new(answers.boxed());
        self.rare_mut().beside.recheck = Some(Recheck { answers, rooms: rooms.to_vec() });
    }

    /// Plans when the rules of a room are asked again, where its kind says so.
    pub(super) fn plan(&mut self, room: &RoomKey, after: After) {
        let Some(every) = self.shared.kinds.get(room.kind()).and_then(|kind| kind.ask_again) else { return };
        let now = self.shared.timers.now();
        let at = self.rare_mut().beside.asking.plan(room, every, after, now);
        if at < self.wakes_at() {
            self.wake_at(at);
        }
    }

    /// When rules are to be asked again, as far as it is known now.
    pub(crate) fn next_ask(&self) -> Option<Moment> {
        self.rare()?.beside.next_ask()
    }

    /// Begins to ask the rules that are due.
    pub(crate) fn ask_again(&mut self) {
        let now = self.shared.timers.now();
        let due = self.rare().map(|rare| rare.beside.asking.due(now)).unwrap_or_default();
        if !due.is_empty() {
            self.ask(&due);
        }
    }

    /// Does what the rules of a room answered; `true` where it is to be left.
    fn answered(&mut self, Answer { room, rights }: &Answer) -> bool {
        let recheck = self.rare().and_then(|rare| rare.beside.recheck.as_ref());
        if !recheck.is_some_and(|recheck| recheck.rooms.contains(room)) {
            return false;
        }
        match rights {
            Err(NotLetIn::Denied) => return true,
            // A database that is away puts nobody out.
            Err(NotLetIn::Unavailable) => self.plan(room, After::NoDecision),
            Ok(rights) => self.change_rights(room, *rights),
        }
        false
    }

    fn said(&self, room: &RoomKey) -> Option<Payload> {
        self.rare()?.beside.said(room)
    }

    fn beside_mut(&mut self) -> Option<&mut BesideWork> {
        Some(&mut self.seldom.as_mut()?.rare.as_mut()?.beside)
    }

    /// What has come of all that goes on beside, one after another.
    pub(crate) fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<Beside> {
        loop {
            let Some(beside) = self.beside_mut() else { return Poll::Pending };
            let was_running = beside.recheck.is_some();
            match beside.poll(cx) {
                Poll::Ready(Step::Refreshed(refreshed)) => return Poll::Ready(Beside::Refreshed(refreshed)),
                Poll::Ready(Step::Answer(answer)) if self.answered(&answer) => {
                    return Poll::Ready(Beside::Denied(answer.room));
                }
                Poll::Ready(Step::Answer(_)) => continue,
                Poll::Pending => {}
            }
            let Some(beside) = self.beside_mut() else { return Poll::Pending };
            if !was_running || beside.recheck.is_some() {
                return Poll::Pending;
            }
            match std::mem::take(&mut beside.again) {
                Again::Nothing => {
                    let next = beside.next_ask();
                    self.tidy();
                    // One may have become due meanwhile.
                    if let Some(at) = next.filter(|at| *at < self.wakes_at()) {
                        self.wake_at(at);
                    }
                    return Poll::Pending;
                }
                Again::Room(room) => self.begin_recheck(Some(&room)),
                Again::All => self.begin_recheck(None),
            }
        }
    }
}

/// Asks the rules of a room about somebody who is in it.
async fn rights(shared: &Shared, member: &Member, said: Option<&Payload>) -> Result<Rights, NotLetIn> {
    let kind = shared.kinds.get(member.room.kind()).ok_or(NotLetIn::Denied)?;
    let _one_of = if kind.asks(member.sort) { shared.rechecks.acquire().await.ok() } else { None };
    let within = shared.limits.rule_timeout;
    let answer = kind.rights(member.identity(), &member.room, member.sort, said, within).await;
    if answer == Err(NotLetIn::Unavailable)
        && let Some(left_out) = shared.warnings.undecided.line()
    {
        tracing::warn!(
            kind = member.room.kind(),
            left_out,
            "a rule that was asked again could not decide, so the member stays"
        );
    }
    answer
}
