//! JSON Web Tokens, checked strictly.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Once},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{AuthError, Authenticator, Identity, SystemClock, WallClock};

/// The longest token that is looked at, in bytes. 8 KiB: what common servers take as one header.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The shortest secret of an HMAC key, in bytes: the size of the smallest hash (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;
/// The difference of two machines' clocks that is let pass.
const LEEWAY: Duration = Duration::from_secs(10);
/// The farthest `exp`, from now: a hundred years. What is beyond is not meant so, as milliseconds are not; and far beyond,
/// `SystemTime` overflows.
const FARTHEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Checks JWTs signed with a shared secret (HS256, HS384, HS512).
///
/// The algorithm is the key's, whatever the token says. `exp` and `sub` are required, `nbf` and `iat` are checked, `crit`
/// is refused, a claim of the wrong type is an error and not an absence; `null` is an absence. Times are in seconds since
/// 1970, and an `exp` more than 100 years ahead is refused: it is most likely in milliseconds. `sub` is a string by the rule
/// for room ids, or an integer. The first token that is asked about logs a `warn`, once for all clones, where
/// [`issuer`](Self::issuer) or [`audience`](Self::audience) is not set. A connection ends at `exp` plus the leeway, the
/// moment from which the token would not be taken; it can't be renewed on a live connection, so the page comes back with a
/// new one. For other keys (RS256, a JWK set) implement [`Authenticator`].
///
/// ```
/// use rooms_core::{Authenticator as _, JwtAuthenticator};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = JwtAuthenticator::hs256("a secret of at least 32 bytes....")?.issuer("https://id.example");
/// assert!(tokens.authenticate("garbage").await.is_err());
/// assert!(JwtAuthenticator::hs256("short").is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JwtAuthenticator {
    key: DecodingKey,
    algorithm: Algorithm,
    name: &'static str,
    issuer: Option<String>,
    audience: Option<String>,
    token_type: Option<String>,
    leeway: Duration,
    clock: Arc<dyn WallClock>,
    /// Whether what is not checked was said.
    advice: Arc<Once>,
}

/// Why a [`JwtAuthenticator`] can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtConfigError {
    /// The secret is shorter than the hash, so it could be found by trying.
    #[error("the secret has {length} bytes, and {algorithm} needs at least {least} (RFC 7518 section 3.2)")]
    ShortSecret {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The bytes there are.
        length: usize,
        /// The bytes there must be.
        least: usize,
    },
    /// Signing and checking a token failed: the build has none of jsonwebtoken's cryptography features, or the
    /// application installed a provider that does not know the algorithm.
    #[error("the JWT cryptography does not work: enable `jwt-rust-crypto` or `jwt-aws-lc`")]
    SelfTest,
}

