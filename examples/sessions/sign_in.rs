//! Signing in and out over HTTP, and who connects to the rooms: whoever the cookie's session belongs to.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Json, extract::State, http::StatusCode};
use axum_login::{AuthSession, AuthUser as _, AuthnBackend as _};
use rooms::{Attempt, AuthError, Authenticator, Identity, Revocation, RoomManager};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_sessions::{MemoryStore, Session, session::Id};

use crate::users::{Credentials, NewPassword, User, Users};

/// Where in a session it is written whose it is.
const SEAT: &str = "seat";
/// The longest password, in bytes.
const MAX_PASSWORD: usize = 256;
/// How long a connection may be under way whose session was looked up: more than `Limits::handshake_timeout`.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// Whose a session is.
#[derive(Serialize, Deserialize)]
struct Seat {
    user: String,
    /// As axum-login keeps it: with another one the session is over.
    auth_hash: Vec<u8>,
    /// The name of the session for the rooms, which is no secret as its id is.
    jti: String,
    /// When it was made, in seconds since 1970: so that all of somebody's older ones can be revoked at once. With a fraction:
    /// in whole seconds one that was made within the second of a revocation, and after it, would be older and stay revoked.
    iat: f64,
}

/// `POST /login {"user":..,"password":..}`
///
/// The body is JSON, which no form on another site can send.
pub(crate) async fn login(
    State(rooms): State<RoomManager>,
    mut auth: AuthSession<Users>,
    Json(credentials): Json<Credentials>,
) -> Result<Json<Value>, StatusCode> {
    let user = auth.authenticate(credentials).await.map_err(failed)?.ok_or(StatusCode::UNAUTHORIZED)?;
    // The session may have been somebody else's until now.
    let before = auth.session.get(SEAT).await.map_err(failed)?;
    sign_in(&mut auth, &user).await?;
    disconnect(&rooms, before).await?;
    Ok(Json(json!({"user": user.name})))
}

/// Makes the session this user's.
async fn sign_in(auth: &mut AuthSession<Users>, user: &User) -> Result<(), StatusCode> {
    auth.login(user).await.map_err(failed)?;
    let iat = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let auth_hash = user.session_auth_hash().to_vec();
    let seat = Seat { user: user.id(), auth_hash, jti: Id::default().to_string(), iat };
    auth.session.insert(SEAT, seat).await.map_err(failed)
}

/// `POST /password {"password":..}`: all sessions of the user are over, and their connections; this browser signs in again.
pub(crate) async fn change_password(
    State(rooms): State<RoomManager>,
    mut auth: AuthSession<Users>,
    Json(NewPassword { password }): Json<NewPassword>,
) -> Result<StatusCode, StatusCode> {
    let user = auth.user.clone().ok_or(StatusCode::UNAUTHORIZED)?;
    if !(1..=MAX_PASSWORD).contains(&password.len()) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let user = auth.backend.change_password(user, password);
    let before_now = Revocation::IssuedBefore { time: SystemTime::now(), user: Some(user.id()) };
    rooms.revoke(before_now).await.map_err(failed)?;
    sign_in(&mut auth, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /logout`: the session is over, and then its connections.
pub(crate) async fn logout(
    State(rooms): State<RoomManager>,
    mut auth: AuthSession<Users>,
) -> Result<StatusCode, StatusCode> {
    let seat = auth.session.get(SEAT).await.map_err(failed)?;
    auth.logout().await.map_err(failed)?;
    disconnect(&rooms, seat).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Closes the connections of a session that is over, and those that are just being made.
async fn disconnect(rooms: &RoomManager, seat: Option<Seat>) -> Result<(), StatusCode> {
    let Some(Seat { jti, .. }) = seat else { return Ok(()) };
    rooms.revoke_until(Revocation::Jti(jti), SystemTime::now() + UNDER_WAY).await.map(drop).map_err(failed)
}

/// `GET /me`
pub(crate) async fn me(auth: AuthSession<Users>) -> Result<Json<Value>, StatusCode> {
    let user = auth.user.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(json!({"user": user.name})))
}

fn failed(error: impl std::fmt::Debug) -> StatusCode {
    tracing::error!(?error, "signing in or out failed");
    StatusCode::SERVICE_UNAVAILABLE
}

/// Looks up the session that the cookie of an upgrade names.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: Arc<MemoryStore>,
    users: Users,
}

impl Sessions {
    pub(crate) fn new(store: MemoryStore, users: Users) -> Self {
        Self { store: Arc::new(store), users }
    }
}

#[async_trait::async_trait]
impl Authenticator for Sessions {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let id: Id = attempt.token().ok_or(AuthError::Missing)?.parse().map_err(|_| AuthError::Malformed)?;
        let session = Session::new(Some(id), Arc::clone(&self.store), None);
        // A store that is away is no bad cookie: the page is told to come back.
        let seat: Option<Seat> = session.get(SEAT).await.map_err(|_| AuthError::Unavailable)?;
        let seat = seat.ok_or(AuthError::Refused("no such session"))?;
        let Ok(user) = self.users.get_user(&seat.user).await;
        let user = user.filter(|user| user.session_auth_hash() == seat.auth_hash);
        let user = user.ok_or(AuthError::Refused("the session is over"))?;
        let identity = Identity::new(user.name).map_err(|_| AuthError::Subject)?;
        let claims = json!({"jti": seat.jti, "iat": seat.iat}).to_string();
        // The page comes back then with the cookie that it has, whose session may live longer by now.
        Ok(identity.with_claims(claims).expiring_at(session.expiry_date().into()))
    }
}
