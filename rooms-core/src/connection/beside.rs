//! What goes on beside the commands of a connection: a new token that is checked, rules that are asked again.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::BoxStream};

use super::Connection;
use crate::{
    auth::{AuthError, Decision, Identity},
    context::Shared,
    kind::Member,
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
    recheck: Option<Mutex<BoxStream<'static, RoomKey>>>,
    /// What is to be asked again behind the recheck that runs.
    again: Again,
    /// When as many tokens as may be refreshed at once may be again.
    refresh_full_at: Option<Moment>,
    /// What the client said with its joins of rooms whose rule is told it.
    said: Vec<(RoomKey, Payload)>,
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
    TooSoon,
}

impl BesideWork {
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        self.refresh.is_none()
            && self.recheck.is_none()
            && self.said.is_empty()
            && self.refresh_full_at.is_none_or(|at| at <= now)
    }

    /// Notes what a client said with a join, for when the rule is asked again.
    pub(super) fn note(&mut self, room: RoomKey, said: Payload) {
        self.forget(&room);
        self.said.push((room, said));
    }

    pub(super) fn forget(&mut self, room: &RoomKey) {
        self.said.retain(|(of, _)| of != room);
    }

    fn said(&self, room: &RoomKey) -> Option<Payload> {
        self.said.iter().find(|(of, _)| of == room).map(|(_, said)| said.clone())
    }

    fn may_refresh(&mut self, now: Moment) -> Result<(), NoRefresh> {
        if self.refresh.is_some() {
            return Err(NoRefresh::UnderWay);
        }
        let full_at = self.refresh_full_at.map_or(now, |at| at.max(now));
        if full_at > now.after(EVERY) {
            return Err(NoRefresh::TooSoon);
        }
        self.refresh_full_at = Some(full_at.after(EVERY));
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Beside> {
        if let Some(refresh) = &mut self.refresh
            && let Poll::Ready(refreshed) = inner(refresh).poll_unpin(cx)
        {
            self.refresh = None;
            return Poll::Ready(Beside::Refreshed(refreshed));
        }
        if let Some(recheck) = &mut self.recheck {
            match inner(recheck).poll_next_unpin(cx) {
                Poll::Ready(Some(room)) => return Poll::Ready(Beside::Denied(room)),
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
        let asked: Vec<_> = rooms.iter().map(|room| (self.member(room), self.said(room))).collect();
        let shared = Arc::clone(&self.shared);
        let denied = stream::iter(asked)
            .map(move |(member, said)| {
                let shared = Arc::clone(&shared);
                async move { is_denied(&shared, &member, said.as_ref()).await.then_some(member.room) }
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready);
        self.rare_mut().beside.recheck = Some(Mutex::new(denied.boxed()));
    }

    fn said(&self, room: &RoomKey) -> Option<Payload> {
        self.rare()?.beside.said(room)
    }

    /// What has come of all that goes on beside, one after another.
    pub(crate) fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<Beside> {
        loop {
            let Some(rare) = self.seldom.as_mut().and_then(|seldom| seldom.rare.as_mut()) else { return Poll::Pending };
            let was_running = rare.beside.recheck.is_some();
            if let Poll::Ready(beside) = rare.beside.poll(cx) {
                return Poll::Ready(beside);
            }
            if !was_running || rare.beside.recheck.is_some() {
                return Poll::Pending;
            }
            match std::mem::take(&mut rare.beside.again) {
                Again::Nothing => {
                    self.tidy();
                    return Poll::Pending;
                }
                Again::Room(room) => self.begin_recheck(Some(&room)),
                Again::All => self.begin_recheck(None),
            }
        }
    }
}

/// Asks the rule of a room about somebody who is in it. Where it can't decide, the member stays: a database that is away puts
/// nobody out.
async fn is_denied(shared: &Shared, member: &Member, said: Option<&Payload>) -> bool {
    let Some(kind) = shared.kinds.get(member.room.kind()) else { return true };
    let _one_of = if kind.rule.asks() { shared.rechecks.acquire().await.ok() } else { None };
    match kind.rule.decide(member.identity(), &member.room, said, shared.limits.rule_timeout).await {
        Decision::Allow => false,
        Decision::Deny => true,
        Decision::Unavailable => {
            if let Some(left_out) = shared.warnings.undecided.line() {
                tracing::warn!(
                    kind = member.room.kind(),
                    left_out,
                    "a rule that was asked again could not decide, so the member stays"
                );
            }
            false
        }
    }
}
