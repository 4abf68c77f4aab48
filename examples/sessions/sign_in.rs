//! Signing in and out over HTTP, and who connects to the rooms: whoever the cookie's session belongs to.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use axum_login::{AuthSession, AuthUser as _, AuthnBackend as _};
use rooms::{Attempt, AuthError, Authenticator, Identity};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_sessions::{MemoryStore, Session, session::Id};

use crate::{
    App,
    connections::{Connections, SESSION},
    users::{Credentials, Users},
};

/// Where in a session it is written whose it is.
const SEAT: &str = "seat";

/// Whose a session is.
#[derive(Serialize, Deserialize)]
struct Seat {
    user: String,
    /// As axum-login keeps it: with another one the session is over.
    auth_hash: Vec<u8>,
}

/// `POST /login {"user":..,"password":..}`
///
/// The body is JSON, which no form on another site can send.
pub(crate) async fn login(
    State(app): State<App>,
    mut auth: AuthSession<Users>,
    Json(credentials): Json<Credentials>,
) -> Result<Json<Value>, StatusCode> {
    let user = auth.authenticate(credentials).await.map_err(failed)?.ok_or(StatusCode::UNAUTHORIZED)?;
    // The session may have been somebody else's until now.
    if let Some(session) = auth.session.id() {
        app.connections.end(&session.to_string());
    }
    auth.login(&user).await.map_err(failed)?;
    let seat = Seat { user: user.id(), auth_hash: user.session_auth_hash().to_vec() };
    auth.session.insert(SEAT, seat).await.map_err(failed)?;
    Ok(Json(json!({"user": user.name})))
}

/// `POST /logout`: the session is over, and then its connections.
pub(crate) async fn logout(State(app): State<App>, mut auth: AuthSession<Users>) -> Result<StatusCode, StatusCode> {
    let session = auth.session.id();
    auth.logout().await.map_err(failed)?;
    if let Some(session) = session {
        app.connections.end(&session.to_string());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /me`
pub(crate) async fn me(auth: AuthSession<Users>) -> Result<Json<Value>, StatusCode> {
    let user = auth.user.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(json!({"user": user.name})))
}

fn failed(error: impl std::fmt::Debug) -> StatusCode {
    tracing::error!(?error, "the sessions can't be reached");
    StatusCode::SERVICE_UNAVAILABLE
}

/// Looks up the session that the cookie of an upgrade names.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: Arc<MemoryStore>,
    users: Users,
    connections: Connections,
}

impl Sessions {
    pub(crate) fn new(store: MemoryStore, users: Users, connections: Connections) -> Self {
        Self { store: Arc::new(store), users, connections }
    }

    async fn identity(&self, session: Id) -> Result<Identity, AuthError> {
        let id = session.to_string();
        let session = Session::new(Some(session), Arc::clone(&self.store), None);
        // A store that is away is no bad cookie: the page is told to come back.
        let seat: Option<Seat> = session.get(SEAT).await.map_err(|_| AuthError::Unavailable)?;
        let seat = seat.ok_or(AuthError::Refused("no such session"))?;
        let Ok(user) = self.users.get_user(&seat.user).await;
        let user = user.filter(|user| user.session_auth_hash() == seat.auth_hash);
        let user = user.ok_or(AuthError::Refused("the session is over"))?;
        let identity = Identity::new(user.name).map_err(|_| AuthError::Subject)?;
        let ends = session.expiry_date();
        // The id is as good as the cookie: it stays in this process, and nobody is shown it.
        Ok(identity.with_claims(json!({SESSION: id}).to_string()).expiring_at(ends.into()))
    }
}

#[async_trait::async_trait]
impl Authenticator for Sessions {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let session: Id = attempt.token().ok_or(AuthError::Missing)?.parse().map_err(|_| AuthError::Malformed)?;
        // Before the session is looked up, so that one that ends at this moment is ended here, too.
        self.connections.begin(&session.to_string());
        let identity = self.identity(session).await;
        if identity.is_err() {
            self.connections.give_up(&session.to_string());
        }
        identity
    }
}
