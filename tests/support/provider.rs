//! An OpenID provider on this machine: discovery, keys that are exchanged on demand, and the authorization code flow with PKCE.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{StatusCode, header::ACCESS_CONTROL_ALLOW_ORIGIN},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rooms::{JwtAlgorithm, JwtKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

const ED25519: &str = include_str!("../../rooms-core/tests/keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("../../rooms-core/tests/keys/ed25519.pub.pem");
const P256: &str = include_str!("../../rooms-core/tests/keys/p256.pem");
const P256_PUBLIC: &str = include_str!("../../rooms-core/tests/keys/p256.pub.pem");

/// One key pair of the provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    First,
    Second,
}

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    state: Arc<Mutex<Inner>>,
}

struct Inner {
    /// The one that it signs with, and the only one that it publishes.
    key: Key,
    lifetime: Duration,
    /// By their code: who signed in, and the challenge.
    codes: HashMap<String, (String, String)>,
    /// Who may have a new token, by their refresh token.
    refreshes: HashMap<String, String>,
    refreshed: usize,
    numbers: u64,
}

impl Provider {
    /// One whose tokens are good for so long.
    pub(crate) async fn start(lifetime: Duration) -> Self {
        // Chooses jsonwebtoken's cryptography for the process.
        JwtKey::pem(JwtAlgorithm::EdDSA, ED25519_PUBLIC).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (codes, refreshes) = Default::default();
        let state = Inner { key: Key::First, lifetime, codes, refreshes, refreshed: 0, numbers: 0 };
        let provider = Self { issuer, state: Arc::new(Mutex::new(state)) };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/approve", get(approve))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        provider
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap()
    }

    /// From now on it signs with this key, and publishes no other.
    pub(crate) fn exchange_keys(&self, key: Key) {
        self.inner().key = key;
    }

    /// How often it gave a new token for a refresh token.
    pub(crate) fn refreshed(&self) -> usize {
        self.inner().refreshed
    }

    /// A token for a user, as it would give one now.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_for(user, "rooms")
    }

    pub(crate) fn token_for(&self, user: &str, audience: &str) -> String {
        let (key, lifetime) = {
            let inner = self.inner();
            (inner.key, inner.lifetime)
        };
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + lifetime;
        let claims = json!({"iss": self.issuer, "aud": audience, "sub": user, "exp": end.as_secs()});
        let (algorithm, signer) = match key {
            Key::First => (Algorithm::EdDSA, EncodingKey::from_ed_der(&der(ED25519))),
            Key::Second => (Algorithm::ES256, EncodingKey::from_ec_der(&der(P256))),
        };
        let header = Header { kid: Some(format!("{key:?}")), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, &signer).unwrap()
    }

    fn number(&self) -> String {
        let mut inner = self.inner();
        inner.numbers += 1;
        format!("number-{}", inner.numbers)
    }

    fn tokens(&self, user: String) -> Response {
        let refresh = self.number();
        let answer = json!({"access_token": self.token(&user), "refresh_token": refresh, "token_type": "Bearer"});
        self.inner().refreshes.insert(refresh, user);
        to_pages(Json(answer))
    }
}

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}

/// An answer that pages of other origins may read.
fn to_pages(answer: impl IntoResponse) -> Response {
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], answer).into_response()
}

async fn discovery(State(provider): State<Provider>) -> Response {
    let at = |path: &str| format!("{}{path}", provider.issuer);
    to_pages(Json(json!({
        "issuer": provider.issuer,
        "jwks_uri": at("/keys"),
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
    })))
}

async fn keys(State(provider): State<Provider>) -> Json<Value> {
    let key = provider.inner().key;
    // What stands at the end of a public key is the key.
    let public = |pem: &str, length: usize| {
        let der = der(pem);
        der[der.len() - length..].to_vec()
    };
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = match key {
        Key::First => json!({"kty": "OKP", "crv": "Ed25519", "x": text(&public(ED25519_PUBLIC, 32))}),
        Key::Second => {
            let point = public(P256_PUBLIC, 64);
            json!({"kty": "EC", "crv": "P-256", "x": text(&point[..32]), "y": text(&point[32..])})
        }
    };
    let mut jwk = jwk;
    jwk["kid"] = json!(format!("{key:?}"));
    Json(json!({"keys": [jwk]}))
}

type Fields = HashMap<String, String>;

/// Asks who it is; the rest of what the page said goes along.
async fn authorize(Query(asked): Query<Fields>) -> Html<String> {
    assert_eq!((&*asked["response_type"], &*asked["code_challenge_method"]), ("code", "S256"));
    let hidden: String = ["redirect_uri", "state", "code_challenge"]
        .map(|name| format!("<input type=hidden name={name} value=\"{}\">", asked[name]))
        .concat();
    Html(format!("<form action=/approve>{hidden}<input name=user id=user><button id=approve>Yes</button></form>"))
}

async fn approve(State(provider): State<Provider>, Query(asked): Query<Fields>) -> Redirect {
    let code = provider.number();
    provider.inner().codes.insert(code.clone(), (asked["user"].clone(), asked["code_challenge"].clone()));
    Redirect::to(&format!("{}?code={code}&state={}", asked["redirect_uri"], asked["state"]))
}

async fn token(State(provider): State<Provider>, Form(asked): Form<Fields>) -> Response {
    let user = match &*asked["grant_type"] {
        "authorization_code" => {
            let code = provider.inner().codes.remove(&asked["code"]);
            let answer = URL_SAFE_NO_PAD.encode(Sha256::digest(&asked["code_verifier"]));
            code.and_then(|(user, challenge)| (answer == challenge).then_some(user))
        }
        "refresh_token" => {
            let mut inner = provider.inner();
            let user = inner.refreshes.remove(&asked["refresh_token"]);
            inner.refreshed += usize::from(user.is_some());
            user
        }
        _ => None,
    };
    match user {
        Some(user) => provider.tokens(user),
        None => to_pages(StatusCode::BAD_REQUEST),
    }
}
