//! A demonstration login: it believes whoever you say you are. A real service checks a password first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use rooms::Identity;
use serde::Deserialize;
use serde_json::json;
use warp::{
    http::StatusCode,
    hyper::body::Bytes,
    reply::{Reply as _, Response},
};

use crate::{
    App,
    api::{Problem, parsed},
};

/// Who makes the tokens, and for whom: no token that another service signed with the same secret is good here.
pub(crate) const NAME: &str = "chat";
/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What a user's id may be, for whoever typed another.
pub(crate) const USER_RULE: &str = "user: 1 to 200 of A-Z a-z 0-9 - _ . ~ @ | + = / :";

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
struct Login {
    user: String,
}

/// `POST /login {"user":"ann"}` gives `{"token":..}`.
pub(crate) async fn login(app: App, body: Bytes) -> Response {
    token(&app, &body).unwrap_or_else(Problem::into_response)
}

fn token(app: &App, body: &[u8]) -> Result<Response, Problem> {
    let login: Login = parsed(body)?;
    Identity::new(&*login.user).map_err(|_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, USER_RULE))?;
    let token = app.tokens.sign(&login.user).map_err(|error| {
        tracing::error!(%error, "a token can't be signed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the token can't be signed")
    })?;
    Ok(warp::reply::json(&json!({"token": token})).into_response())
}
