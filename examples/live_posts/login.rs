//! A demonstration login: it believes whoever you say you are. A real service checks a password first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{Json, extract::State, http::StatusCode};
use jsonwebtoken::{EncodingKey, Header};
use rooms::Identity;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App,
    api::{Body, Problem},
};

/// Who makes the tokens, and for whom: no token that another service signed with the same secret is good here.
pub(crate) const NAME: &str = "live_posts";
/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(3600);

pub(crate) struct Tokens(EncodingKey);

impl Tokens {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(EncodingKey::from_secret(secret))
    }

    fn sign(&self, user: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LIFETIME;
        let claims = json!({"sub": user, "exp": end.as_secs(), "iss": NAME, "aud": NAME});
        jsonwebtoken::encode(&Header::default(), &claims, &self.0)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Login {
    user: String,
}

/// `POST /login {"user":"5"}` gives `{"token":..}`.
pub(crate) async fn login(State(app): State<App>, Body(login): Body<Login>) -> Result<Json<Value>, Problem> {
    Identity::new(&*login.user).map_err(|_| {
        Problem(StatusCode::UNPROCESSABLE_ENTITY, "user: 1 to 200 of A-Z a-z 0-9 - _ . ~ @ | + = / :".into())
    })?;
    let token = app.tokens.sign(&login.user).map_err(|error| {
        tracing::error!(%error, "a token can't be signed");
        Problem(StatusCode::INTERNAL_SERVER_ERROR, "the token can't be signed".into())
    })?;
    Ok(Json(json!({"token": token})))
}
