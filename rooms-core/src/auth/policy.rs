//! Who may join, and who may publish: rules for each kind of room, and no rule means no.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};

use super::Identity;
use crate::room_key::RoomKey;

type Ask = dyn Fn(Arc<Identity>, RoomKey) -> BoxFuture<'static, bool> + Send + Sync;

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
    /// It panicked or gave no answer in time: nobody gets in, and whoever asks again later may.
    NoAnswer,
}

/// Answers whether a user may do something in a room.
#[derive(Clone)]
pub(crate) enum Rule {
    /// Nobody: what a kind without a rule says.
    Nobody,
    /// Everybody who authenticated.
    Authenticated,
    /// The user whose id is the room's id.
    Owner,
    /// Whoever the application says.
    Ask(Arc<Ask>),
}

impl Rule {
    pub(crate) fn ask<F, Fut>(rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self::Ask(Arc::new(move |who, room| rule(who, room).boxed()))
    }

    pub(crate) async fn verdict(&self, who: &Arc<Identity>, room: &RoomKey, within: Duration) -> Verdict {
        let allowed = match self {
            Self::Nobody => false,
            Self::Authenticated => true,
            Self::Owner => who.user() == room.id(),
            Self::Ask(ask) => {
                // The call is inside the block, so that a panic in the closure itself is caught like one in its future.
                let answer = AssertUnwindSafe(async { ask(Arc::clone(who), room.clone()).await }).catch_unwind();
                match tokio::time::timeout(within, answer).await {
                    Ok(Ok(allowed)) => allowed,
                    Ok(Err(_)) => {
                        tracing::error!(kind = room.kind(), "a rule panicked, so nobody gets in");
                        return Verdict::NoAnswer;
                    }
                    Err(_) => {
                        tracing::error!(kind = room.kind(), ?within, "a rule gave no answer, so nobody gets in");
                        return Verdict::NoAnswer;
                    }
                }
            }
        };
        if allowed { Verdict::Yes } else { Verdict::No }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Authenticated => "Authenticated",
            Self::Owner => "Owner",
            Self::Ask(_) => "Ask",
        })
    }
}
