//! The token by which a connection lives, and the next one.

use std::{sync::Arc, time::Duration};

use super::Connection;
use crate::auth::Identity;

/// How long before the end of a token its client is told. 60 s: time to fetch another one, and to try again.
const NOTICE: Duration = Duration::from_secs(60);

/// When a client is told that its token ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// That long before.
    Before(Duration),
    /// It was told.
    Told,
}

impl Default for Notice {
    fn default() -> Self {
        Self::Before(NOTICE)
    }
}

impl Connection {
    /// Who it is from now on, by a new token of the same user.
    pub(crate) fn renew(&mut self, identity: Identity) {
        let identity = Arc::new(identity);
        self.recipient.renew(Arc::clone(&identity));
        self.seldom.get_or_insert_default().identity = Some(identity);
        self.watch_token();
        // Before the next command, it is found out when the new token ends.
        self.wake_at(self.shared.timers.now());
        // It may have been revoked after it was checked, while the connection was known by the one before.
        self.shared.end_if_revoked(&self.recipient);
    }

    /// Decides when the client is told that its token ends. One that is good for less than twice the usual time is half
    /// over then: a client that is given such tokens refreshes them at half of their time, and not without a pause.
    pub(crate) fn watch_token(&mut self) {
        let left = self.time_left();
        let notice = match left {
            Some(left) if left < 2 * NOTICE => Notice::Before(left / 2),
            _ => Notice::default(),
        };
        if self.notice() != notice {
            self.rare_mut().notice = notice;
        }
    }

    /// How long its token is good for still; `None` where it does not end.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let end = self.identity().expires_at()?;
        Some(end.duration_since(self.shared.clock.now()).unwrap_or_default())
    }

    pub(crate) fn notice(&self) -> Notice {
        self.rare().map_or(Notice::default(), |rare| rare.notice)
    }

    /// Its client was told that its token ends.
    pub(crate) fn was_told(&mut self) {
        self.rare_mut().notice = Notice::Told;
    }
}
