//! Who connects: identities, and how a token becomes one.

mod attempt;
mod claim;
mod clock;
mod identity;
mod jwt;
mod policy;
mod revocation;
mod sign_in;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use self::{
    attempt::Attempt,
    clock::{SystemClock, WallClock},
    identity::{Identity, IdentityError},
    jwt::{JwkSet, JwkSetError, JwtAlgorithm, JwtAuthenticator, JwtConfigError, JwtKey, MAX_TOKEN, MIN_SECRET},
    policy::Decision,
    revocation::{Revocation, RevokeError},
};
pub(crate) use self::{
    clock::{LONGEST_WAIT, wait_until},
    policy::Rule,
    revocation::{Ending, RevocationList, Revoked},
    sign_in::SignIn,
};

/// Turns a request into an [`Identity`], by its token or by whatever else it has.
///
/// Called once for each upgrade, and for each token that a client [refreshes](crate::protocol) its connection with, within `Limits::handshake_timeout`. A panic and a late answer are [`AuthError::Unavailable`]: no
/// fault of the token, so the client is told to come back (1013, or 503). The future may be dropped at any await. Never log
/// the token.
///
/// A request without a token comes here, too. Answer it with [`AuthError::Missing`], or let a guest in:
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use rooms_core::{Attempt, AuthError, Authenticator, Identity};
///
/// #[derive(Debug)]
/// struct Sessions;
///
/// #[async_trait::async_trait]
/// impl Authenticator for Sessions {
///     async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
///         let Some(token) = attempt.token() else { return Ok(Identity::guest()) };
///         // A table of sessions knows.
///         if token != "good" {
///             return Err(AuthError::Refused("no such session"));
///         }
///         let identity = Identity::new("5").map_err(|_| AuthError::Subject)?;
///         Ok(identity.expiring_at(SystemTime::now() + Duration::from_secs(3600)))
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(Sessions.authenticate(&Attempt::new(Some("good"))).await.unwrap().user(), "5");
/// assert!(Sessions.authenticate(&Attempt::new(Some("bad"))).await.is_err());
/// assert!(Sessions.authenticate(&Attempt::new(None)).await.unwrap().is_guest());
/// # }
/// ```
#[async_trait]
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// Checks the request.
    ///
    /// # Errors
    /// [`AuthError`] says why, for the application's log. The client is told `Invalid token` whatever is wrong
    /// with its token.
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError>;
}

#[async_trait]
impl<A: Authenticator + ?Sized> Authenticator for Arc<A> {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        (**self).authenticate(attempt).await
    }
}

/// Why a token was refused. Nothing in it comes from the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is no token where the endpoint looks for one.
    #[error("no token")]
    Missing,
    /// The token is longer than [`MAX_TOKEN`], or than [`JwtAuthenticator::max_token_bytes`].
    #[error("the token is longer than the authenticator takes")]
    TooLong,
    /// The token is not UTF-8, or it is in the URL and is not percent-encoded UTF-8 there (RFC 3986 section 2.1).
    #[error("the token is not UTF-8, or not percent-encoded in the URL")]
    Encoding,
    /// The token is not three parts of base64url with JSON inside.
    #[error("the token is not a JWT")]
    Malformed,
    /// The header names another algorithm than the key's.
    #[error("the token is for another algorithm")]
    Algorithm,
    /// The header has a `crit` that this library does not know (RFC 7515 section 4.1.11: then it must be refused).
    #[error("the token has critical headers")]
    Critical,
    /// There is no key of the token's `kid`, after the provider was asked where the keys are fetched.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
    /// `typ` in the header is not the configured one.
    #[error("the token is of another type")]
    Type,
    /// A required claim is absent, or a claim has the wrong type.
    #[error("a claim is absent or of the wrong type")]
    Claims,
    /// `sub` is not a user id.
    #[error("`sub` is not a user id")]
    Subject,
    /// `exp` is past.
    #[error("the token is expired")]
    Expired,
    /// `exp` is more than 100 years ahead: most likely it is in milliseconds, where seconds are asked for.
    #[error("`exp` is more than 100 years ahead, and is in seconds since 1970")]
    FarExpiry,
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iss` is not the configured one.
    #[error("the token is from another issuer")]
    Issuer,
    /// `aud` does not name the configured audience.
    #[error("the token is for another audience")]
    Audience,
    /// It, or its user, is [revoked](crate::RoomManager::revoke).
    #[error("the token, or its user, is revoked")]
    Revoked,
    /// The authenticator gave no answer in time, or panicked.
    #[error("the authenticator failed")]
    Unavailable,
    /// A reason of the application's own authenticator.
    #[error("refused: {0}")]
    Refused(&'static str),
}

impl AuthError {
    /// What it is called in the metrics.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Encoding => "encoding",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Type => "type",
            Self::Claims => "claims",
            Self::Subject => "subject",
            Self::Expired => "expired",
            Self::FarExpiry => "far_expiry",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Revoked => "revoked",
            Self::Unavailable => "unavailable",
            Self::Refused(_) => "application",
        }
    }
}

/// The authenticator of a manager that was given none: every token is bad.
#[derive(Debug)]
pub(crate) struct DenyAll;

#[async_trait]
impl Authenticator for DenyAll {
    async fn authenticate(&self, _attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        Err(AuthError::Refused("no authenticator is configured"))
    }
}
