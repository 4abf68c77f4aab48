//! JSON Web Tokens, checked strictly.

mod algorithm;
mod claims;
#[cfg(any(feature = "jwt-rust-crypto", feature = "jwt-aws-lc"))]
mod es512;
#[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
mod hs256;
mod jwk_set;
mod key;
mod key_source;
#[cfg(test)]
mod tests;
mod token;

use std::{
    error::Error,
    fmt,
    sync::{Arc, Once},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

pub use self::{
    algorithm::JwtAlgorithm,
    jwk_set::{JwkSet, JwkSetError},
    key::{JwtConfigError, JwtKey},
};
use self::{
    claims::{Claims, Subject, user_in},
    key_source::KeySource,
    token::Token,
};
use super::{Attempt, AuthError, Authenticator, Identity, SystemClock, WallClock};

/// The longest token that is looked at, in bytes, unless [`JwtAuthenticator::max_token_bytes`] says otherwise. 8 KiB: what
/// common servers take as one header.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The shortest secret of an HMAC key, in bytes: the size of the smallest hash (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;
/// The difference of two machines' clocks that is let pass.
const LEEWAY: Duration = Duration::from_secs(10);
/// The farthest `exp`, from now: a hundred years. What is beyond is not meant so, as milliseconds are not; and far beyond,
/// `SystemTime` overflows.
const FARTHEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Checks JWTs: with a shared secret, with public keys, or with the keys that a provider publishes.
///
/// | keys | how |
/// |---|---|
/// | a secret (HS256, HS384, HS512) | [`hs256`](Self::hs256), [`hs384`](Self::hs384), [`hs512`](Self::hs512) |
/// | PEM or DER (RS, PS, ES, EdDSA), several of them | [`new`](Self::new) with [`JwtKey`]s |
/// | a JWK set from a file | [`new`](Self::new) with a [`JwkSet`] |
/// | a JWK set that is fetched again | [`fetched`](Self::fetched), or the crate `rooms-jwks` over HTTP, with OpenID Connect discovery |
///
/// The algorithm is the key's, whatever the token says. A token with a `kid` is checked with the keys of that id and with
/// those that have none; one without a `kid` with the keys of its algorithm, four at most. `jku`, `jwk`, `x5u` and `x5c` in a
/// token are not looked at, and `crit` is refused.
///
/// `exp` is required, and so is `sub` unless [`user_claim`](Self::user_claim) names another; `nbf` and `iat` are checked. A
/// claim of the wrong type is an error and not an absence; `null` is an absence. Times are in seconds since 1970, and an
/// `exp` more than 100 years ahead is refused: it is most likely in milliseconds. The user is a string by the rule for room
/// ids, or an integer. The first token that is asked about logs a `warn`, once for all clones, where
/// [`issuer`](Self::issuer) or [`audience`](Self::audience) is not set. A connection ends at `exp` plus the leeway, the
/// moment from which the token would not be taken, unless the client [refreshes](crate::protocol) it with a new one before.
///
/// ```
/// use rooms_core::JwtAuthenticator;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = JwtAuthenticator::hs256("a secret of at least 32 bytes....")?.issuer("https://id.example");
/// assert!(tokens.verify("garbage").await.is_err());
/// assert!(JwtAuthenticator::hs256("short").is_err());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JwtAuthenticator {
    keys: Keys,
    issuers: Vec<String>,
    audiences: Vec<String>,
    token_type: Option<String>,
    user_claim: Option<String>,
    encode_users: bool,
    max_token_bytes: usize,
    leeway: Leeway,
    clock: Arc<dyn WallClock>,
    /// Whether what is not checked was said.
    advice: Arc<Once>,
}

#[derive(Debug, Clone)]
enum Keys {
    Fixed(Arc<[JwtKey]>),
    Fetched(Arc<KeySource>),
}

#[derive(Debug, Clone, Copy)]
struct Leeway {
    exp: Duration,
    nbf: Duration,
    iat: Duration,
}

