//! JSON Web Tokens, checked strictly.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Deserializer};

use super::{AuthError, Authenticator, Identity, SystemClock, WallClock};

/// The longest token that is looked at, in bytes. 8 KiB: what common servers take as one header.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The shortest secret of an HMAC key, in bytes: the size of the smallest hash (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;
/// The difference of two machines' clocks that is let pass.
const LEEWAY: Duration = Duration::from_secs(10);
/// Token times beyond this many years from now are taken as that far: `SystemTime` overflows, and so would a timer.
const FARTHEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Checks JWTs signed with a shared secret (HS256, HS384, HS512).
///
/// The algorithm is the key's, whatever the token says. `exp` and `sub` are required, `nbf` and `iat` are checked, `crit`
/// is refused, a claim of the wrong type is an error and not an absence. `sub` is a string by the rule for room ids, or
/// an integer. A connection ends at `exp` plus the leeway, the moment from which the token would not be taken; it can't be
/// renewed on a live connection, so the page comes back with a new one. For other keys (RS256, a JWK set) implement
/// [`Authenticator`].
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
    leeway: Duration,
    clock: Arc<dyn WallClock>,
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
        Ok(Self { key, algorithm, name, issuer: None, audience: None, leeway: LEEWAY, clock: Arc::new(SystemClock) })
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
        match crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm) {
            Ok(true) => URL_SAFE_NO_PAD.decode(claims).map_err(|_| AuthError::Malformed),
            _ => Err(AuthError::Signature),
        }
    }

    /// Checks `exp`, `nbf` and `iat`; returns when the identity ends.
    fn check_times(&self, claims: &Claims) -> Result<SystemTime, AuthError> {
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = claims.exp.0.min(now + FARTHEST) + self.leeway;
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
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// A member that is there, whatever its value: `"crit": null` is no way round the rule.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The registered claims (RFC 7519 section 4.1). A struct, because it refuses a claim that comes twice.
#[derive(Deserialize)]
struct Claims {
    exp: Seconds,
    sub: Subject,
    #[serde(default, deserialize_with = "some")]
    nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "some")]
    iat: Option<Seconds>,
    #[serde(default, deserialize_with = "some")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "some")]
    aud: Option<Audience>,
}

