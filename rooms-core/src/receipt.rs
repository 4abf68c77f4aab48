//! What became of a broadcast, or why it failed.

use crate::{
    auth::IdentityError,
    bus::{Appended, BusError, IdempotencyKeyError, Position},
    room_key::RoomKey,
};

/// What became of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How far it went.
    pub reach: Reach,
    /// Its position in the history of the room, where the kind has one. Members are given it as `offset` beside the
    /// message: the answer of a REST handler may carry it to the page that posted, which can then leave out its own.
    pub position: Option<Position>,
    /// A broadcast with the same idempotency key was there before, at that position, and this one did nothing.
    pub repeated: bool,
}

impl Receipt {
    /// Of what went so far, and what the history says of it.
    pub(crate) fn of(reach: Reach, appended: Option<Appended>) -> Self {
        let repeated = matches!(appended, Some(Appended::Before(_)));
        Self { reach, position: appended.map(|appended| appended.position()), repeated }
    }
}

/// How far a broadcast went, or an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// To every node that it concerns: the bus has it.
    AllNodes,
    /// To this node's members alone: the bus is down.
    LocalOnly,
}

/// Why a broadcast failed. Nobody got it, except perhaps with [`BusError::Unknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The value does not encode as JSON.
    #[error("{room}: the payload does not encode as JSON")]
    Encode {
        /// Where.
        room: RoomKey,
        /// Why.
        source: serde_json::Error,
    },
    /// The kind [declares](crate::Kind::events) another type for its events. Only in builds with debug assertions: in release
    /// builds the value is sent.
    #[error("{room}: the events of this kind are `{declared}`, and a `{came}` was to be sent")]
    OtherType {
        /// Where.
        room: RoomKey,
        /// The name of the declared type.
        declared: &'static str,
        /// The name of the type that came.
        came: &'static str,
    },
    /// The kind [declares](crate::Kind::state) another type for its state. Only in builds with debug assertions: in release
    /// builds the state is set.
    #[error("{room}: the state in this kind is a `{declared}`, and a `{came}` was to be set")]
    OtherState {
        /// Where.
        room: RoomKey,
        /// The name of the declared type.
        declared: &'static str,
        /// The name of the type that came.
        came: &'static str,
    },
    /// The payload is too long.
    #[error("{room}: the payload has {length} bytes, and at most {limit} are allowed")]
    TooBig {
        /// Where.
        room: RoomKey,
        /// The bytes there are.
        length: usize,
        /// `Limits::max_broadcast_bytes`.
        limit: usize,
    },
    /// The payload is nested deeper than 64 levels, which no node would pass on.
    #[error("{room}: the payload is nested more than 64 deep")]
    TooDeep {
        /// Where.
        room: RoomKey,
    },
    /// The state is another one than the writer knows: somebody else has set it meanwhile.
    #[error("{room}: the state was set by somebody else meanwhile")]
    Conflict {
        /// Where.
        room: RoomKey,
        /// The revision of the state that there is; `None` where there is none.
        current: Option<Position>,
    },
    /// The kind keeps no state; see [`Kind::keep_state`](crate::Kind::keep_state).
    #[error("{room}: rooms of this kind keep no state")]
    NoState {
        /// Where.
        room: RoomKey,
    },
    /// The state of the room does not decode as the type that was asked for.
    #[error("{room}: the state is not what it was decoded as")]
    Decode {
        /// Where.
        room: RoomKey,
        /// Why.
        source: serde_json::Error,
    },
    /// There can be no such user.
    #[error("no user has this id")]
    User(#[source] IdentityError),
    /// It has an idempotency key, and the kind of the room has no history that could tell a repetition.
    #[error("{room}: an idempotency key needs a kind with a history")]
    NoHistory {
        /// Where.
        room: RoomKey,
    },
    /// The idempotency key is none.
    #[error("{room}: the idempotency key is not allowed")]
    IdempotencyKey {
        /// Where.
        room: RoomKey,
        /// Why.
        source: IdempotencyKeyError,
    },
    /// The tokio runtime that the manager was built in has ended, so that nobody would be given it.
    #[error("{room}: the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded {
        /// Where.
        room: RoomKey,
    },
    /// The bus refused it, or gave no answer.
    #[error("{room}: the bus did not take the message")]
    Bus {
        /// Where.
        room: RoomKey,
        /// Why.
        source: BusError,
    },
}

/// What became of a broadcast, as metrics and spans call it.
pub(crate) const fn word(outcome: &Result<Receipt, BroadcastError>) -> &'static str {
    match outcome {
        Ok(receipt) if receipt.repeated => "repeated",
        Ok(Receipt { reach: Reach::AllNodes, .. }) => "all_nodes",
        Ok(Receipt { reach: Reach::LocalOnly, .. }) => "local_only",
        Err(error) => error.word(),
    }
}

impl BroadcastError {
    const fn word(&self) -> &'static str {
        match self {
            Self::TooBig { .. } => "too_big",
            Self::TooDeep { .. } => "too_deep",
            Self::Bus { source: BusError::Down, .. } => "bus_down",
            Self::Bus { source: BusError::Unknown(_), .. } => "bus_unknown",
            Self::Bus { source: BusError::Overloaded, .. } => "bus_overloaded",
            Self::Bus { .. } => "bus_refused",
            _ => "other",
        }
    }
}
