//! A command under way.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    close::Close,
    connection::Joined,
    message::Message,
    protocol::{self, ErrorCode, Fault, Ref},
    room_key::RoomKey,
};

pub(super) const NOT_ALLOWED: Fault = Fault::new(ErrorCode::NotAllowed, "not allowed");

/// A command under way. It owns what it needs, so that the connection goes on beside it. Dropping a join leaves the room.
pub(super) type Work = Pin<Box<Working<dyn Future<Output = Done> + Send>>>;

pin_project! {
    /// In one allocation with what is known of it.
    pub(super) struct Working<F: ?Sized> {
        joining: Option<Joining>,
        #[pin]
        future: F,
    }
}

/// A join.
struct Joining {
    room: RoomKey,
    asked: Asked,
    /// Its rule is to be asked again, as what it answered may have been what was right before.
    recheck: bool,
}

/// Who asked for a join.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    ByClient(Option<Arc<Ref>>),
    /// Nobody whom an answer is owed.
    ByServer,
}

impl Asked {
    pub(super) fn reference(&self) -> Option<&Arc<Ref>> {
        match self {
            Self::ByClient(reference) => reference.as_ref(),
            Self::ByServer => None,
        }
    }
}

/// What came of a command.
pub(super) enum Done {
    /// A place in a room, to be kept.
    Joined(Joined),
    /// Something to say.
    Answer(Message),
    /// It goes on in a room, and was given so many bytes of what it missed.
    Resumed(usize),
    /// It is done, and there is nothing to say.
    Silently,
    /// The connection has to end.
    Over(Close),
}

impl Done {
    /// The room that was joined.
    pub(super) fn joined(&self) -> Option<&RoomKey> {
        match self {
            Self::Joined(joined) => joined.room(),
            _ => None,
        }
    }
}

/// Begins some work.
pub(super) fn work(future: impl Future<Output = Done> + Send + 'static) -> Work {
    Box::pin(Working { joining: None, future })
}

/// Begins a join.
pub(super) fn joining(room: RoomKey, asked: Asked, future: impl Future<Output = Done> + Send + 'static) -> Work {
    Box::pin(Working { joining: Some(Joining { room, asked, recheck: false }), future })
}

impl<F: ?Sized> Working<F> {
    /// Whether it is the join of this room.
    pub(super) fn joins(&self, room: &RoomKey) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.room == *room)
    }

    /// Whether the rule of the room that it joins is to be asked again.
    pub(super) fn is_to_recheck(&self) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.recheck)
    }

    /// Has the rule asked again, where it is a join of this room, or of any.
    pub(super) fn recheck(self: Pin<&mut Self>, of: Option<&RoomKey>) {
        if let Some(joining) = self.project().joining {
            joining.recheck |= of.is_none_or(|of| *of == joining.room);
        }
    }

    /// What a client is told whose join is dropped; `None` where it did not ask.
    pub(super) fn refusal(&self) -> Option<Message> {
        let Joining { room, asked: Asked::ByClient(reference), .. } = self.joining.as_ref()? else { return None };
        Some(protocol::error(&NOT_ALLOWED.of(room), reference.as_deref()))
    }
}

impl<F: Future<Output = Done> + ?Sized> Future for Working<F> {
    type Output = Done;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        self.project().future.poll(cx)
    }
}