impl JwtAuthenticator {
    /// HMAC with SHA-256; the secret has at least 32 bytes.
    ///
    /// # Errors
    /// [`JwtConfigError::ShortSecret`], and [`JwtConfigError::SelfTest`] where the cryptography is not there.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        JwtKey::secret(JwtAlgorithm::HS256, secret).map(|key| Self::new([key]))
    }

    /// HMAC with SHA-384; the secret has at least 48 bytes.
    ///
    /// # Errors
    /// As [`hs256`](Self::hs256).
    pub fn hs384(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        JwtKey::secret(JwtAlgorithm::HS384, secret).map(|key| Self::new([key]))
    }

    /// HMAC with SHA-512; the secret has at least 64 bytes.
    ///
    /// # Errors
    /// As [`hs256`](Self::hs256).
    pub fn hs512(secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        JwtKey::secret(JwtAlgorithm::HS512, secret).map(|key| Self::new([key]))
    }

    /// Checks tokens with these keys: some [`JwtKey`]s, or a [`JwkSet`]. To exchange a key, give the old one and the new one
    /// until the last token of the old one has expired.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = JwtKey>) -> Self {
        Self::with(Keys::Fixed(keys.into_iter().collect()))
    }

    /// Checks tokens with keys that are fetched: by the first token, by a token whose `kid` is not among them, by one without a
    /// `kid`, or where keys have none, that fits none of them, and every ten minutes, while the old ones are still used. So a
    /// provider may change its keys at any time.
    ///
    /// There is one fetch at a time, of 10 s at most, and 30 s between two of them (5 s while there are no keys yet); a `kid`
    /// that the provider did not know is asked about again after 60 s. Where a fetch fails, panics or gives no usable key,
    /// the last good keys are kept, and a `warn` says why. A token that no known key is for is then
    /// [`AuthError::Unavailable`], so its client comes back; after a good fetch it is [`AuthError::UnknownKey`]. A key that
    /// the provider withdraws is good here for ten minutes more, or longer where it can't be reached.
    ///
    /// Take the address from your configuration and never from a token, and accept HTTPS only.
    ///
    /// ```
    /// use rooms_core::{JwkSet, JwtAuthenticator};
    ///
    /// let tokens = JwtAuthenticator::fetched(|| async {
    ///     let text = get("https://id.example/keys").await?;
    ///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(JwkSet::parse(text)?)
    /// })
    /// .issuer("https://id.example")
    /// .audience("rooms");
    /// # let _ = tokens;
    /// # async fn get(_: &str) -> std::io::Result<String> { Ok(String::new()) }
    /// ```
    pub fn fetched<F, Fut, E>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<JwkSet, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::with(Keys::Fetched(Arc::new(KeySource::new(fetch))))
    }

    fn with(keys: Keys) -> Self {
        Self {
            keys,
            issuers: Vec::new(),
            audiences: Vec::new(),
            token_type: None,
            user_claim: None,
            encode_users: false,
            max_token_bytes: MAX_TOKEN,
            leeway: Leeway { exp: LEEWAY, nbf: LEEWAY, iat: LEEWAY },
            clock: Arc::new(SystemClock),
            advice: Arc::new(Once::new()),
        }
    }

    /// Requires this `iss`. May be called again: then one of them.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Requires this `aud`, which in the token is a string or a list. May be called again: then one of them.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Requires this `typ` in the header, such as `at+jwt` for access tokens (RFC 9068 section 2.1), so that an ID token or a
    /// refresh token of the same issuer is not taken for one.
    ///
    /// Compared as a media type: upper and lower case are the same, and `application/` in front may be left out.
    #[must_use]
    pub fn token_type(self, token_type: impl Into<String>) -> Self {
        Self { token_type: Some(token_type.into()), ..self }
    }

    /// Takes the user from this claim in place of `sub`: `user_id`, `email`, `https://app.example/user`. A top-level name, as
    /// it stands in the token; its value is a string or an integer. `sub` is then optional.
    ///
    /// Take a claim that the provider never gives to another user. An `email` may be one that nobody has verified.
    #[must_use]
    pub fn user_claim(self, name: impl Into<String>) -> Self {
        Self { user_claim: Some(name.into()), ..self }
    }

    /// Takes users whose id is any text, such as `o'brien@example.com`, encoded as [`Identity::encode`] does it. Without this
    /// they are refused.
    #[must_use]
    pub fn encode_users(self) -> Self {
        Self { encode_users: true, ..self }
    }

    /// The longest token that is looked at, in bytes; [`MAX_TOKEN`] unless set, and at most 1 MiB. For a provider that puts
    /// hundreds of groups into its tokens; the HTTP server has to take such a header or URL, too, and 8 KiB is a common limit
    /// of proxies.
    #[must_use]
    pub fn max_token_bytes(self, bytes: usize) -> Self {
        Self { max_token_bytes: bytes.min(1024 * 1024), ..self }
    }

    /// The difference between clocks that is let pass, for `exp`, `nbf` and `iat`; 10 s unless set.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.exp_leeway(leeway).nbf_leeway(leeway).iat_leeway(leeway)
    }

    /// How long after `exp` a token is still taken, and a connection goes on; 10 s unless set.
    #[must_use]
    pub fn exp_leeway(mut self, leeway: Duration) -> Self {
        self.leeway.exp = leeway.min(FARTHEST);
        self
    }

    /// How long before `nbf` a token is taken already; 10 s unless set.
    #[must_use]
    pub fn nbf_leeway(mut self, leeway: Duration) -> Self {
        self.leeway.nbf = leeway.min(FARTHEST);
        self
    }

    /// How far ahead `iat` may be; 10 s unless set. For an issuer whose clock is ahead.
    #[must_use]
    pub fn iat_leeway(mut self, leeway: Duration) -> Self {
        self.leeway.iat = leeway.min(FARTHEST);
        self
    }

    /// Goes by another clock.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock, ..self }
    }

    /// Checks a token. The future may be dropped at any await.
    ///
    /// # Errors
    /// [`AuthError`]; nothing in it comes from the token.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        self.identity(&self.signed(token).await?)
    }

    /// The claims of a token, whose signature is right.
    async fn signed(&self, token: &str) -> Result<String, AuthError> {
        self.advise();
        if token.len() > self.max_token_bytes {
            return Err(AuthError::TooLong);
        }
        let token = Token::read(token, self.token_type.as_deref())?;
        match &self.keys {
            Keys::Fixed(keys) => token.verified(keys),
            Keys::Fetched(source) => {
                let keys = source.keys(token.algorithm, token.key_id.as_deref()).await?;
                match token.verified(&keys) {
                    // Perhaps one of another key, which the provider has by now: nothing in the set would tell.
                    Err(error @ (AuthError::Signature | AuthError::Algorithm)) if !token.names_one_of(&keys) => {
                        let newest = source.newest().await?;
                        // Where it was too early to fetch them again, another try says the same.
                        if Arc::ptr_eq(&keys, &newest) { Err(error) } else { token.verified(&newest) }
                    }
                    verified => verified,
                }
            }
        }
    }

    /// Who it is, by claims whose signature is right.
    fn identity(&self, text: &str) -> Result<Identity, AuthError> {
        let claims: Claims = serde_json::from_str(text).map_err(|_| AuthError::Claims)?;
        let expires_at = self.check_times(&claims)?;
        if !self.issuers.is_empty() && !claims.iss.is_some_and(|issuer| self.issuers.contains(&issuer)) {
            return Err(AuthError::Issuer);
        }
        if !self.audiences.is_empty() && !claims.aud.is_some_and(|aud| aud.names_one_of(&self.audiences)) {
            return Err(AuthError::Audience);
        }
        let user = self.user(text, claims.sub)?;
        let identity = if self.encode_users { Identity::encode(&user) } else { Identity::new(user) };
        let identity = identity.map_err(|_| AuthError::Subject)?;
        Ok(identity.with_claims(text).expiring_at(expires_at))
    }

    /// The user that claims name.
    fn user(&self, text: &str, sub: Option<Subject>) -> Result<String, AuthError> {
        match &self.user_claim {
            None => Ok(sub.ok_or(AuthError::Claims)?.0),
            Some(name) => user_in(text, name),
        }
    }

    /// Notes whose token is refused because of the time.
    fn note_refused(&self, attempt: &Attempt<'_>, text: &str) {
        let Ok(claims) = serde_json::from_str::<Claims>(text) else { return };
        let Ok(user) = self.user(text, claims.sub) else { return };
        if !self.encode_users {
            attempt.note_user(&user);
        } else if let Ok(identity) = Identity::encode(&user) {
            attempt.note_user(identity.user());
        }
    }

    /// Says what is not checked. Not at the construction, which does not know yet what will be set.
    fn advise(&self) {
        if !self.issuers.is_empty() && !self.audiences.is_empty() {
            return;
        }
        self.advice.call_once(|| {
            let checked = |values: &[String]| if values.is_empty() { "not checked" } else { "checked" };
            tracing::warn!(
                iss = checked(&self.issuers),
                aud = checked(&self.audiences),
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
        let end = claims.exp.0 + self.leeway.exp;
        if end <= now {
            return Err(AuthError::Expired);
        }
        if [(claims.nbf, self.leeway.nbf), (claims.iat, self.leeway.iat)]
            .into_iter()
            .any(|(start, leeway)| start.is_some_and(|start| start.0 > now + leeway))
        {
            return Err(AuthError::NotYet);
        }
        UNIX_EPOCH.checked_add(end).ok_or(AuthError::Claims)
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let claims = self.signed(attempt.token().ok_or(AuthError::Missing)?).await?;
        self.identity(&claims).inspect_err(|reason| {
            if matches!(reason, AuthError::Expired | AuthError::NotYet | AuthError::FarExpiry) {
                self.note_refused(attempt, &claims);
            }
        })
    }
}

/// Without the keys.
impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthenticator")
            .field("keys", &self.keys)
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .field("token_type", &self.token_type)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}
