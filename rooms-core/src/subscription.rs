//! What is broadcast to a room, as a stream for the service itself.

mod buffer;

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use self::buffer::{Buffer, Feed};
use crate::{
    bus::Position,
    connection::{JoinError, Watching},
    context::Shared,
    join_options::JoinOptions,
    message::{Message, MessageKind},
    payload::{Payload, PayloadError},
    protocol::{Reason, binary},
    room_key::RoomKey,
};

/// What is broadcast to a room, in its order: a stream that [`RoomManager::subscribe`](crate::RoomManager::subscribe) begins.
///
/// It is in the room as long as it lives, and dropping it leaves. It keeps the manager alive, and ends when that is
/// [shut down](crate::RoomManager::shutdown).
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    watching: Watching,
    buffer: Arc<Buffer>,
    room: RoomKey,
}

/// A [`Subscription`] whose messages are events of one type; see [`Subscription::typed`].
#[must_use = "dropping a subscription ends it"]
pub struct TypedSubscription<E> {
    subscription: Subscription,
    event: PhantomData<fn() -> E>,
}

/// What a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received<T = Payload> {
    /// A message that was broadcast.
    #[non_exhaustive]
    Message {
        /// What was broadcast.
        data: T,
        /// Its place in the history of the room, where the kind has one.
        position: Option<Position>,
    },
    /// Bytes that were broadcast; see [`Broadcast::binary`](crate::Broadcast::binary).
    #[non_exhaustive]
    Binary {
        /// What was broadcast.
        data: Bytes,
        /// Its place in the history of the room, where the kind has one.
        position: Option<Position>,
    },
    /// Messages are missing here, between the one before and the one after.
    Missed(Missed),
}

/// Why messages are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// This stream was not read for so long that the oldest were dropped.
    SlowConsumer,
    /// The bus may have lost some.
    BusGap,
    /// The history does not have all of them any more.
    HistoryGap,
    /// The position that was resumed from is of another log.
    Epoch,
    /// One was broadcast that is too long, of a kind with [`Oversize::Refresh`](crate::Oversize::Refresh).
    TooBig,
}

/// A message that is no event of the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{room}: a message is no `{wanted}`")]
#[non_exhaustive]
pub struct NotTheEvent {
    /// Where.
    pub room: RoomKey,
    /// The name of the type.
    pub wanted: &'static str,
    /// Its place in the history, where the kind has one.
    pub position: Option<Position>,
    /// Why.
    pub source: PayloadError,
}

impl Subscription {
    pub(crate) async fn begin(shared: &Arc<Shared>, room: &RoomKey, options: JoinOptions) -> Result<Self, JoinError> {
        let buffer = Arc::new(Buffer::new(&shared.limits));
        let watching = Watching::enter(shared, room, Feed(Arc::clone(&buffer)), &options).await?;
        Ok(Self { watching, buffer, room: room.clone() })
    }

    /// The room.
    #[must_use]
    pub const fn room(&self) -> &RoomKey {
        &self.room
    }

    /// Reads each message as an event. One that is none, such as of another publisher, is an error, and the stream goes on.
    pub fn typed<E: DeserializeOwned>(self) -> TypedSubscription<E> {
        TypedSubscription { subscription: self, event: PhantomData }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        // Moved only once nothing is left: what a room gives later, as the reader reads, must not push out what waits here.
        if let Poll::Ready(taken) = self.buffer.take(None) {
            return Poll::Ready(taken);
        }
        self.watching.drive(cx);
        self.buffer.take(Some(cx))
    }
}

impl Stream for Subscription {
    type Item = Received;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.poll(cx)
    }
}

impl<E: DeserializeOwned> Stream for TypedSubscription<E> {
    type Item = Result<Received<E>, NotTheEvent>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let room = &self.subscription.room;
        self.subscription.poll(cx).map(|received| {
            Some(match received? {
                Received::Missed(missed) => Ok(Received::Missed(missed)),
                Received::Binary { data, position } => Ok(Received::Binary { data, position }),
                Received::Message { data, position } => match data.parse() {
                    Ok(data) => Ok(Received::Message { data, position }),
                    Err(source) => {
                        Err(NotTheEvent { room: room.clone(), wanted: std::any::type_name::<E>(), position, source })
                    }
                },
            })
        })
    }
}

/// The fields of the server's events that are told to a subscription.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    offset: Option<Position>,
    reason: Option<Reason>,
}

impl Received {
    /// Reads an event; `None` for one that is not for a subscription.
    fn read(message: &Message) -> Option<Self> {
        if message.kind() == MessageKind::Binary {
            let parts = binary::split(message.payload()).ok()?;
            let position = std::str::from_utf8(parts.beside).ok().and_then(|text| text.parse().ok());
            return Some(Self::Binary { data: message.payload_bytes().slice_ref(parts.payload), position });
        }
        let Told { kind, data, offset, reason } = serde_json::from_slice(message.payload()).ok()?;
        match (kind, data, reason) {
            ("message", Some(data), _) => Some(Self::Message { data: Payload::of(data), position: offset }),
            ("resync", _, Some(reason)) => Some(Self::Missed(reason.into())),
            ("refresh", ..) => Some(Self::Missed(Missed::TooBig)),
            _ => None,
        }
    }
}

impl From<Reason> for Missed {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::BusGap => Self::BusGap,
            Reason::SlowConsumer => Self::SlowConsumer,
            Reason::HistoryGap => Self::HistoryGap,
            Reason::Epoch => Self::Epoch,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("room", &self.room).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for TypedSubscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscription.fmt(f)
    }
}
