//! A chat: channels, direct messages, who is here and who is typing, over one WebSocket for each tab, or one event stream
//! where the network lets none through.
//!
//! `cargo run --example chat --features warp,redis`, then open <http://localhost:3000> in two tabs.
//! `PORT` (3000 unless set), `JWT_SECRET` (a random one unless set) and `REDIS_URL` come from the environment. With
//! `ADMIN_PASSWORD` there is an inspector at `/admin/rooms`, for the user `admin`.
//!
//! With `REDIS_URL`, and the same `JWT_SECRET`, several processes are one chat. Nothing is stored: whoever is not there
//! when something is said does not hear it.

mod api;
mod health;
mod inspector;
mod login;
mod rules;

use std::{convert::Infallible, env, error::Error, sync::Arc, time::Duration};

use rooms::{
    Endpoint, JwtAuthenticator, RoomManager, Shutdown,
    redis::RedisBus,
    warp::{RoomEvents, RoomUpgrade, events, upgrade},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use warp::{Filter, reply::Reply};

use crate::login::Tokens;

/// The longest body of a request, in bytes; a direct message of the longest is far below.
const MAX_BODY: u64 = 16 * 1024;

/// Over how long the members are closed when the process is told to stop.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// How long it stays then at least, so that a readiness probe sees that it takes nobody.
const SEEN: Duration = Duration::from_secs(5);

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    rooms: RoomManager,
    /// What joins the processes, where there are several.
    bus: Option<RedisBus>,
    tokens: Arc<Tokens>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Warp's server writes an `ERROR` for each request that it can't read: anybody could fill the log.
    let targets = Targets::new().with_default(LevelFilter::INFO).with_target("warp::server", LevelFilter::OFF);
    tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(targets).init();
    let port: u16 = match env::var("PORT") {
        Ok(port) => port.parse().map_err(|_| "PORT is a number from 0 to 65535")?,
        Err(_) => 3000,
    };
    let bus = match env::var("REDIS_URL") {
        Ok(url) => Some(RedisBus::connect(url).await?),
        Err(_) => None,
    };
    let app = app(&secret()?, bus)?;
    let rooms = app.rooms.clone();
    // Before anybody can know that the program is there.
    let stop = stop_signal()?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    tracing::info!("listening on http://localhost:{}", listener.local_addr()?.port());

    // HTTP goes on being answered while the members leave.
    let how = Shutdown::within(SHUTDOWN).at_least(SEEN);
    rooms::warp::serve(&rooms, listener, routes(app), stop, how).await;
    tracing::info!("gone");
    Ok(())
}

fn app(secret: &[u8], bus: Option<RedisBus>) -> Result<App, Box<dyn Error>> {
    let mut rooms = rules::kinds(RoomManager::builder())
        .authenticator(JwtAuthenticator::hs256(secret)?.issuer(login::NAME).audience(login::NAME))
        .endpoint(Endpoint::new().query_token("token"));
    if let Some(bus) = &bus {
        rooms = rooms.bus(bus.clone());
    }
    Ok(App { rooms: rooms.build()?, bus, tokens: Arc::new(Tokens::new(secret)) })
}

fn routes(app: App) -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone + Send + Sync + 'static {
    let page = warp::path::end().and(warp::get()).map(|| warp::reply::html(include_str!("page.html")));
    let client = warp::path!("rooms.js")
        .and(warp::get())
        .map(|| warp::reply::with_header(rooms::PAGE_CLIENT, "content-type", "text/javascript"));
    let socket = warp::path!("ws").and(upgrade(&app.rooms)).map(RoomUpgrade::rooms);
    let events = warp::path!("sse").and(events(&app.rooms)).map(RoomEvents::rooms);
    let inspector = inspector::route(&app, env::var("ADMIN_PASSWORD").ok().filter(|password| !password.is_empty()));
    let with_app = warp::any().map(move || app.clone());
    let body = warp::body::content_length_limit(MAX_BODY).and(warp::body::stream()).and_then(api::whole);
    let login = warp::path!("login").and(warp::post()).and(with_app.clone()).and(body).then(login::login);
    let message = warp::path!("messages" / String)
        .and(warp::post())
        .and(with_app.clone())
        .and(warp::header::headers_cloned())
        .and(body)
        .then(api::message);
    let say = warp::path!("channels" / String / "messages")
        .and(warp::post())
        .and(with_app.clone())
        .and(warp::header::headers_cloned())
        .and(body)
        .then(api::say);
    let members = warp::path!("channels" / String / "members")
        .and(warp::get())
        .and(with_app.clone())
        .and(warp::header::headers_cloned())
        .then(api::members);
    let healthz = warp::path!("healthz").and(warp::get()).and(with_app.clone()).map(|app: App| health::healthz(&app));
    let readyz = warp::path!("readyz").and(warp::get()).and(with_app).map(|app: App| health::readyz(&app));
    page.or(client)
        .or(socket)
        .or(events)
        .or(inspector)
        .or(login)
        .or(message)
        .or(say)
        .or(members)
        .or(healthz)
        .or(readyz)
        .recover(api::refused)
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
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
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
