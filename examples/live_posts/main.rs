//! Posts with comments, likes and "N watching now", live in every browser that has one open.
//!
//! `cargo run --example live_posts --features axum,redis`, then open <http://localhost:3000> in two tabs.
//! `PORT` (3000 unless set), `JWT_SECRET` (a random one unless set), `REDIS_URL` and `TRUSTED_PROXIES` (addresses and networks,
//! with commas between them) come from the environment. With `ADMIN_PASSWORD` there is an inspector at `/admin/rooms`, for the
//! user `admin`.
//!
//! With `REDIS_URL`, and the same `JWT_SECRET`, several processes are one service: what is posted to one is told by all.
//! What is stored is stored by each for itself, as there is no database here.
//!
//! With the feature `metrics` and `METRICS_PORT`, `http://127.0.0.1:<METRICS_PORT>/metrics` is for Prometheus; `METRICS_HOST` is
//! another address to listen on. It names the kinds of rooms, so let only Prometheus come there.

mod api;
mod health;
mod inspector;
mod login;
#[cfg(feature = "metrics")]
mod metrics;
mod outbox;
mod posts;

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::FromRef,
    http::{StatusCode, header::CONTENT_TYPE},
    response::Html,
    routing::{get, post},
};
use rooms::{Endpoint, JwtAuthenticator, Kind, Proxies, RoomManager, Shutdown, bus::Retention, redis::RedisBus};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower_http::timeout::TimeoutLayer;

use crate::{login::Tokens, outbox::Outbox, posts::Posts};

/// Over how long the members are closed when the process is told to stop.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// How long it stays then at least, so that a readiness probe sees that it takes nobody.
const SEEN: Duration = Duration::from_secs(5);

/// How long a request with a body may take.
const WHOLE_REQUEST: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    rooms: RoomManager,
    /// What joins the processes, where there are several.
    bus: Option<RedisBus>,
    posts: Arc<Posts>,
    outbox: Outbox,
    tokens: Arc<Tokens>,
}

impl FromRef<App> for RoomManager {
    fn from_ref(app: &App) -> Self {
        app.rooms.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| "PORT is a number from 0 to 65535")?,
        Err(_) => 3000,
    };
    // Before the bus and the rooms, which record from their beginning.
    #[cfg(feature = "metrics")]
    metrics::serve().await?;
    let bus = match env::var("REDIS_URL") {
        Ok(url) => Some(RedisBus::connect(url).await?),
        Err(_) => None,
    };
    let app = app(&secret()?, bus)?;
    let rooms = app.rooms.clone();
    let password = env::var("ADMIN_PASSWORD").ok().filter(|password| !password.is_empty());
    let inspector = password.map(|password| inspector::route(&app, &password));
    // Before anybody can know that the program is there.
    let stop = stop_signal()?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    tracing::info!("listening on http://localhost:{}", listener.local_addr()?.port());

    // HTTP goes on being answered while the members leave.
    let how = Shutdown::within(SHUTDOWN).at_least(SEEN);
    rooms::axum::serve(&rooms, listener, router(app).merge(inspector.unwrap_or_default()), stop, how).await;
    tracing::info!("gone");
    Ok(())
}

fn app(secret: &[u8], bus: Option<RedisBus>) -> Result<App, Box<dyn Error>> {
    let posts = Arc::new(Posts::demonstration());
    let known = Arc::clone(&posts);
    let post = Kind::new()
        .join_rule(move |_who, room| {
            let known = Arc::clone(&known);
            async move { room.id().parse().is_ok_and(|id| known.exists(id)) }
        })
        // What a page that was offline for a while is given; its comments are stored anyway.
        .history(Retention::messages(500))
        .on_join(|member| async move { Ok(json!({"post_id": member.room().id().parse::<u64>().ok()})) });
    let mut rooms = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(secret)?.issuer(login::NAME).audience(login::NAME))
        // What is broadcast is for every reader to see, and no message has a secret beside it.
        .endpoint(Endpoint::new().query_token("token").deflate())
        .kind("post", post);
    if let Ok(proxies) = env::var("TRUSTED_PROXIES") {
        rooms = rooms.proxies(Proxies::x_forwarded_for(proxies.split(','))?);
    }
    if let Some(bus) = &bus {
        rooms = rooms.bus(bus.clone());
    }
    let rooms = rooms.build()?;
    let outbox = Outbox::new(rooms.clone());
    Ok(App { rooms, bus, posts, outbox, tokens: Arc::new(Tokens::new(secret)) })
}

/// For routes that read a body, which a client could otherwise take for ever to send.
fn whole_request() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, WHOLE_REQUEST)
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/rooms.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], rooms::PAGE_CLIENT) }))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/login", post(login::login).layer(whole_request()))
        .route("/posts", get(api::posts))
        .route("/posts/{post_id}/comments", get(api::comments).post(api::comment).layer(whole_request()))
        .route("/posts/{post_id}/likes", post(api::like))
        .route("/ws/posts/{post_id}/live", get(api::live))
        .route("/sse/posts/{post_id}/live", get(api::events))
        .layer(axum::extract::DefaultBodyLimit::max(64 * 1024))
        .with_state(app)
}

/// `JWT_SECRET`, or a random one: then the tokens of an earlier run are not taken, and several processes do not agree.
fn secret() -> Result<Vec<u8>, Box<dyn Error>> {
    if let Ok(secret) = env::var("JWT_SECRET") {
        return Ok(secret.into_bytes());
    }
    let mut secret = vec![0; 32];
    getrandom::fill(&mut secret)?;
    tracing::warn!("JWT_SECRET is not set: using a random secret, so tokens are good for this run only");
    Ok(secret)
}

/// Listens for Ctrl-C and SIGTERM from now on; the future resolves at the first of them.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down");
    })
}
