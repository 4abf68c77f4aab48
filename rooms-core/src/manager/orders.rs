//! Putting somebody out, and in: a room, a user, a connection, on all nodes.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::RoomManager;
use crate::{
    auth::{IdentityError, Revocation, RevokeError},
    bus::BusError,
    close::{Close, MAX_REASON},
    context::{SEARCHES, Shared, TooManySearches},
    json,
    node::ConnectionId,
    presence::{MAX_CLAIM, MAX_CLAIM_VALUE, MAX_PAYLOAD, NodeOrder, Told, Whom},
    receipt::Reach,
    room_key::{RoomKey, check_id},
};

/// Why an order was not carried out everywhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There can be no such user. Nothing was done.
    #[error("no user has this id")]
    User(#[source] IdentityError),
    /// There is no such connection on this node, which made its id. Nothing was done.
    #[error("the connection {connection} has ended")]
    NoConnection {
        /// Which.
        connection: ConnectionId,
    },
    /// What is told, or looked for, is too long, or is nested more than 64 deep. Nothing was done.
    #[error("{what} has {length} bytes, and at most {limit} are allowed, 64 levels deep")]
    TooBig {
        /// What is too long.
        what: &'static str,
        /// The bytes there are.
        length: usize,
        /// Those that there may be.
        limit: usize,
    },
    /// The value does not encode as JSON. Nothing was done.
    #[error("the value does not encode as JSON")]
    Encode(#[source] serde_json::Error),
    /// As many calls of [`disconnect_where`](RoomManager::disconnect_where) wait on this node as may. Nothing was done, on any
    /// node: call again later.
    #[error("{limit} calls of `disconnect_where` wait on this node, and no more may")]
    TooManySearches {
        /// The calls that may wait.
        limit: usize,
    },
    /// It was carried out on this node, and the bus did not take it for the others, or gave no answer.
    #[error("the bus did not take the order for the other nodes")]
    Bus(#[source] BusError),
}

/// Orders: they are carried out at once, on this node and on all that the bus reaches, and are not repeated. A node that the
/// bus does not reach just then does not hear of them: what must hold is [revoked](RoomManager::revoke), or is what the rules
/// read. Nor does a node whose clock is more than a minute off: it takes an order of that age for one that somebody repeats.
///
/// Each returns how far it went: [`Reach::AllNodes`] where the bus has it, and [`Reach::LocalOnly`] where the bus is down and
/// it was carried out on this node alone. Dropping the future after it was polled once is the same as an error of the bus:
/// it was carried out here, and perhaps elsewhere.
impl<S> RoomManager<S> {
    /// Puts a user out of a room, at once and without `leave_grace`, on all nodes: also one whose join is under way, and one
    /// who left and is still shown. The user's other rooms and connections stay.
    ///
    /// On a connection for many rooms the client is told `room_left` with the reason `kicked` and these words, if any; a
    /// connection that is for this room alone is closed with 4403 and these words. So is one that the application
    /// [drives](crate::Connection::drive) by itself and is in this room, with all its rooms. At most [`MAX_REASON`] bytes.
    ///
    /// The user's id is as identities have it: of any text, [`Identity::encode`](crate::Identity::encode)`(..)?.user()`.
    ///
    /// It does not keep anybody from joining again; the rule of the kind does. Change first what the rule reads: a join that
    /// was allowed before is then put out, and one that comes afterwards is refused.
    ///
    /// # Errors
    /// [`OrderError`].
    ///
    /// ```
    /// use rooms_core::{RoomKey, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let rooms: RoomManager = RoomManager::builder().build()?;
    /// rooms.kick(&RoomKey::new("board", 7)?, "5", "You are not on this board any more.").await?;
    /// assert!(rooms.kick(&RoomKey::new("board", 7)?, "no user", "").await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn kick(&self, room: &RoomKey, user: &str, reason: &str) -> Result<Reach, OrderError> {
        fits("the reason", reason.len(), MAX_REASON)?;
        self.order(NodeOrder::Kick { room: room.clone(), user: checked(user)?, reason: reason.into() }).await
    }

    /// Closes all connections of a user, on all nodes. What waits for them goes out first; they leave their rooms at once,
    /// without `leave_grace`. The user may connect again, which [`revoke`](Self::revoke) prevents. What a page does depends on
    /// the code, see [`CloseCode`](crate::CloseCode). The user's id is as for [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn disconnect_user(&self, user: &str, close: Close) -> Result<Reach, OrderError> {
        self.order(NodeOrder::disconnect(Whom::User(checked(user)?), &close)).await
    }

    /// Closes all connections whose identity has this value in this claim, on all nodes; as
    /// [`disconnect_user`](Self::disconnect_user). For one session of a user: `disconnect_where("sid", "8f3a", close)`.
    ///
    /// Each node reads the claims of all its connections, which takes some 100 ms for a hundred thousand; one call after
    /// another. 1,024 calls wait on each node, and one more is an error; another node where so many wait does nothing and
    /// logs a `warn`, which this call does not learn. Revocations do not wait for them, so
    /// [`revoke`](Self::revoke) what must hold. Name and value have at most 256 and 1,024 bytes.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn disconnect_where(
        &self,
        claim: &str,
        value: impl Into<Value>,
        close: Close,
    ) -> Result<Reach, OrderError> {
        let value = value.into();
        fits("the name of the claim", claim.len(), MAX_CLAIM)?;
        let text = value.to_string();
        fits("the value of the claim", text.len(), MAX_CLAIM_VALUE)?;
        is_flat("the value of the claim", &text, MAX_CLAIM_VALUE)?;
        self.order(NodeOrder::disconnect(Whom::Claim { name: claim.into(), value }, &close)).await
    }

    /// Closes one connection, on whichever node it is; as [`disconnect_user`](Self::disconnect_user).
    ///
    /// # Errors
    /// [`OrderError`]; [`OrderError::NoConnection`] only where this node made the id.
    pub async fn disconnect(&self, connection: ConnectionId, close: Close) -> Result<Reach, OrderError> {
        self.order_at(connection, NodeOrder::disconnect(Whom::Connection(connection), &close)).await
    }

    /// Sends a value, as JSON, to one connection, on whichever node it is. On a connection for many rooms it travels as
    /// `{"type":"message","data":..}` without a room, and bare on one that is for one room. At most
    /// `Limits::max_broadcast_bytes`, and at most some 511 KiB. It is of no room, so its type is compared with none that a kind
    /// declares. It is not kept for a connection that has ended.
    ///
    /// # Errors
    /// [`OrderError`]; [`OrderError::NoConnection`] only where this node made the id.
    pub fn send_to<T: Serialize + ?Sized>(
        &self,
        connection: ConnectionId,
        value: &T,
    ) -> impl Future<Output = Result<Reach, OrderError>> + Send + use<'_, S, T> {
        let payload = serde_json::to_string(value).map_err(OrderError::Encode);
        let (shared, limit) = (Arc::clone(&self.shared), self.shared.limits.max_broadcast_bytes.min(MAX_PAYLOAD));
        async move {
            let payload = payload?;
            fits("the payload", payload.len(), limit)?;
            is_flat("the payload", &payload, limit)?;
            shared.order_at(connection, NodeOrder::Send { to: connection, payload: payload.into() }).await
        }
    }

    /// Asks the rule of a room again about each of its members, on all nodes: "an admin removed a member of the board". Who
    /// is not allowed any more leaves, without `leave_grace`; the client is told `room_left` with the reason `not_allowed`,
    /// or is closed with 4403 where its connection is for this room alone. A join that is under way is asked about again.
    ///
    /// Returns before the rules have answered. A rule that can't decide puts nobody out, and a warning says so. At most 64 of
    /// the application's rules are asked at once on a node. Connections that the application
    /// [drives](crate::Connection::drive) by itself are not asked about.
    ///
    /// # Errors
    /// [`OrderError::Bus`].
    pub async fn recheck(&self, room: &RoomKey) -> Result<Reach, OrderError> {
        self.order(NodeOrder::RecheckRoom { room: room.clone() }).await
    }

    /// [`recheck`](Self::recheck), of all rooms that a user is in.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn recheck_user(&self, user: &str) -> Result<Reach, OrderError> {
        self.order(NodeOrder::RecheckUser { user: checked(user)? }).await
    }

    /// Has all connections of a user that are for many rooms enter a room, on all nodes, as if each had sent `join`: its rule
    /// is asked, `on_join` runs, and the client is given a `room_joined` that it did not ask for. Where the rule or the hook
    /// says no nothing happens, and nobody is told.
    ///
    /// It is about the connections that there are now. One that comes back is in the room only if it joins it, or is made to
    /// enter it again.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn enter(&self, user: &str, room: &RoomKey) -> Result<Reach, OrderError> {
        self.order(NodeOrder::Enter { room: room.clone(), user: checked(user)? }).await
    }

    /// Has all connections of a user that are for many rooms leave a room, on all nodes, as if each had sent `leave`; the
    /// client is told `room_left` with the reason `left`. It may join again. See [`kick`](Self::kick) for who may not stay.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn leave(&self, user: &str, room: &RoomKey) -> Result<Reach, OrderError> {
        self.order(NodeOrder::Leave { room: room.clone(), user: checked(user)? }).await
    }

    /// Revokes a user or tokens, on all nodes, for `Limits::revocation_time`: their connections are closed with 4410 at once
    /// and leave their rooms without `leave_grace`, and new connections and refreshed tokens are refused until the
    /// revocation ends.
    ///
    /// It is state that the nodes keep, and not an order. Each node tells a digest of what it has with its heartbeats, and
    /// asks for what it lacks: so a revocation that was made while the bus was away is in force on all nodes within a second
    /// after the bus has reported its return; where the bus reports none, after the next heartbeats, which come each
    /// `Limits::heartbeat_interval`. A node that starts later has it within a second of finding the others. It is kept in
    /// memory: where all nodes go down together it is gone, so an account that is closed has to be refused by the
    /// [`Authenticator`](crate::Authenticator), too. It can't be taken back.
    ///
    /// Returns how far it went at once: with [`Reach::LocalOnly`] it is in force on this node, and on the others when the bus
    /// is back. The bus's error is logged and is no error here, as the nodes find it out by themselves. Dropping the future
    /// after it was polled once does not take it back.
    ///
    /// Whoever may publish on the topics of the nodes can revoke: give the nodes a
    /// [key](crate::RoomManagerBuilder::node_key) where these are not alone on their backplane.
    ///
    /// # Errors
    /// [`RevokeError`]; nothing is revoked then. [`RevokeError::Full`] where `Limits::max_revocations` are in force.
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// use rooms_core::{Identity, Revocation, RoomManager};
    /// use futures::channel::mpsc;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let rooms = RoomManager::build_for().build()?;
    /// // "Log out everywhere."
    /// rooms.revoke(Revocation::IssuedBefore { time: SystemTime::now(), user: Some("5".into()) }).await?;
    /// let (sink, _) = mpsc::unbounded();
    /// let old = Identity::new("5")?.with_claims(r#"{"sub":"5","iat":1700000000}"#);
    /// assert!(rooms.connect(old, sink).is_err());
    /// # Ok(()) }
    /// ```
    pub async fn revoke(&self, revocation: Revocation) -> Result<Reach, RevokeError> {
        let end = self.shared.clock.now() + self.shared.limits.revocation_time;
        self.revoke_until(revocation, end).await
    }

    /// [`revoke`](Self::revoke), until a time: such as the `exp` of the token, and the leeway with which it is checked.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke), and [`RevokeError::TooFar`].
    pub async fn revoke_until(&self, revocation: Revocation, end: SystemTime) -> Result<Reach, RevokeError> {
        let shared = &self.shared;
        let revocation = shared.revocations.revoke(revocation.checked()?, end)?;
        shared.obey(Told::Revoked(vec![revocation.0.clone()]));
        match shared.presence.publish_revocation(revocation).await {
            Ok(()) => Ok(Reach::AllNodes),
            Err(error) => {
                tracing::warn!(%error, "a revocation is in force on this node, and on the others once the bus takes it");
                Ok(Reach::LocalOnly)
            }
        }
    }

    async fn order(&self, order: NodeOrder) -> Result<Reach, OrderError> {
        self.shared.carry_out(order.clone())?;
        self.shared.publish_order(order, None).await
    }

    async fn order_at(&self, connection: ConnectionId, order: NodeOrder) -> Result<Reach, OrderError> {
        self.shared.order_at(connection, order).await
    }
}

