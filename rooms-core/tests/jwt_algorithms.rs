//! Every algorithm, every form of its key, and every confusion of the two.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/signer.rs"]
mod signer;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use rooms_core::{AuthError, JwkSet, JwkSetError, JwtAlgorithm, JwtAuthenticator, JwtConfigError, JwtKey};
use serde_json::{Value, json};

use self::signer::{ALL, ED25519, ES512, P256, P384, P521, RSA, SECRET, der, good, jwk, key, public, sign, sign_with};

async fn refusal(tokens: &JwtAuthenticator, token: &str) -> Option<AuthError> {
    tokens.verify(token).await.err()
}

fn set(keys: &[Value]) -> Result<JwkSet, JwkSetError> {
    JwkSet::parse(json!({"keys": keys}).to_string())
}

#[tokio::test]
async fn each_algorithm_takes_its_own_tokens_and_no_others() {
    for own in ALL {
        let tokens = JwtAuthenticator::new([key(own.0).unwrap()]);
        for other in ALL {
            let expected = (own != other).then_some(AuthError::Algorithm);
            assert_eq!(refusal(&tokens, &good(other, None)).await, expected, "a token of {} for {}", other.0, own.0);
        }
        // What the header says is signed, but with another algorithm.
        for signer in ALL.into_iter().filter(|other| *other != own) {
            let token = sign(signer.1, &json!({"alg": own.0.name()}), &json!({"sub": "5", "exp": 4_000_000_000_u64}));
            assert_eq!(refusal(&tokens, &token).await, Some(AuthError::Signature), "{} as {}", signer.0, own.0);
        }
    }
}

#[tokio::test]
async fn no_token_is_broken_in_a_way_that_is_taken() {
    for own in ALL {
        let tokens = JwtAuthenticator::new([key(own.0).unwrap()]);
        let token = good(own, None);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let other = sign(own.1, &json!({"alg": own.0.name()}), &json!({"sub": "6", "exp": 4_000_000_000_u64}));
        let others_claims = other.split('.').nth(1).unwrap();
        let half = &signature[..signature.len() / 2];
        for broken in [
            String::new(),
            ".".into(),
            "..".into(),
            "....".into(),
            format!("{signed}."),
            format!("{header}..{signature}"),
            format!(".{claims}.{signature}"),
            format!("{header}.{claims}"),
            format!("{token}.{signature}"),
            format!("{token}="),
            format!("{token}\n"),
            format!(" {token}"),
            format!("{signed}.{half}"),
            format!("{signed}.{signature}{signature}"),
            format!("{signed}.{}", "A".repeat(signature.len())),
            format!("{signed}.{}", "_".repeat(signature.len())),
            format!("{header}.{others_claims}.{signature}"),
            format!("{header}.{claims}.{}", signature.replace('-', "+").replace('_', "/") + "+"),
            token.to_uppercase(),
            "\u{0}".repeat(100),
            "é".repeat(100),
        ] {
            let refused = refusal(&tokens, &broken).await.unwrap();
            assert!(matches!(refused, AuthError::Malformed | AuthError::Signature), "{} {broken:?}: {refused}", own.0);
        }
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": ""}),
            json!({"alg": own.0.name().to_lowercase() + " "}),
            json!({"alg": "ES512"}),
            json!({"alg": "ES256K"}),
        ] {
            let token = sign(own.1, &header, &json!({"sub": "5", "exp": 4_000_000_000_u64}));
            assert_eq!(refusal(&tokens, &token).await, Some(AuthError::Algorithm), "{} {header}", own.0);
        }
        for header in
            [json!({}), json!({"alg": null}), json!({"alg": 5}), json!([]), json!({"alg": own.0.name(), "kid": 5})]
        {
            let token = sign(own.1, &header, &json!({"sub": "5", "exp": 4_000_000_000_u64}));
            assert_eq!(refusal(&tokens, &token).await, Some(AuthError::Malformed), "{} {header}", own.0);
        }
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    for (algorithm, pem) in [(JwtAlgorithm::RS256, RSA), (JwtAlgorithm::ES256, P256), (JwtAlgorithm::EdDSA, ED25519)] {
        let fixed = JwtAuthenticator::new([JwtKey::pem(algorithm, pem).unwrap()]);
        let set = JwtAuthenticator::new(set(&[jwk(algorithm, "1")]).unwrap());
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der(pem)] {
            for (name, hmac) in
                [("HS256", Algorithm::HS256), (algorithm.name(), Algorithm::HS256), ("HS512", Algorithm::HS512)]
            {
                let header = json!({"alg": name, "kid": "1"});
                let claims = json!({"sub": "1", "exp": 4_000_000_000_u64});
                let token = sign_with(&EncodingKey::from_secret(secret), hmac, &header, &claims);
                for tokens in [&fixed, &set] {
                    assert!(refusal(tokens, &token).await.is_some(), "{name} for {algorithm}");
                }
            }
        }
    }
}

