//! Every token that is not good, and the ones that are.

use std::cell::Cell;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::{algorithm::install_cryptography, *};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

#[derive(Debug)]
struct Fixed;

impl WallClock for Fixed {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }
}

impl JwtAuthenticator {
    fn check(&self, token: &str) -> Result<Identity, AuthError> {
        self.verify(token).now_or_never().expect("a key that is there is waited for")
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

thread_local! {
    /// The keys that tokens were tried with.
    pub(super) static TRIED: Cell<usize> = const { Cell::new(0) };
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_tried_with_four_keys_also_where_they_are_fetched() {
    // RFC 7517 appendix A.1, without its `kid`.
    let key = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
    let set = json!({"keys": vec![key; 5]}).to_string();
    let tokens = JwtAuthenticator::fetched(move || std::future::ready(JwkSet::parse(&set)));
    let bad = format!("{}.e30.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#), "A".repeat(86));
    for _ in 0..3 {
        let before = TRIED.get();
        assert_eq!(tokens.verify(&bad).await.err(), Some(AuthError::Signature));
        assert_eq!(TRIED.get() - before, 4);
    }
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
    let user = |sub: Value| hs256().check(&token(&json!({"sub": sub, "exp": NOW + 60}))).map(|i| i.user().to_owned());
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
}

#[test]
fn an_expiry_beyond_a_hundred_years_is_refused() {
    let check = |exp: Value| hs256().check(&token(&json!({"sub": "5", "exp": exp}))).err();
    let farthest = NOW + FARTHEST.as_secs();
    assert_eq!(check(json!(farthest)), None);
    assert_eq!(check(json!(farthest + 1)), Some(AuthError::FarExpiry));
    assert_eq!(check(json!((NOW + 60) * 1000)), Some(AuthError::FarExpiry), "in milliseconds");
    assert_eq!(check(json!(((NOW + 60) * 1000) as f64 + 0.5)), Some(AuthError::FarExpiry));
    assert_eq!(check(json!(u64::MAX)), Some(AuthError::FarExpiry));
}

#[test]
fn an_optional_claim_that_is_null_is_absent() {
    let claims = json!({"sub": "5", "exp": NOW + 60, "nbf": null, "iat": null, "iss": null, "aud": null});
    assert_eq!(hs256().check(&token(&claims)).err(), None);
    assert_eq!(hs256().issuer("us").check(&token(&claims)), Err(AuthError::Issuer));
    assert_eq!(hs256().audience("rooms").check(&token(&claims)), Err(AuthError::Audience));
    assert_eq!(refusal(&json!({"sub": "5", "exp": NOW + 60, "aud": [null]})), AuthError::Claims);
    let twice = format!(r#"{{"sub":"5","exp":{},"aud":null,"aud":"rooms"}}"#, NOW + 60);
    let twice = signed(r#"{"alg":"HS256"}"#, &twice, Algorithm::HS256, SECRET);
    assert_eq!(hs256().check(&twice), Err(AuthError::Claims));
}

#[test]
fn a_type_is_compared_as_a_media_type_once_it_is_required() {
    let claims = json!({"sub": "5", "exp": NOW + 60}).to_string();
    let check = |authenticator: &JwtAuthenticator, header: &str| {
        authenticator.check(&signed(header, &claims, Algorithm::HS256, SECRET)).err()
    };
    let typ = |typ: &str| format!(r#"{{"alg":"HS256","typ":{typ}}}"#);
    for required in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let strict = hs256().token_type(required);
        for good in [r#""at+jwt""#, r#""At+Jwt""#, r#""application/at+jwt""#, r#""APPLICATION/AT+JWT""#] {
            assert_eq!(check(&strict, &typ(good)), None, "{required} {good}");
        }
        for bad in [r#""JWT""#, r#""""#, r#""text/at+jwt""#, r#""at+jwt ""#, r#""application/""#, "null", "5", "{}"] {
            assert_eq!(check(&strict, &typ(bad)), Some(AuthError::Type), "{required} {bad}");
        }
        assert_eq!(check(&strict, r#"{"alg":"HS256"}"#), Some(AuthError::Type));
    }
    for any in [r#""at+jwt""#, "null", "5", r#"{"a":[]}"#] {
        assert_eq!(check(&hs256(), &typ(any)), None, "{any}");
    }
    assert_eq!(check(&hs256(), r#"{"alg":"HS256","typ":"JWT","typ":"at+jwt"}"#), Some(AuthError::Malformed));
}

#[test]
fn claims_of_the_wrong_type_are_not_absent() {
    for exp in [json!("1900000000"), json!(-1), json!(null), json!(1e300), json!([]), json!(true)] {
        assert_eq!(refusal(&json!({"sub": "5", "exp": exp})), AuthError::Claims);
    }
    for (name, value) in [("nbf", json!("0")), ("iat", json!({})), ("iss", json!(5)), ("aud", json!(5))] {
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
        assert_eq!(hs256().check(&signed(header, &claims, algorithm, SECRET)), Err(AuthError::Algorithm), "{header}");
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

#[test]
fn each_time_has_a_leeway_of_its_own() {
    let check = |tokens: JwtAuthenticator, claims: Value| tokens.check(&token(&claims)).err();
    let ahead = json!({"sub": "5", "exp": NOW + 60, "nbf": NOW + 10, "iat": NOW + 30});
    assert_eq!(check(hs256(), ahead.clone()), Some(AuthError::NotYet));
    assert_eq!(check(hs256().iat_leeway(Duration::from_secs(30)), ahead.clone()), None);
    assert_eq!(check(hs256().nbf_leeway(Duration::from_secs(30)), ahead.clone()), Some(AuthError::NotYet));
    assert_eq!(
        check(hs256().leeway(Duration::from_secs(30)).nbf_leeway(Duration::ZERO), ahead),
        Some(AuthError::NotYet)
    );
    let past = json!({"sub": "5", "exp": NOW - 1});
    assert_eq!(check(hs256().exp_leeway(Duration::ZERO), past), Some(AuthError::Expired));
}

#[test]
fn the_user_may_be_in_another_claim() {
    let user = |name: &str, claims: Value| hs256().user_claim(name).check(&token(&claims)).map(|i| i.user().to_owned());
    let claims = json!({"sub": "not used!", "exp": NOW + 60, "user_id": 5, "email": "a@b.example", "https://a.example/user": "x",
        "nested": {"user_id": "7"}, "list": ["5"], "none": null});
    assert_eq!(user("user_id", claims.clone()).as_deref(), Ok("5"));
    assert_eq!(user("email", claims.clone()).as_deref(), Ok("a@b.example"));
    assert_eq!(user("https://a.example/user", claims.clone()).as_deref(), Ok("x"));
    assert_eq!(user("exp", json!({"exp": NOW + 60})).unwrap(), (NOW + 60).to_string(), "without a `sub`");
    for name in ["absent", "nested", "list", "none", "nested.user_id", ""] {
        assert_eq!(user(name, claims.clone()), Err(AuthError::Claims), "{name}");
    }
    assert_eq!(user("sub", claims), Err(AuthError::Subject));
    let twice = format!(r#"{{"exp":{},"id":"5","id":"1"}}"#, NOW + 60);
    let twice = signed(r#"{"alg":"HS256"}"#, &twice, Algorithm::HS256, SECRET);
    assert_eq!(hs256().user_claim("id").check(&twice), Err(AuthError::Claims));
}

#[test]
fn one_of_several_issuers_and_audiences_is_enough() {
    let tokens = hs256().issuer("a").issuer("b").audience("x").audience("y");
    let check = |iss: Value, aud: Value| {
        tokens.check(&token(&json!({"sub": "5", "exp": NOW + 60, "iss": iss, "aud": aud}))).err()
    };
    assert_eq!(check(json!("b"), json!("y")), None);
    assert_eq!(check(json!("a"), json!(["z", "x"])), None);
    assert_eq!(check(json!("c"), json!("x")), Some(AuthError::Issuer));
    assert_eq!(check(json!("a"), json!(["z"])), Some(AuthError::Audience));
}

#[test]
fn the_longest_token_can_be_set() {
    let long = token(&json!({"sub": "5", "exp": NOW + 60, "groups": "g".repeat(20_000)}));
    assert_eq!(hs256().check(&long), Err(AuthError::TooLong));
    assert!(hs256().max_token_bytes(long.len()).check(&long).is_ok());
    assert_eq!(hs256().max_token_bytes(long.len() - 1).check(&long), Err(AuthError::TooLong));
}

#[test]
fn a_user_of_any_text_is_encoded_where_that_is_wanted() {
    let obrien = token(&json!({"sub": "o'brien@example.com", "exp": NOW + 60}));
    assert_eq!(hs256().check(&obrien), Err(AuthError::Subject));
    let identity = hs256().encode_users().check(&obrien).unwrap();
    assert_eq!(
        (identity.user(), identity.decode_user().as_deref()),
        ("o=27brien@example.com", Some("o'brien@example.com"))
    );
    for (sub, good) in [("", false), (&*"é".repeat(33), true), (&*"é".repeat(34), false)] {
        assert_eq!(hs256().encode_users().check(&token(&json!({"sub": sub, "exp": NOW + 60}))).is_ok(), good, "{sub}");
    }
}