impl Shared {
    /// Has the node of a connection carry out an order.
    async fn order_at(self: &Arc<Self>, connection: ConnectionId, order: NodeOrder) -> Result<Reach, OrderError> {
        if connection.node() != self.node {
            return self.publish_order(order, Some(connection)).await;
        }
        match self.carry_out(order)? {
            0 => Err(OrderError::NoConnection { connection }),
            _ => Ok(Reach::AllNodes),
        }
    }

    async fn publish_order(&self, order: NodeOrder, to: Option<ConnectionId>) -> Result<Reach, OrderError> {
        match self.presence.order(order, to.map(|connection| connection.node())).await {
            Ok(()) => Ok(Reach::AllNodes),
            Err(BusError::Down) => Ok(Reach::LocalOnly),
            Err(error) => Err(OrderError::Bus(error)),
        }
    }
}

impl From<TooManySearches> for OrderError {
    fn from(TooManySearches: TooManySearches) -> Self {
        Self::TooManySearches { limit: SEARCHES }
    }
}

fn checked(user: &str) -> Result<Box<str>, OrderError> {
    check_id(user).map(|()| user.into()).map_err(|error| OrderError::User(error.into()))
}

fn fits(what: &'static str, length: usize, limit: usize) -> Result<(), OrderError> {
    if length <= limit { Ok(()) } else { Err(OrderError::TooBig { what, length, limit }) }
}

fn is_flat(what: &'static str, text: &str, limit: usize) -> Result<(), OrderError> {
    let too_deep = |_| OrderError::TooBig { what, length: text.len(), limit };
    json::check_depth(text.as_bytes()).map_err(too_deep)
}