impl JwtAuthenticator {
    /// HMAC with SHA-256; the secret has at least 32 bytes.
    ///
    /// # Errors
    /// [`JwtConfigError::ShortSecret`], and [`JwtConfigError::SelfTest`] where the cryptography is not there.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        Self::hmac(secret.as_ref(), Algorithm::HS256, "HS256", MIN_SECRET)
    }

    /// HMAC with SHA-384; the secret has at least 48 bytes.
    ///
    /// # Errors
    /// As [`hs256`](Self::hs256).
    pub fn hs384(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        Self::hmac(secret.as_ref(), Algorithm::HS384, "HS384", 48)
    }

    /// HMAC with SHA-512; the secret has at least 64 bytes.
    ///
    /// # Errors
    /// As [`hs256`](Self::hs256).
    pub fn hs512(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        Self::hmac(secret.as_ref(), Algorithm::HS512, "HS512", 64)
    }

    fn hmac(secret: &[u8], algorithm: Algorithm, name: &'static str, least: usize) -> Result<Self, JwtConfigError> {
        if secret.len() < least {
            return Err(JwtConfigError::ShortSecret { algorithm: name, length: secret.len(), least });
        }
        install_cryptography();
        let key = DecodingKey::from_secret(secret);
        // jsonwebtoken panics at the first use where no provider, or two, are compiled in. That must show at the start.
        let sound = std::panic::catch_unwind(|| {
            let signed = crypto::sign(b"self-test", &EncodingKey::from_secret(secret), algorithm).ok()?;
            crypto::verify(&signed, b"self-test", &key, algorithm).ok()
        });
        match sound {
            Ok(Some(true)) => {}
            _ => return Err(JwtConfigError::SelfTest),
        }
        Ok(Self {
            key,
            algorithm,
            name,
            issuer: None,
            audience: None,
            token_type: None,
            leeway: LEEWAY,
            clock: Arc::new(SystemClock),
            advice: Arc::new(Once::new()),
        })
    }

    /// Requires this `iss`.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// Requires this `aud`, alone or among others.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..self }
    }

    /// Requires this `typ` in the header, such as `at+jwt` for access tokens (RFC 9068 section 2.1), so that an ID token or a
    /// refresh token of the same issuer is not taken for one.
    ///
    /// Compared as a media type: upper and lower case are the same, and `application/` in front may be left out.
    #[must_use]
    pub fn token_type(self, token_type: impl Into<String>) -> Self {
        Self { token_type: Some(token_type.into()), ..self }
    }

    /// The difference between clocks that is let pass; 10 s unless set.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        Self { leeway: leeway.min(FARTHEST), ..self }
    }

    /// Goes by another clock.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock, ..self }
    }

    fn check(&self, token: &str) -> Result<Identity, AuthError> {
        if token.len() > MAX_TOKEN {
            return Err(AuthError::TooLong);
        }
        let claims = self.signed_claims(token)?;
        let text = String::from_utf8(claims).map_err(|_| AuthError::Malformed)?;
        let claims: Claims = serde_json::from_str(&text).map_err(|_| AuthError::Claims)?;
        let expires_at = self.check_times(&claims)?;
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(AuthError::Issuer);
        }
        if let Some(audience) = &self.audience
            && !claims.aud.is_some_and(|aud| aud.names(audience))
        {
            return Err(AuthError::Audience);
        }
        let identity = Identity::new(claims.sub.0).map_err(|_| AuthError::Subject)?;
        Ok(identity.with_claims(text).expiring_at(expires_at))
    }

    /// The claims' bytes, once the header and the signature are right.
    fn signed_claims(&self, token: &str) -> Result<Vec<u8>, AuthError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(AuthError::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| AuthError::Malformed)?;
        if header.alg != self.name {
            return Err(AuthError::Algorithm);
        }
        if header.crit {
            return Err(AuthError::Critical);
        }
        if let Some(wanted) = &self.token_type
            && !header.typ.as_ref().and_then(Value::as_str).is_some_and(|typ| same_media_type(typ, wanted))
        {
            return Err(AuthError::Type);
        }
        match crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm) {
            Ok(true) => URL_SAFE_NO_PAD.decode(claims).map_err(|_| AuthError::Malformed),
            _ => Err(AuthError::Signature),
        }
    }

    /// Says what is not checked. Not at the construction, which does not know yet what will be set.
    fn advise(&self) {
        if self.issuer.is_some() && self.audience.is_some() {
            return;
        }
        self.advice.call_once(|| {
            let checked = |claim: &Option<String>| if claim.is_some() { "checked" } else { "not checked" };
            tracing::warn!(
                iss = checked(&self.issuer),
                aud = checked(&self.audience),
                "a token that was made for another service with the same key is taken here: set `issuer` and `audience`"
            );
        });
    }

    /// Checks `exp`, `nbf` and `iat`; returns when the identity ends.
    fn check_times(&self, claims: &Claims) -> Result<SystemTime, AuthError> {
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if claims.exp.0 > now + FARTHEST {
            return Err(AuthError::FarExpiry);
        }
        let end = claims.exp.0 + self.leeway;
        if end <= now {
            return Err(AuthError::Expired);
        }
        let latest = now + self.leeway;
        if [claims.nbf, claims.iat].into_iter().flatten().any(|start| start.0 > latest) {
            return Err(AuthError::NotYet);
        }
        UNIX_EPOCH.checked_add(end).ok_or(AuthError::Claims)
    }
}

/// Chooses jsonwebtoken's cryptography for the process; where the application chose before, its choice stays.
fn install_cryptography() {
    #[cfg(feature = "jwt-aws-lc")]
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
    let _ = crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        self.advise();
        self.check(token)
    }
}

/// Without the key.
impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthenticator")
            .field("algorithm", &self.name)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("token_type", &self.token_type)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Any JSON: where it is not asked for, it is nothing to stumble over.
    typ: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Whether two values of `typ` are the same media type: without a `/` they have `application/` in front (RFC 7515 section
/// 4.1.9), and the case does not matter (RFC 2045 section 5.1).
fn same_media_type(one: &str, other: &str) -> bool {
    fn short(typ: &str) -> &str {
        match typ.split_once('/') {
            Some((top, rest)) if top.eq_ignore_ascii_case("application") && !rest.contains('/') => rest,
            _ => typ,
        }
    }
    short(one).eq_ignore_ascii_case(short(other))
}

/// A member that is there, whatever its value: `"crit": null` is no way round the rule.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The registered claims (RFC 7519 section 4.1). A struct, because it refuses a claim that comes twice. An optional one that
/// is `null` is absent: many libraries write a field that was not set so.
#[derive(Deserialize)]
struct Claims {
    exp: Seconds,
    sub: Subject,
    nbf: Option<Seconds>,
    iat: Option<Seconds>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with a fraction.
#[derive(Clone, Copy)]
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `serde_json`'s own types, because another crate in the build may change how its numbers reach other ones
        // (`arbitrary_precision`).
        let number = serde_json::Number::deserialize(deserializer)?;
        match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Self(Duration::from_secs(seconds))),
            (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).map(Self).map_err(serde::de::Error::custom),
            (None, None) => Err(serde::de::Error::custom("not a number of seconds")),
        }
    }
}

/// `sub`: a string, or the integer that many services put there.
struct Subject(String);

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) if number.is_u64() || number.is_i64() => Ok(Self(number.to_string())),
            _ => Err(serde::de::Error::custom("neither a string nor an integer")),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}
