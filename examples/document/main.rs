//! A text that many write at once, also offline: a real editor with Yjs in the page, and rooms that carry its bytes.
//!
//! `scripts/document-page && cargo run --example document --features axum`, then open <http://localhost:3000/#minutes> in two
//! tabs. `PORT` is 3000 unless set, and `JWT_SECRET` a random one.
//!
//! This program knows nothing of Yjs. The room `document:minutes` keeps the newest updates, for pages that were away, and
//! `cursors:minutes` carries who is where, which nobody needs later. As a room does not keep updates for ever, the pages publish
//! the whole text now and then, so that what the room keeps is enough for a page that has nothing. A text is gone when nobody had
//! it open for a day; where it has to last, keep what the room keeps in Redis, or the whole texts in a database.

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Path as Captured, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, Response},
    routing::{get, post},
};
use jsonwebtoken::{EncodingKey, Header};
use rooms::{
    Endpoint, HookError, Identity, JwtAuthenticator, Kind, Overflow, RoomManager, Shutdown, axum::RoomUpgrade,
    bus::Retention,
};
use serde_json::json;
use tokio::net::TcpListener;

/// The longest update, and so the longest text with its past, in bytes. `shared_text.js` has it too.
const MAX_UPDATE: usize = 256 * 1024;

/// The bytes that a document's room keeps: four times as many as are published between two whole texts.
const KEPT_BYTES: usize = 8 * MAX_UPDATE;

/// A cursor and a name.
const MAX_CURSOR: usize = 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let secret = match env::var("JWT_SECRET") {
        Ok(secret) => secret.into_bytes(),
        Err(_) => {
            let mut secret = vec![0; 32];
            getrandom::fill(&mut secret)?;
            secret
        }
    };
    let script = script()?;

    let document = Kind::authenticated()
        .allow_publish()
        .allow_binary()
        .history(Retention::messages(600).bytes(KEPT_BYTES).age(Duration::from_secs(24 * 3600)));
    let cursors = Kind::authenticated().allow_publish().allow_binary().overflow(Overflow::DropOldest);
    let cursors = cursors.on_binary_publish(|_, cursor| async move {
        match cursor.len() <= MAX_CURSOR {
            true => Ok(cursor),
            false => Err(HookError::refused("a cursor has at most 1024 bytes")),
        }
    });
    let rooms: RoomManager = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(&secret)?)
        .endpoint(Endpoint::new().query_token("token"))
        .limits(|limits| {
            limits.max_broadcast_bytes = MAX_UPDATE;
            limits.max_message_bytes = MAX_UPDATE + 1024;
            // Who comes is given at most three quarters of what its outbox holds: that is to be all that is kept.
            limits.max_outbox_bytes = 2 * KEPT_BYTES;
        })
        .kind("document", document)
        .kind("cursors", cursors)
        .build()?;

    let routes = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/page.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], script) }))
        .route("/rooms.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], rooms::PAGE_CLIENT) }))
        .route("/tokens/{user}", post(token).with_state(EncodingKey::from_secret(&secret)))
        .route("/ws", get(live))
        .with_state(rooms.clone());
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    tracing::info!("listening on http://localhost:{}", listener.local_addr()?.port());
    let stop = async {
        _ = tokio::signal::ctrl_c().await;
    };
    rooms::axum::serve(&rooms, listener, routes, stop, Shutdown::within(Duration::from_secs(5))).await;
    Ok(())
}

/// The page's script: a bundle of the editor, Yjs and `page/page.js`, which npm makes.
fn script() -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/document/page/dist/page.js");
    let how = "`scripts/document-page` makes it, with Node";
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}; {how}", path.display()))
}

async fn live(upgrade: RoomUpgrade) -> Response {
    upgrade.rooms()
}

/// A token for an hour. It believes any name: a real service checks a password first.
async fn token(State(key): State<EncodingKey>, Captured(user): Captured<String>) -> Result<String, StatusCode> {
    Identity::new(&*user).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(3600);
    let claims = json!({"sub": user, "exp": end.as_secs()});
    jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
