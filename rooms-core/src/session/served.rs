//! The future that a connection's task runs, from its upgrade to its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Sink, future::BoxFuture};

use super::{End, Session, Source, refuse};
use crate::{close::Close, limits::Limits, message::Message, outbox::GONE};

/// The life of a connection, as the future that its task runs.
///
/// A task keeps the memory of its largest moment for as long as it lives. So only what an idle connection needs is in place;
/// its beginning and its end, which are short and large, are boxed.
pub(crate) enum Served<R> {
    /// The upgrade, and whatever else comes before the connection is known.
    Opening(BoxFuture<'static, Self>),
    Session(Session<R>),
    Ending(BoxFuture<'static, Close>),
}

impl<R: Source> Served<R> {
    /// No connection came of it.
    pub(crate) fn over() -> Self {
        Self::Ending(Box::pin(std::future::ready(GONE)))
    }

    /// Notes in the span of an upgrade what came of it.
    pub(crate) fn note_in(&self, upgrade: &tracing::Span) {
        if let Self::Session(session) = self {
            upgrade.record("connection", tracing::field::display(session.connection.id()));
            upgrade.record("outcome", "connected");
        } else {
            upgrade.record("outcome", "no_place");
        }
    }

    /// Tells a client why it is not let in.
    pub(crate) fn refused<S>((stream, sink): (R, S), close: Close, limits: Limits) -> Self
    where
        S: Sink<Message> + Unpin + Send + 'static,
    {
        Self::Ending(Box::pin(async move {
            refuse(stream, sink, close.clone(), &limits).await;
            close
        }))
    }

    /// Calls a function at its end.
    pub(crate) fn and_then(self, hook: impl FnOnce(Close) + Send + 'static) -> Self {
        Self::Ending(Box::pin(async move {
            let close = self.await;
            hook(close.clone());
            close
        }))
    }
}

impl<R: Source> Future for Served<R> {
    type Output = Close;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Close> {
        while let Self::Opening(opening) = &mut *self {
            *self = ready!(opening.as_mut().poll(cx));
        }
        if let Self::Session(session) = &mut *self {
            let end = ready!(session.poll_end(cx));
            if let (End::Gone, None) = (&end, &session.work) {
                return Poll::Ready(session.gone());
            }
            // In its place for the moment in which it is moved.
            let nothing = Self::Ending(Box::pin(std::future::pending()));
            if let Self::Session(session) = std::mem::replace(&mut *self, nothing) {
                *self = Self::Ending(Box::pin(session.end(end)));
            }
        }
        match &mut *self {
            Self::Ending(end) => end.as_mut().poll(cx),
            Self::Opening(_) | Self::Session(_) => Poll::Pending,
        }
    }
}
