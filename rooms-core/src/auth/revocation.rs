//! What is no longer good although its time is not over: users, tokens, all that was issued before some time.

mod list;
mod set;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub(crate) use self::list::RevocationList;
use super::IdentityError;
use crate::{
    limits::FOREVER,
    room_key::{MAX_ID, check_id},
};

/// The longest `jti` that can be revoked, in bytes. 256: seven UUIDs, and with all quotes escaped a thousand of them fit in
/// one message between nodes.
const MAX_JTI: usize = 256;

/// What is revoked, on all nodes, until it ends; see [`RoomManager::revoke`](crate::RoomManager::revoke).
///
/// | what | for |
/// |---|---|
/// | [`User`](Self::User) | an account that is closed or barred: nothing of this user is good, however new |
/// | [`IssuedBefore`](Self::IssuedBefore) with a user | "log out everywhere", a new password: who signs in again gets in |
/// | [`Jti`](Self::Jti) | one token, as when somebody signs out on one device |
/// | [`IssuedBefore`](Self::IssuedBefore) without a user | a signing key that leaked: everybody signs in again |
///
/// `jti` and `iat` are claims (RFC 7519 sections 4.1.7 and 4.1.6). An [`Authenticator`](crate::Authenticator) of the
/// application's own gives its identities these claims, such as the id of a session as `jti`, so that they can be revoked so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// All identities of this user, also those of tokens that are yet to be issued. The id as identities have it: for
    /// `o'brien@example.com` that is [`Identity::encode`](crate::Identity::encode)`(..)?.user()`.
    User(String),
    /// The token with this `jti`, of at most 256 bytes without control characters.
    Jti(String),
    /// All whose `iat` is earlier, and all without an `iat`. `iat` is in seconds most of the time: a token that is issued in
    /// the same second, later than this, may be taken for an earlier one, and its client has to come with the next one.
    ///
    /// `iat` is by the issuer's clock, and is compared as it is. Where that clock may be ahead, as `iat_leeway` allows, give the
    /// time plus that leeway: otherwise what was issued within it before the call stays good. Who signs in again within it is
    /// refused then, and has to come once more.
    IssuedBefore {
        /// The time, most often now.
        time: SystemTime,
        /// Those of this user alone; `None` for all users.
        user: Option<String>,
    },
}

/// Why nothing was revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// There can be no such user; ids of any text are encoded first, by [`Identity::encode`](crate::Identity::encode).
    #[error("no user has this id")]
    User(#[source] IdentityError),
    /// The `jti` is empty, too long, or has control characters.
    #[error("a `jti` that can be revoked has 1 to {MAX_JTI} bytes, and no control characters")]
    Jti,
    /// It would end more than 366 days ahead.
    #[error("a revocation ends within 366 days")]
    TooFar,
    /// There are too many. `IssuedBefore` without a user is one that covers many.
    #[error("{limit} revocations are in force, and no more are allowed")]
    Full {
        /// `Limits::max_revocations`.
        limit: usize,
    },
}

/// A revocation as nodes keep it, and tell it. Ordered, so that all of one user's lie side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Revoked {
    User(Box<str>),
    Jti(Box<str>),
    /// Of one user or of all; in milliseconds since 1970.
    Before(Option<Box<str>>, u64),
}

/// A revocation, and when it ends, in milliseconds since 1970.
pub(crate) type Ending = (Revoked, u64);

impl Revocation {
    pub(crate) fn checked(self) -> Result<Revoked, RevokeError> {
        let user = |user: String| match check_id(&user) {
            Ok(()) => Ok(user.into_boxed_str()),
            Err(error) => Err(RevokeError::User(error.into())),
        };
        match self {
            Self::User(id) => user(id).map(Revoked::User),
            Self::Jti(jti) if is_jti(&jti) => Ok(Revoked::Jti(jti.into())),
            Self::Jti(_) => Err(RevokeError::Jti),
            Self::IssuedBefore { time, user: id } => Ok(Revoked::Before(id.map(user).transpose()?, millis(time))),
        }
    }
}

impl Revoked {
    /// Whether it may stand in a message of another node's.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::User(user) | Self::Before(Some(user), _) => user.len() <= MAX_ID && check_id(user).is_ok(),
            Self::Jti(jti) => is_jti(jti),
            Self::Before(None, _) => true,
        }
    }

    /// The user whom it concerns, where it is one.
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Self::User(user) | Self::Before(Some(user), _) => Some(user),
            Self::Jti(_) | Self::Before(None, _) => None,
        }
    }
}

fn is_jti(jti: &str) -> bool {
    (1..=MAX_JTI).contains(&jti.len()) && !jti.chars().any(char::is_control)
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().min(FOREVER).as_millis()).unwrap_or(u64::MAX)
}
