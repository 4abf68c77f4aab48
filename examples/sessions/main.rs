//! A notice board behind a login form: the session cookie of `tower-sessions` and `axum-login` is also who connects.
//!
//! `cargo run --example sessions --features axum`, then open <http://localhost:3000> and sign in as ann, bob or cy; each one's
//! password is their name twice. `PORT` (3000 unless set) and `ORIGIN` (the page's, where it is not this machine; with `https`
//! the cookie is `Secure`) come from the environment.
//!
//! Who signs out is disconnected at once, in all tabs of that session and in no other, on all nodes. Who changes the password
//! is disconnected in all sessions, and goes on in the browser where that was done.

mod board;
mod sign_in;
mod users;

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::FromRef,
    http::{StatusCode, header::CONTENT_TYPE},
    response::Html,
    routing::{get, post},
};
use axum_login::{AuthManagerLayerBuilder, tower_sessions::cookie};
use rooms::{Endpoint, Kind, RoomManager, Shutdown};
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};

use crate::{board::Board, sign_in::Sessions, users::Users};

/// The name of the cookie.
const COOKIE: &str = "session";
/// How long a session lives that nobody uses. One that is used lives on.
const IDLE: cookie::time::Duration = cookie::time::Duration::hours(8);

/// How long a request with a body may take.
const WHOLE_REQUEST: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    rooms: RoomManager,
    board: Arc<Board>,
}

impl FromRef<App> for RoomManager {
    fn from_ref(app: &App) -> Self {
        app.rooms.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let port = listener.local_addr()?.port();
    // A browser sends the cookie whichever page connects, so those that may are named.
    let origins = match env::var("ORIGIN") {
        Ok(origin) => vec![origin],
        Err(_) => vec![format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}")],
    };

    // In memory, so everybody is signed out by a restart; with a store over a database they are not.
    let store = MemoryStore::default();
    let users = Users::demonstration();
    let sessions = Sessions::new(store.clone(), users.clone());
    let endpoint = Endpoint::new().without_header_token().cookie_token(COOKIE).origins(&origins)?;
    let rooms = RoomManager::builder()
        .authenticator(sessions)
        .endpoint(endpoint)
        .kind("board", Kind::authenticated())
        .build()?;
    let cookies = SessionManagerLayer::new(store)
        .with_name(COOKIE)
        .with_same_site(cookie::SameSite::Lax)
        .with_secure(origins.iter().all(|origin| origin.starts_with("https:")))
        .with_expiry(Expiry::OnInactivity(IDLE));
    let app = App { rooms: rooms.clone(), board: Arc::default() };
    let routes = router(app).layer(AuthManagerLayerBuilder::new(users, cookies).build());

    tracing::info!("listening on http://localhost:{port}");
    let stop = async { _ = tokio::signal::ctrl_c().await };
    rooms::axum::serve(&rooms, listener, routes, stop, Shutdown::within(Duration::from_secs(5))).await;
    Ok(())
}

/// For routes that read a body, which a client could otherwise take for ever to send.
fn whole_request() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, WHOLE_REQUEST)
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/rooms.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], rooms::PAGE_CLIENT) }))
        .route("/login", post(sign_in::login).layer(whole_request()))
        .route("/logout", post(sign_in::logout))
        .route("/password", post(sign_in::change_password).layer(whole_request()))
        .route("/me", get(sign_in::me))
        .route("/notes", get(board::notes).post(board::note).layer(whole_request()))
        .route("/live", get(board::live))
        .with_state(app)
}
