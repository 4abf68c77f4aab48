//! Running the application's hooks: in their time, and whatever they do.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tracing::{
    Instrument as _, Span,
    field::{Empty, display},
};

use super::{HookError, Kind, Member};
use crate::{
    close::Close,
    metrics::{Hook, Stopwatch},
    payload::Payload,
    presence::Occupancy,
    room_key::RoomKey,
};

impl Kind {
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

/// A call of a hook.
pub(super) struct Call<'a> {
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

    pub(super) fn of(name: &'static str, recorded: &'a Hook, member: &Member) -> Self {
        let call = Self::new(name, recorded, &member.room);
        call.span.record("connection", display(member.connection()));
        call
    }
}

/// Runs the application's code; `None` where it panicked or took too long, which is logged.
pub(super) async fn guarded<T>(call: Call<'_>, within: Duration, hook: impl Future<Output = T>) -> Option<T> {
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
            if let Some(left_out) = recorded.panicked.line() {
                tracing::error!(hook = name, left_out, "a hook panicked");
            }
            None
        }
        Ok(Err(_)) => {
            failed("timed_out");
            if let Some(left_out) = recorded.timed_out.line() {
                tracing::error!(hook = name, ?within, left_out, "a hook took too long");
            }
            None
        }
    }
}

/// What a hook said; one that failed closes the connection.
pub(super) fn answer<T>(said: Option<Result<T, HookError>>, recorded: &Hook) -> Result<T, HookError> {
    let said = said.unwrap_or(Err(HookError::Close(Close::INTERNAL)));
    if matches!(said, Err(HookError::Unavailable)) {
        recorded.failed("unavailable");
    }
    said
}
