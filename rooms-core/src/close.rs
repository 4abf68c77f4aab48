//! Why a connection ends: the close codes on the wire, and what a client should do about each.

use std::{borrow::Cow, fmt};

/// A WebSocket close code (RFC 6455 section 7.4).
///
/// | code | constant | when | come back? |
/// |---|---|---|---|
/// | 1000 | [`NORMAL`](Self::NORMAL) | the client said good-bye | as it likes |
/// | 1001 | [`GOING_AWAY`](Self::GOING_AWAY) | the other end is going away | yes |
/// | 1002 | [`PROTOCOL`](Self::PROTOCOL) | a frame that RFC 6455 forbids | no, the client is broken |
/// | 1003 | [`UNSUPPORTED`](Self::UNSUPPORTED) | a kind of message that is not taken; not sent by us, as a binary message gets an `unsupported` error | no |
/// | 1006 | none | no close frame: the network, or an upgrade refused with 401, 403, 429 or 503; a browser tells them not apart | yes |
/// | 1007 | [`INVALID_TEXT`](Self::INVALID_TEXT) | a text message that is not UTF-8 | no |
/// | 1008 | [`POLICY`](Self::POLICY) | `Invalid token`, and other refusals | not with the same token |
/// | 1009 | [`TOO_BIG`](Self::TOO_BIG) | a message over the limit | no |
/// | 1011 | [`INTERNAL`](Self::INTERNAL) | the application's code failed | yes, later |
/// | 1012 | [`RESTART`](Self::RESTART) | this process is going down | yes, with a random delay |
/// | 1013 | [`TRY_AGAIN`](Self::TRY_AGAIN) | a slow consumer, overload, or a rule without an answer | yes, later |
/// | 4401 | [`TOKEN_EXPIRED`](Self::TOKEN_EXPIRED) | the token's time is over | with a new token |
/// | 4403 | [`NOT_ALLOWED`](Self::NOT_ALLOWED) | the rule of the room, or its `on_join`, said no; or the user was removed from it | no |
/// | 4408 | [`NO_PONG`](Self::NO_PONG) | no answer to a ping, or no first message with the token | yes |
/// | 4410 | [`REVOKED`](Self::REVOKED) | the token, or its user, is revoked | once with a new token; where that is revoked too, not |
/// | 4429 | [`TOO_MANY_MESSAGES`](Self::TOO_MANY_MESSAGES) | more sent than is read, for `Limits::overload_timeout` | yes, slower |
/// | 4430 | [`TOO_MANY_CONNECTIONS`](Self::TOO_MANY_CONNECTIONS) | this user, or this address, has too many open | when another is closed |
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: going away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: a protocol error.
    pub const PROTOCOL: Self = Self(1002);
    /// 1003: a kind of data that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: text that is not UTF-8.
    pub const INVALID_TEXT: Self = Self(1007);
    /// 1008: a refusal by policy; `Invalid token` is the commonest.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: our fault.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the service restarts.
    pub const RESTART: Self = Self(1012);
    /// 1013: try again later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// 4401: the token expired.
    pub const TOKEN_EXPIRED: Self = Self(4401);
    /// 4403: not allowed in this room.
    pub const NOT_ALLOWED: Self = Self(4403);
    /// 4408: no pong in time.
    pub const NO_PONG: Self = Self(4408);
    /// 4410: revoked.
    pub const REVOKED: Self = Self(4410);
    /// 4429: too many messages.
    pub const TOO_MANY_MESSAGES: Self = Self(4429);
    /// 4430: too many connections of one user.
    pub const TOO_MANY_CONNECTIONS: Self = Self(4430);

    /// A code that an endpoint may put into a close frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999
    /// (RFC 6455 section 7.4.2 and the IANA registry); `None` for any other number.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Whether it says that the same client need not come back with the same request: the client is broken, or may not be
    /// there.
    ///
    /// ```
    /// use rooms_core::CloseCode;
    ///
    /// assert!(CloseCode::NOT_ALLOWED.is_final() && !CloseCode::RESTART.is_final());
    /// ```
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::PROTOCOL | Self::UNSUPPORTED | Self::INVALID_TEXT | Self::POLICY | Self::TOO_BIG)
            || matches!(self, Self::NOT_ALLOWED)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What it is called in the metrics: by its number, if it is one of ours, as a client can send a thousand others.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::NORMAL => "1000",
            Self::GOING_AWAY => "1001",
            Self::PROTOCOL => "1002",
            Self::UNSUPPORTED => "1003",
            Self::INVALID_TEXT => "1007",
            Self::POLICY => "1008",
            Self::TOO_BIG => "1009",
            Self::INTERNAL => "1011",
            Self::RESTART => "1012",
            Self::TRY_AGAIN => "1013",
            Self::TOKEN_EXPIRED => "4401",
            Self::NOT_ALLOWED => "4403",
            Self::NO_PONG => "4408",
            Self::REVOKED => "4410",
            Self::TOO_MANY_MESSAGES => "4429",
            Self::TOO_MANY_CONNECTIONS => "4430",
            _ => "other",
        }
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A close code and the reason that goes with it.
///
/// ```
/// use rooms_core::{Close, CloseCode};
///
/// let close = Close::new(CloseCode::POLICY, "Invalid token");
/// assert_eq!(close.to_string(), "1008 Invalid token");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    code: CloseCode,
    reason: Cow<'static, str>,
}

