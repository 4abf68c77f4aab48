//! A provider on a real socket: good, rotating, and bad in every way.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rooms_core::{AuthError, JwtAlgorithm, JwtAuthenticator, JwtKey};
use rooms_jwks::UrlError;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

const PRIVATE: &str = include_str!("../../rooms-core/tests/keys/ed25519.pem");
const PUBLIC: &str = include_str!("../../rooms-core/tests/keys/ed25519.pub.pem");

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// Answers by a function of the path and its own address; `None` never answers.
struct Provider {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

type Respond = Box<dyn Fn(&str, &str) -> Option<String> + Send>;
type Answer = Arc<Mutex<Respond>>;

impl Provider {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let length = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..length]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    counted.fetch_add(1, Ordering::Relaxed);
                    let answer = answer.lock().unwrap()(&path, &format!("http://{address}"));
                    match answer {
                        Some(answer) => _ = stream.write_all(answer.as_bytes()).await,
                        None => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { address, requests }
    }

    async fn with(answer: impl Fn(&str, &str) -> Option<String> + Send + 'static) -> Self {
        Self::start(Arc::new(Mutex::new(Box::new(answer)))).await
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn ok(body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

fn keys(kid: &str) -> String {
    let der = der(PUBLIC);
    let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#)
}

fn good(path: &str, issuer: &str) -> Option<String> {
    match path {
        "/.well-known/openid-configuration" => ok(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys"}}"#)),
        "/keys" => ok(&keys("a")),
        _ => Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()),
    }
}

fn token(issuer: &str, kid: &str) -> String {
    // Chooses jsonwebtoken's cryptography for the process.
    JwtKey::pem(JwtAlgorithm::EdDSA, PUBLIC).unwrap();
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    let claims = std::collections::BTreeMap::from([("iss", issuer), ("sub", "5")]);
    let mut claims = serde_json::to_value(claims).unwrap();
    claims["exp"] = 4_000_000_000_u64.into();
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&der(PRIVATE))).unwrap()
}

async fn refusal(tokens: &JwtAuthenticator, token: &str) -> Option<AuthError> {
    tokens.verify(token).await.err()
}

#[tokio::test]
async fn the_issuers_url_is_enough() {
    let provider = Provider::with(good).await;
    let issuer = provider.issuer();
    let tokens = rooms_jwks::oidc(&issuer).unwrap();
    assert_eq!(refusal(&tokens, &token(&issuer, "a")).await, None);
    assert_eq!(refusal(&tokens, &token(&issuer, "a")).await, None);
    assert_eq!(provider.requests.load(Ordering::Relaxed), 2, "discovery and keys, once");
    assert_eq!(refusal(&tokens, &token("https://other.example", "a")).await, Some(AuthError::Issuer));
    assert_eq!(refusal(&tokens, &token(&issuer, "b")).await, Some(AuthError::UnknownKey));
    let alone = rooms_jwks::jwks(&format!("{issuer}/keys")).unwrap();
    assert_eq!(refusal(&alone, &token("https://any.example", "a")).await, None);
}

#[tokio::test]
async fn a_bad_provider_lets_nobody_in() {
    let evil = Provider::with(good).await;
    let evil_keys = format!("{}/keys", evil.issuer());
    let documents: Vec<(&str, Respond)> = vec![
        ("no document", Box::new(|_, _| Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()))),
        ("not HTTP", Box::new(|_, _| Some("garbage".into()))),
        ("closed at once", Box::new(|_, _| Some(String::new()))),
        (
            "another issuer",
            Box::new(|path, issuer| match path {
                "/keys" => good(path, issuer),
                _ => ok(&format!(r#"{{"issuer":"{issuer}/","jwks_uri":"{issuer}/keys"}}"#)),
            }),
        ),
        (
            "insecure keys",
            Box::new(|path, issuer| match path {
                "/keys" => good(path, issuer),
                _ => ok(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"http://192.0.2.1/keys"}}"#)),
            }),
        ),
        (
            "keys in a file",
            Box::new(|_, issuer| ok(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"file:///etc/passwd"}}"#))),
        ),
        (
            "a redirect",
            Box::new(move |path, issuer| match path {
                "/keys" => Some(format!("HTTP/1.1 302 Found\r\nLocation: {evil_keys}\r\nContent-Length: 0\r\n\r\n")),
                _ => good(path, issuer),
            }),
        ),
        (
            "keys without an end",
            Box::new(|path, issuer| match path {
                "/keys" => Some(format!("HTTP/1.1 200 OK\r\n\r\n{}{}", keys("a"), " ".repeat(2_000_000))),
                _ => good(path, issuer),
            }),
        ),
        (
            "cut keys",
            Box::new(|path, issuer| match path {
                "/keys" => Some(format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}", keys("a"))),
                _ => good(path, issuer),
            }),
        ),
        ("no keys", Box::new(|path, issuer| if path == "/keys" { ok(r#"{"keys":[]}"#) } else { good(path, issuer) })),
        ("no answer", Box::new(|path, issuer| if path == "/keys" { None } else { good(path, issuer) })),
    ];
    for (what, answer) in documents {
        let provider = Provider::with(answer).await;
        let issuer = provider.issuer();
        let tokens = rooms_jwks::oidc(&issuer).unwrap();
        assert_eq!(refusal(&tokens, &token(&issuer, "a")).await, Some(AuthError::Unavailable), "{what}");
    }
    assert_eq!(evil.requests.load(Ordering::Relaxed), 0, "nobody was sent there");
}

#[tokio::test]
async fn keys_that_drip_in_are_waited_for_no_longer_than_for_any_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        _ = stream.read(&mut [0; 4096]).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        // Never long without a byte, and never done.
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let tokens = rooms_jwks::jwks(&url).unwrap();
    // Ten times what one answer may take.
    let asked = timeout(Duration::from_secs(50), refusal(&tokens, &token("https://any.example", "a"))).await;
    assert_eq!(asked.unwrap(), Some(AuthError::Unavailable));
}

#[test]
fn an_address_is_https_or_this_machine() {
    let refused = |url: &str| rooms_jwks::oidc(url).err();
    for good in [
        "https://id.example",
        "https://id.example/realms/a",
        "http://localhost:8080",
        "http://127.0.0.1",
        "http://[::1]:1",
    ] {
        assert_eq!(refused(good), None, "{good}");
    }
    for insecure in
        ["http://id.example", "http://localhost.evil.example", "ftp://id.example", "http://127.0.0.1.evil.example"]
    {
        assert_eq!(refused(insecure), Some(UrlError::Insecure), "{insecure}");
    }
    for no_url in ["", "file:///etc/passwd", "id.example", "https://"] {
        assert_eq!(refused(no_url), Some(UrlError::NotAUrl), "{no_url}");
    }
}