/// A claim that is there has a value of its type; `null` is not one.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    #[derive(Debug)]
    struct Fixed;

    impl WallClock for Fixed {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(NOW)
        }
    }

    fn hs256() -> JwtAuthenticator {
        JwtAuthenticator::hs256(SECRET).unwrap().clock(Arc::new(Fixed))
    }

    fn signed(header: &str, claims: &str, algorithm: Algorithm, secret: &[u8]) -> String {
        install_cryptography();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn token(claims: &Value) -> String {
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string(), Algorithm::HS256, SECRET)
    }

    fn refusal(claims: &Value) -> AuthError {
        hs256().check(&token(claims)).unwrap_err()
    }

    #[test]
    fn a_good_token_is_an_identity() {
        let identity = hs256().check(&token(&json!({"sub": "auth0|5f7c", "exp": NOW + 60, "role": "x"}))).unwrap();
        assert_eq!(identity.user(), "auth0|5f7c");
        assert_eq!(identity.expires_at(), Some(UNIX_EPOCH + Duration::from_secs(NOW + 70)));
        assert_eq!(identity.claims::<Value>().unwrap()["role"], "x");
    }

    #[test]
    fn the_subject_may_be_an_integer() {
        let user =
            |sub: Value| hs256().check(&token(&json!({"sub": sub, "exp": NOW + 60}))).map(|i| i.user().to_owned());
        assert_eq!(user(json!(5)).unwrap(), "5");
        assert_eq!(user(json!(-5)).unwrap(), "-5");
        for bad in [json!(""), json!("a\u{0}"), json!("*"), json!("a b"), json!("é"), json!("u".repeat(201))] {
            assert_eq!(user(bad), Err(AuthError::Subject));
        }
        for bad in [json!(5.5), json!(null), json!({}), json!(["5"]), json!(true)] {
            assert_eq!(user(bad), Err(AuthError::Claims));
        }
    }

    #[test]
    fn times_are_checked_with_the_leeway() {
        let check = |claims: Value| hs256().check(&token(&claims)).err();
        assert_eq!(check(json!({"sub": "5", "exp": NOW - 9})), None);
        assert_eq!(check(json!({"sub": "5", "exp": NOW - 10})), Some(AuthError::Expired));
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "nbf": NOW + 10})), None);
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "nbf": NOW + 11})), Some(AuthError::NotYet));
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "iat": NOW + 11})), Some(AuthError::NotYet));
        assert_eq!(check(json!({"sub": "5", "exp": NOW as f64 + 0.5})), None);
        assert_eq!(check(json!({"sub": "5", "exp": u64::MAX})), None);
    }

    #[test]
    fn claims_of_the_wrong_type_are_not_absent() {
        for exp in [json!("1900000000"), json!(-1), json!(null), json!(1e300), json!([]), json!(true)] {
            assert_eq!(refusal(&json!({"sub": "5", "exp": exp})), AuthError::Claims);
        }
        for (name, value) in
            [("nbf", json!(null)), ("nbf", json!("0")), ("iat", json!({})), ("iss", json!(5)), ("aud", json!(5))]
        {
            assert_eq!(refusal(&json!({"sub": "5", "exp": NOW + 60, name: value})), AuthError::Claims);
        }
        assert_eq!(refusal(&json!({"sub": "5"})), AuthError::Claims);
        assert_eq!(refusal(&json!({"exp": NOW + 60})), AuthError::Claims);
        let twice = signed(
            r#"{"alg":"HS256"}"#,
            &format!(r#"{{"sub":"5","sub":"1","exp":{}}}"#, NOW + 60),
            Algorithm::HS256,
            SECRET,
        );
        assert_eq!(hs256().check(&twice), Err(AuthError::Claims));
    }

    #[test]
    fn the_algorithm_is_the_keys() {
        let claims = json!({"sub": "5", "exp": NOW + 60}).to_string();
        for (header, algorithm) in [
            (r#"{"alg":"HS512"}"#, Algorithm::HS512),
            (r#"{"alg":"none"}"#, Algorithm::HS256),
            (r#"{"alg":"nOnE"}"#, Algorithm::HS256),
            (r#"{"alg":"RS256"}"#, Algorithm::HS256),
        ] {
            assert_eq!(
                hs256().check(&signed(header, &claims, algorithm, SECRET)),
                Err(AuthError::Algorithm),
                "{header}"
            );
        }
        for header in [r#"{"alg":"HS256","crit":["exp"]}"#, r#"{"alg":"HS256","crit":null}"#] {
            assert_eq!(hs256().check(&signed(header, &claims, Algorithm::HS256, SECRET)), Err(AuthError::Critical));
        }
        let hs384 = JwtAuthenticator::hs384(SECRET).unwrap().clock(Arc::new(Fixed));
        assert!(hs384.check(&signed(r#"{"alg":"HS384"}"#, &claims, Algorithm::HS384, SECRET)).is_ok());
        let hs512 = JwtAuthenticator::hs512(SECRET).unwrap().clock(Arc::new(Fixed));
        assert!(hs512.check(&signed(r#"{"alg":"HS512"}"#, &claims, Algorithm::HS512, SECRET)).is_ok());
    }

    #[test]
    fn a_wrong_signature_and_garbage_are_refused() {
        let good = token(&json!({"sub": "5", "exp": NOW + 60}));
        let (rest, _) = good.rsplit_once('.').unwrap();
        let other = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"5","exp":1900000000}"#, Algorithm::HS256, &[7; 32]);
        assert_eq!(hs256().check(&other), Err(AuthError::Signature));
        assert_eq!(hs256().check(&format!("{rest}.")), Err(AuthError::Signature));
        assert_eq!(hs256().check(&format!("{good}=")), Err(AuthError::Signature));
        for garbage in ["", ".", "..", "...", "a.b.c", "a.b", "\u{0}", &format!("{good}.x")] {
            let refusal = hs256().check(garbage).unwrap_err();
            assert!(matches!(refusal, AuthError::Malformed | AuthError::Signature), "{garbage:?}: {refusal}");
        }
        assert_eq!(hs256().check(&"a".repeat(MAX_TOKEN + 1)), Err(AuthError::TooLong));
    }

    #[test]
    fn issuer_and_audience_are_required_once_set() {
        let strict = hs256().issuer("us").audience("rooms");
        let check = |claims: Value| strict.check(&token(&claims)).err();
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "iss": "us", "aud": ["other", "rooms"]})), None);
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "iss": "us", "aud": "rooms"})), None);
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "aud": "rooms"})), Some(AuthError::Issuer));
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "iss": "us"})), Some(AuthError::Audience));
        assert_eq!(check(json!({"sub": "5", "exp": NOW + 60, "iss": "us", "aud": []})), Some(AuthError::Audience));
    }

    #[test]
    fn a_short_secret_is_a_configuration_error() {
        let error = JwtAuthenticator::hs256("").unwrap_err();
        assert_eq!(error, JwtConfigError::ShortSecret { algorithm: "HS256", length: 0, least: 32 });
        assert!(JwtAuthenticator::hs256([0; 31]).is_err() && JwtAuthenticator::hs256([0; 32]).is_ok());
        assert!(JwtAuthenticator::hs384([0; 47]).is_err() && JwtAuthenticator::hs512([0; 63]).is_err());
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", hs256()).contains("0123"));
    }
}
