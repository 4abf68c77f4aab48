//! How a session ends: it leaves its rooms at once, and then says good-bye if anybody is there.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    Session, Source,
    farewell::{Peer, farewell},
    work::Done,
};
use crate::{
    close::Close,
    outbox::{GONE, Waiting},
};

/// How a connection ends.
pub(super) enum End {
    /// With a close frame.
    Closing(Close),
    /// With the client's own close frame, and the answer to it.
    Left(Close),
    /// The client has gone without a word; there is nobody to tell.
    Gone,
}

impl<R: Source> Session<R> {
    /// Leaves its rooms at once, and then says good-bye if anybody is there.
    pub(super) async fn end(mut self, end: End) -> Close {
        let without_frame = matches!(end, End::Gone);
        let close = self.say_good_bye(end).await;
        self.note_end(&close, without_frame);
        close
    }

    /// The end where nobody is left to say good-bye to, and no command is at work.
    pub(super) fn gone(&mut self) -> Close {
        let close = self.leave_socket();
        self.note_end(&close, true);
        close
    }

    fn note_end(&self, close: &Close, without_frame: bool) {
        let code = if without_frame { "none" } else { close.code().word() };
        self.connection.shared().metrics.closes.count(code);
        tracing::debug!(connection = %self.connection.id(), code = %close.code(), "a connection ended");
    }

    /// Gives the sink and the rooms up without a word, as the client has gone.
    fn leave_socket(&mut self) -> Close {
        let outbox = Arc::clone(self.connection.recipient());
        let close = outbox.closing().unwrap_or(GONE);
        outbox.end_with_socket();
        self.connection.leave_all();
        close
    }

    async fn say_good_bye(&mut self, end: End) -> Close {
        let outbox = Arc::clone(self.connection.recipient());
        let within = self.connection.shared().limits.close_timeout;
        // Before the leaving begins, because it may hold what `on_leave` waits for. What a client said before it went is
        // carried out if that takes no time, as with a last message and then the close; otherwise it is dropped.
        if let (Some(work), End::Left(_) | End::Gone) = (self.work.take(), &end)
            && let Ok(Done::Joined(joined)) = timeout(within, work).await
        {
            // Kept, so that its `on_leave` follows its `on_join`.
            self.connection.keep(joined);
        }
        let (close, mut peer) = match end {
            End::Closing(close) => (close, Peer::new(&mut self.stream)),
            End::Left(close) => (close, Peer::that_left(&mut self.stream)),
            End::Gone => return self.leave_socket(),
        };
        outbox.close(close.clone(), Waiting::Drop);
        self.connection.leave_all();
        let shared = self.connection.shared();
        // A process that goes down has that much time for a member that is slow.
        let flush_by = shared.drain.get().filter(|drain| drain.close == close).map(crate::drain::Drain::flush_by);
        farewell(&outbox, &mut peer, &shared.limits, flush_by).await;
        outbox.closing().unwrap_or(close)
    }
}
