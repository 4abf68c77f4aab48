//! Why a connection is not taken, or does not get into a room.

use std::time::Duration;

use crate::{
    close::{Close, CloseCode},
    kind::HookError,
    room_key::RoomKey,
};

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The user has too many connections on this node.
    #[error("the user has {limit} connections on this node, and no more are allowed")]
    TooManyConnections {
        /// `Limits::max_connections_per_user`.
        limit: usize,
    },
    /// The identity is [revoked](crate::RoomManager::revoke).
    #[error("the token, or its user, is revoked")]
    Revoked,
    /// Too many connections come from this address.
    #[error("there are {limit} connections from this address, and no more are allowed")]
    TooManyFromAddress {
        /// `Limits::max_connections_per_ip`.
        limit: usize,
    },
    /// The node has as many connections as it may.
    #[error("this node has {limit} connections, and no more are allowed")]
    NodeFull {
        /// `Limits::max_connections`.
        limit: usize,
    },
    /// The manager is shutting down.
    #[error("the process is shutting down")]
    Draining,
    /// The tokio runtime that the manager was built in has ended, so that nothing would be sent.
    #[error("the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded,
}

impl ConnectError {
    /// The close that tells the client. While the process is shutting down a session uses the close of its
    /// [`Shutdown`](crate::Shutdown) in place of this one.
    #[must_use]
    pub const fn close(&self) -> Close {
        match self {
            Self::TooManyConnections { .. } | Self::TooManyFromAddress { .. } => Close::TOO_MANY_CONNECTIONS,
            Self::Revoked => Close::REVOKED,
            Self::Draining => Close::RESTART,
            Self::NodeFull { .. } | Self::RuntimeEnded => Close::UNAVAILABLE,
        }
    }

    /// What it is called in the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::TooManyConnections { .. } => "user_limit",
            Self::Revoked => "revoked",
            Self::TooManyFromAddress { .. } => "address_limit",
            Self::NodeFull { .. } => "node_full",
            Self::Draining => "draining",
            Self::RuntimeEnded => "runtime_ended",
        }
    }
}

/// Why a connection did not get into a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The rule of the kind said no, or there is no such kind.
    #[error("{room}: not allowed")]
    NotAllowed {
        /// Where.
        room: RoomKey,
    },
    /// The rule of the kind decided [`Decision::Unavailable`](crate::Decision::Unavailable), panicked, or took longer than
    /// `Limits::rule_timeout`.
    #[error("{room}: the rule of the kind could not decide just now")]
    RuleUnavailable {
        /// Where.
        room: RoomKey,
    },
    /// The connection is in too many rooms.
    #[error("{room}: the connection is in {limit} rooms, and no more are allowed")]
    TooManyRooms {
        /// Where.
        room: RoomKey,
        /// `Limits::max_rooms_per_connection`.
        limit: usize,
    },
    /// A client's join would make a room on this node, and its user has made too many in a short time; see
    /// `Limits::new_rooms_per_second_per_user`. Not for [`Connection::join`](crate::Connection::join), which the application calls.
    #[error("{room}: the user has joined too many rooms that were new on this node; the next one in {retry_after:?}")]
    TooManyNewRooms {
        /// Where.
        room: RoomKey,
        /// When one more is let through.
        retry_after: Duration,
    },
    /// The bus did not confirm the subscription, or give the history or the state, in time; see `Limits::subscribe_timeout`.
    /// Or the connection was given more of them than `Limits::max_replay_bytes` just now.
    #[error("{room}: the bus did not confirm the subscription or give the history")]
    Unavailable {
        /// Where.
        room: RoomKey,
    },
    /// The tokio runtime that the manager was built in has ended, so that nothing would be sent.
    #[error("{room}: the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded {
        /// Where.
        room: RoomKey,
    },
    /// The `on_join` hook returned an error, panicked, or took longer than `Limits::hook_timeout`.
    #[error("{room}: the `on_join` hook refused the join")]
    Refused {
        /// Where.
        room: RoomKey,
        /// The error of the hook.
        source: HookError,
    },
}

impl JoinError {
    pub(super) const fn room(&self) -> &RoomKey {
        match self {
            Self::NotAllowed { room }
            | Self::RuleUnavailable { room }
            | Self::TooManyRooms { room, .. }
            | Self::TooManyNewRooms { room, .. }
            | Self::Unavailable { room }
            | Self::RuntimeEnded { room }
            | Self::Refused { room, .. } => room,
        }
    }

    /// The close that tells the client.
    #[must_use]
    pub fn close(&self) -> Close {
        match self {
            Self::NotAllowed { .. } => Close::NOT_ALLOWED,
            Self::TooManyRooms { .. } => Close::new(CloseCode::POLICY, "too many rooms"),
            Self::TooManyNewRooms { .. } => Close::TOO_MANY_MESSAGES,
            Self::RuleUnavailable { .. } | Self::Unavailable { .. } | Self::RuntimeEnded { .. } => Close::UNAVAILABLE,
            Self::Refused { source, .. } => source.clone().into_close(),
        }
    }

    /// What it is called in the metrics.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "not_allowed",
            Self::RuleUnavailable { .. } => "rule_unavailable",
            Self::TooManyRooms { .. } => "too_many_rooms",
            Self::TooManyNewRooms { .. } => "too_many_new_rooms",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::RuntimeEnded { .. } => "runtime_ended",
        }
    }
}