#[tokio::test]
async fn keys_that_come_with_a_token_are_not_looked_at() {
    let tokens = JwtAuthenticator::new([key(JwtAlgorithm::ES384).unwrap()]);
    let header = json!({"alg": "ES256", "jwk": jwk(JwtAlgorithm::ES256, "1"), "jku": "https://evil.example/keys"});
    let token = sign(Algorithm::ES256, &header, &json!({"sub": "1", "exp": 4_000_000_000_u64}));
    assert_eq!(refusal(&tokens, &token).await, Some(AuthError::Algorithm));
}

#[tokio::test]
async fn a_key_is_pem_or_der_or_a_jwk() {
    for own in ALL {
        let Some(pem) = public(own.0) else { continue };
        let token = good(own, None);
        let mut jwk = jwk(own.0, "1");
        jwk["alg"] = json!(own.0.name());
        let spaced = format!("\n{pem}\n\n").replace('\n', "\r\n");
        for key in [JwtKey::pem(own.0, pem), JwtKey::pem(own.0, spaced), JwtKey::der(own.0, der(pem))] {
            assert_eq!(refusal(&JwtAuthenticator::new([key.unwrap()]), &token).await, None, "{}", own.0);
        }
        assert_eq!(refusal(&JwtAuthenticator::new(set(&[jwk]).unwrap()), &token).await, None, "{}", own.0);
    }
    let pkcs1 = JwtKey::pem(JwtAlgorithm::PS256, include_str!("keys/rsa.pkcs1.pem")).unwrap();
    let token = good((JwtAlgorithm::PS256, Algorithm::PS256), None);
    assert_eq!(refusal(&JwtAuthenticator::new([pkcs1]), &token).await, None);
}