/// The longest reason, in bytes: a control frame carries 125 (RFC 6455 section 5.5), two are the code.
pub const MAX_REASON: usize = 123;

impl Close {
    /// The one answer to every bad token.
    pub const INVALID_TOKEN: Self = Self::known(CloseCode::POLICY, "Invalid token");
    /// The rule of the room said no, or there is no such room: the two look the same.
    pub const NOT_ALLOWED: Self = Self::known(CloseCode::NOT_ALLOWED, "not allowed");
    /// The token's time is over.
    pub const TOKEN_EXPIRED: Self = Self::known(CloseCode::TOKEN_EXPIRED, "token expired");
    /// The token, or its user, is revoked.
    pub const REVOKED: Self = Self::known(CloseCode::REVOKED, "revoked");
    /// The member's outbox is full.
    pub const SLOW_CONSUMER: Self = Self::known(CloseCode::TRY_AGAIN, "slow consumer");
    /// This process is going down.
    pub const RESTART: Self = Self::known(CloseCode::RESTART, "restart");
    /// This process is going down, in the words of RFC 6455: for clients that don't know 1012.
    pub const GOING_AWAY: Self = Self::known(CloseCode::GOING_AWAY, "going away");
    /// The application's code failed.
    pub const INTERNAL: Self = Self::known(CloseCode::INTERNAL, "internal error");
    /// No first message with a token came in time.
    pub const NO_TOKEN: Self = Self::known(CloseCode::NO_PONG, "no token");
    /// No pong came in time.
    pub const NO_PONG: Self = Self::known(CloseCode::NO_PONG, "no pong");
    /// The inbound rate limit.
    pub const TOO_MANY_MESSAGES: Self = Self::known(CloseCode::TOO_MANY_MESSAGES, "too many messages");
    /// The user has too many connections on this node.
    pub const TOO_MANY_CONNECTIONS: Self = Self::known(CloseCode::TOO_MANY_CONNECTIONS, "too many connections");
    /// The room could not be entered just now.
    pub const UNAVAILABLE: Self = Self::known(CloseCode::TRY_AGAIN, "try again later");
    /// The end of an orderly conversation.
    pub const NORMAL: Self = Self::known(CloseCode::NORMAL, "");

    /// A close with a reason; a reason over [`MAX_REASON`] bytes is cut at a character.
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAX_REASON {
            let end = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            let mut cut = reason.into_owned();
            cut.truncate(end);
            reason = Cow::Owned(cut);
        }
        Self { code, reason }
    }

    /// Somebody is put out of the only room that the connection is for, in the application's words.
    pub(crate) fn kicked(reason: &str) -> Self {
        if reason.is_empty() { Self::NOT_ALLOWED } else { Self::new(CloseCode::NOT_ALLOWED, reason.to_owned()) }
    }

    pub(crate) const fn known(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> CloseCode {
        self.code
    }

    /// The reason, at most [`MAX_REASON`] bytes.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            "" => self.code.fmt(f),
            reason => write!(f, "{} {reason}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_travel_are_codes() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let close = Close::new(CloseCode::POLICY, "é".repeat(100));
        assert_eq!(close.reason(), "é".repeat(61));
    }
}
