//! What the application of one node has all nodes do to connections, once and best effort.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    close::{Close, CloseCode, MAX_REASON},
    json,
    node::ConnectionId,
    room_key::{RoomKey, check_id},
};

/// The longest name of a claim, in bytes. 256: claims that are URLs.
pub(crate) const MAX_CLAIM: usize = 256;

/// The longest value of a claim that is looked for, in bytes of JSON. 1,024: a longer one is no id of a session.
pub(crate) const MAX_CLAIM_VALUE: usize = 1024;

/// Orders that are remembered, so that none is carried out twice. 4,096: a minute at 68 a second, some 100 kB.
const REMEMBERED: usize = 4096;

/// How old an order may be, by the clocks of both nodes. A minute: more than any way through a bus, and than the difference
/// between clocks that are kept right. Who repeats an older one is ignored.
const OLDEST_MS: u64 = 60_000;

/// What every node does to the connections that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum NodeOrder {
    Kick {
        room: RoomKey,
        user: Box<str>,
        reason: Box<str>,
    },
    Enter {
        room: RoomKey,
        user: Box<str>,
    },
    Leave {
        room: RoomKey,
        user: Box<str>,
    },
    /// The rule of one room, for its members.
    RecheckRoom {
        room: RoomKey,
    },
    /// The rules of all rooms that the user is in.
    RecheckUser {
        user: Box<str>,
    },
    Disconnect {
        whom: Whom,
        code: u16,
        reason: Box<str>,
    },
    /// The payload is JSON, as text.
    Send {
        to: ConnectionId,
        payload: Box<str>,
    },
}

/// Which connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Whom {
    User(Box<str>),
    Connection(ConnectionId),
    /// Those whose claim of this name has this value.
    Claim {
        name: Box<str>,
        value: Value,
    },
}

impl NodeOrder {
    pub(crate) fn disconnect(whom: Whom, close: &Close) -> Self {
        Self::Disconnect { whom, code: close.code().get(), reason: close.reason().into() }
    }

    /// Whether it may stand in a message of another node's, where payloads have at most so many bytes.
    pub(super) fn check(&self, max_payload: usize) -> Result<(), &'static str> {
        let is_user = |user: &str| check_id(user).is_ok();
        let fits = match self {
            Self::Kick { user, reason, .. } => is_user(user) && reason.len() <= MAX_REASON,
            Self::Enter { user, .. } | Self::Leave { user, .. } | Self::RecheckUser { user } => is_user(user),
            Self::RecheckRoom { .. } => true,
            Self::Disconnect { whom, code, reason } => {
                whom.is_valid() && CloseCode::new(*code).is_some() && reason.len() <= MAX_REASON
            }
            Self::Send { payload, .. } => payload.len() <= max_payload && json::check(payload.as_bytes()).is_ok(),
        };
        if fits { Ok(()) } else { Err("an order beyond its bounds") }
    }
}

impl Whom {
    fn is_valid(&self) -> bool {
        match self {
            Self::User(user) => check_id(user).is_ok(),
            Self::Connection(_) => true,
            Self::Claim { name, value } => name.len() <= MAX_CLAIM && value.to_string().len() <= MAX_CLAIM_VALUE,
        }
    }
}

/// The orders that were carried out lately.
#[derive(Debug, Default)]
pub(super) struct SeenOrders {
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

/// What an order is by its number and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// To be carried out.
    New,
    Before,
    /// Made so long ago, or ahead, that nobody knows any more whether it was seen before: in milliseconds.
    TooOld(u64),
}

impl SeenOrders {
    /// Times are in milliseconds since 1970.
    pub(super) fn see(&mut self, id: u64, at: u64, now: u64) -> Seen {
        let age = at.abs_diff(now);
        if age > OLDEST_MS {
            return Seen::TooOld(age);
        }
        if !self.ids.insert(id) {
            return Seen::Before;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        Seen::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_carried_out_once_and_not_when_it_is_old() {
        let mut seen = SeenOrders::default();
        assert_eq!(seen.see(1, 100_000, 100_000), Seen::New);
        assert_eq!(seen.see(1, 100_000, 100_000), Seen::Before, "it comes twice");
        // Clocks differ.
        assert_eq!((seen.see(2, 40_000, 100_000), seen.see(3, 160_000, 100_000)), (Seen::New, Seen::New));
        assert_eq!(seen.see(4, 39_999, 100_000), Seen::TooOld(60_001));
        assert_eq!(seen.see(5, 160_001, 100_000), Seen::TooOld(60_001));
        for id in 10..100_000 {
            assert_eq!(seen.see(id, 100_000, 100_000), Seen::New);
        }
        assert_eq!((seen.ids.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn what_another_node_orders_is_within_bounds() {
        let read = |text: &str| {
            serde_json::from_str::<NodeOrder>(text).map_err(drop).and_then(|order| order.check(10).map_err(drop))
        };
        for good in [
            r#"{"kick":{"room":"post:42","user":"5","reason":"spam"}}"#,
            r#"{"recheck_room":{"room":"post:42"}}"#,
            r#"{"recheck_user":{"user":"5"}}"#,
            r#"{"disconnect":{"whom":{"user":"5"},"code":4403,"reason":""}}"#,
            r#"{"disconnect":{"whom":{"claim":{"name":"sid","value":[1]}},"code":4403,"reason":""}}"#,
            r#"{"send":{"to":"1-2","payload":"{\"a\":1}"}}"#,
        ] {
            assert_eq!(read(good), Ok(()), "{good}");
        }
        let (long, name) = ("x".repeat(124), "x".repeat(257));
        for bad in [
            r#"{"kick":{"room":"post:42","user":"5"}}"#,
            r#"{"kick":{"room":"post","user":"5","reason":""}}"#,
            r#"{"kick":{"room":"post:42","user":"a b","reason":""}}"#,
            r#"{"kick":{"room":"post:42","user":"5","reason":"","also":1}}"#,
            &format!(r#"{{"kick":{{"room":"post:42","user":"5","reason":"{long}"}}}}"#),
            r#"{"recheck_user":{"user":""}}"#,
            r#"{"disconnect":{"whom":{"user":"5"},"code":1006,"reason":""}}"#,
            r#"{"disconnect":{"whom":{"user":"5"},"code":70000,"reason":""}}"#,
            r#"{"disconnect":{"whom":{"everybody":{}},"code":4403,"reason":""}}"#,
            &format!(r#"{{"disconnect":{{"whom":{{"user":"5"}},"code":4403,"reason":"{long}"}}}}"#),
            &format!(
                r#"{{"disconnect":{{"whom":{{"claim":{{"name":"{name}","value":1}}}},"code":4403,"reason":""}}}}"#
            ),
            r#"{"send":{"to":"1-2","payload":"12345678901"}}"#,
            r#"{"send":{"to":"1-2","payload":"{"}}"#,
            r#"{"send":{"to":"1","payload":"1"}}"#,
            r#"{"shut_down":{}}"#,
        ] {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
    }
}