#[tokio::test]
async fn es512_is_checked_though_the_crate_for_tokens_does_not_have_it() {
    let point = &der(P521)[der(P521).len() - 132..];
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({"kty": "EC", "crv": "P-521", "x": number(&point[..66]), "y": number(&point[66..])});
    let keys = [JwtKey::pem(JwtAlgorithm::ES512, P521), JwtKey::der(JwtAlgorithm::ES512, der(P521))];
    let keys = keys.map(|key| JwtAuthenticator::new([key.unwrap()]));
    for tokens in keys.into_iter().chain([JwtAuthenticator::new(set(std::slice::from_ref(&jwk)).unwrap())]) {
        assert_eq!(tokens.verify(ES512).await.unwrap().user(), "5");
        let (signed, signature) = ES512.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        for broken in [
            format!("{header}.{}.{signature}", number(br#"{"sub":"6","exp":4000000000}"#)),
            format!("{signed}.{}", &signature[..signature.len() - 4]),
            format!("{signed}.{signature}AAAA"),
            format!("{signed}.{}", number(&[0; 132])),
            format!("{signed}.{}", number(&[0xff; 132])),
            format!("{signed}."),
            // The same numbers as `openssl` writes them.
            format!(
                "{signed}.MIGIAkIBnuwDlNqLWcL9-bdQD1YgI1miuHOkWw_03xqS7jqztvnkyXxDI-C6LYAnq-wl5qwL_39r3z48m0HbG-BYSZlx0C8CQgC56pw5BL7-mVeeirdYDAlrlHw28CciNx30kYLycfh0ulBVME9aN7nex8SDNZFd7X-XJDI3ye1_oBRyJ7TzqNh7UQ"
            ),
        ] {
            assert_eq!(refusal(&tokens, &broken).await, Some(AuthError::Signature), "{broken}");
        }
        // What another algorithm has signed.
        let (_, claims) = signed.split_once('.').unwrap();
        let other = sign(Algorithm::ES384, &json!({"alg": "ES512"}), &json!({"sub": "5", "exp": 4_000_000_000_u64}));
        assert_eq!(refusal(&tokens, &other).await, Some(AuthError::Signature));
        let as_es384 = format!("{}.{claims}.{signature}", number(br#"{"alg":"ES384"}"#));
        assert_eq!(refusal(&tokens, &as_es384).await, Some(AuthError::Algorithm));
    }
    let with = |name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        set(&[jwk])
    };
    assert!(with("alg", json!("ES512")).is_ok());
    for (name, value) in [
        ("alg", json!("ES384")),
        ("crv", json!("P-384")),
        ("x", json!(number(&point[..65]))),
        ("y", json!(number(&[7; 66]))),
    ] {
        assert_eq!(with(name, value).unwrap_err(), JwkSetError::NoKey { keys: 1 }, "{name}");
    }
    assert!(JwtKey::pem(JwtAlgorithm::ES512, P384).unwrap_err().to_string().contains("an EC key on P-521"));
}

#[test]
fn what_is_no_key_for_the_algorithm_is_a_configuration_error() {
    for (algorithm, _) in ALL {
        for pem in [RSA, P256, P384, ED25519] {
            assert_eq!(JwtKey::pem(algorithm, pem).is_ok(), public(algorithm) == Some(pem), "{algorithm} {pem}");
        }
        for nonsense in
            ["", "garbage", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", &P256.replace("MF", "AA")]
        {
            assert_eq!(
                JwtKey::pem(algorithm, nonsense).unwrap_err(),
                JwtConfigError::NotAKey,
                "{algorithm} {nonsense}"
            );
        }
        for length in [0, 1, 31, 44, 90] {
            assert!(JwtKey::der(algorithm, &der(P256)[..length]).is_err(), "{algorithm} {length}");
        }
    }
    for unfit in [include_str!("keys/rsa.cert.pem"), include_str!("keys/rsa.pem")] {
        assert_eq!(JwtKey::pem(JwtAlgorithm::RS256, unfit).unwrap_err(), JwtConfigError::NotAKey);
    }
    let short = JwtKey::pem(JwtAlgorithm::RS256, include_str!("keys/rsa1024.pub.pem")).unwrap_err();
    assert_eq!(short, JwtConfigError::RsaSize { bits: 1024 });
    let curve = JwtKey::pem(JwtAlgorithm::ES384, include_str!("keys/p521.pub.pem")).unwrap_err();
    assert!(curve.to_string().contains("ES384 needs an EC key on P-384"), "{curve}");
    assert!(
        JwtKey::secret(JwtAlgorithm::RS256, SECRET).is_err() && JwtKey::secret(JwtAlgorithm::HS256, "short").is_err()
    );
    assert!(!format!("{:?}", JwtKey::secret(JwtAlgorithm::HS256, SECRET)).contains("0123"));
}

#[tokio::test]
async fn kid_chooses_the_key() {
    let es256 = (JwtAlgorithm::ES256, Algorithm::ES256);
    let tokens = JwtAuthenticator::new(set(&[jwk(es256.0, "a"), jwk(JwtAlgorithm::ES384, "b")]).unwrap());
    assert_eq!(refusal(&tokens, &good(es256, Some("a"))).await, None);
    assert_eq!(refusal(&tokens, &good(es256, None)).await, None);
    assert_eq!(refusal(&tokens, &good(es256, Some("b"))).await, Some(AuthError::Algorithm));
    assert_eq!(refusal(&tokens, &good(es256, Some("c"))).await, Some(AuthError::UnknownKey));
    // A secret is exchanged by giving both.
    let old = JwtKey::secret(JwtAlgorithm::HS256, "another secret of at least 32 bytes").unwrap();
    let both = JwtAuthenticator::new([old, key(JwtAlgorithm::HS256).unwrap()]);
    assert_eq!(refusal(&both, &good((JwtAlgorithm::HS256, Algorithm::HS256), Some("any"))).await, None);
}

#[test]
fn of_a_jwk_set_only_keys_for_signatures_are_taken() {
    let with = |name: &str, value: Value| {
        let mut key = jwk(JwtAlgorithm::RS256, "1");
        key[name] = value;
        key
    };
    for usable in [
        with("use", json!("sig")),
        with("use", json!(null)),
        with("key_ops", json!(["sign", "verify"])),
        with("alg", json!("PS512")),
        with("x5c", json!(["MII"])),
        with("ext", json!({"any": []})),
    ] {
        assert!(set(&[usable.clone(), json!({"kty": "new"})]).is_ok(), "{usable}");
    }
    let secret = json!({"kty": "oct", "kid": "1", "alg": "HS256", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    for left_out in [
        secret,
        with("use", json!("enc")),
        with("use", json!("")),
        with("use", json!(5)),
        with("key_ops", json!(["encrypt"])),
        with("alg", json!("RSA-OAEP")),
        with("alg", json!("HS256")),
        with("alg", json!("ES256")),
        with("alg", json!("none")),
        with("kid", json!(5)),
        with("n", json!("AQAB")),
        with("n", json!("A".repeat(2_000))),
        with("n", json!("not base64url!")),
        with("e", json!("AQ")),
        with("e", json!("AA")),
        with("e", json!("")),
        with("e", json!("AQABAQABAQAB")),
        with("kty", json!("EC")),
        json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}),
        json!({"kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(44)}),
        json!({"kty": "EC", "crv": "P-521", "x": "A".repeat(88), "y": "A".repeat(88)}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "A".repeat(43), "y": "A".repeat(43)}),
        // One of the cryptographies panics for it.
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}),
        json!({"kty": "OKP", "crv": "Ed448", "x": "A".repeat(76)}),
        json!({"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)}),
        json!(5),
        json!(null),
        json!({}),
    ] {
        assert_eq!(set(std::slice::from_ref(&left_out)).unwrap_err(), JwkSetError::NoKey { keys: 1 }, "{left_out}");
    }
    for no_set in
        ["", "{}", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":null}"#, "<html>", r#"{"keys":[]} x"#, "\u{feff}{}"]
    {
        assert_eq!(JwkSet::parse(no_set).unwrap_err(), JwkSetError::NotASet, "{no_set}");
    }
    let deep = format!(r#"{{"keys":[{}]}}"#, "[".repeat(100_000));
    assert_eq!(JwkSet::parse(deep).unwrap_err(), JwkSetError::NotASet);
    assert_eq!(set(&[]).unwrap_err(), JwkSetError::NoKey { keys: 0 });
    assert!(set(&vec![jwk(JwtAlgorithm::ES256, "1"); JwkSet::MAX_KEYS]).is_ok());
    assert_eq!(
        set(&vec![json!({}); JwkSet::MAX_KEYS + 1]).unwrap_err(),
        JwkSetError::TooMany { keys: JwkSet::MAX_KEYS + 1 }
    );
    let long = |length: usize| format!("{{\"keys\":[]{}}}", " ".repeat(length - 11));
    assert_eq!(JwkSet::parse(long(JwkSet::MAX_BYTES)).unwrap_err(), JwkSetError::NoKey { keys: 0 });
    let length = JwkSet::MAX_BYTES + 1;
    assert_eq!(JwkSet::parse(long(length)).unwrap_err(), JwkSetError::TooLong { length });
}

#[tokio::test]
async fn a_token_without_kid_is_tried_with_four_keys() {
    let wrong = || JwtKey::secret(JwtAlgorithm::HS256, [7; 32]).unwrap();
    let token = good((JwtAlgorithm::HS256, Algorithm::HS256), None);
    for (before, taken) in [(3, None), (4, Some(AuthError::Signature))] {
        let keys = (0..before).map(|_| wrong()).chain([key(JwtAlgorithm::HS256).unwrap()]);
        assert_eq!(refusal(&JwtAuthenticator::new(keys), &token).await, taken, "{before}");
    }
}
