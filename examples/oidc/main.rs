//! A chat room behind an OpenID provider: Keycloak, Auth0, Okta, Entra ID, Zitadel, Dex.
//!
//! `ISSUER=https://id.example/realms/app cargo run --example oidc --features axum,jwks-http`, then open
//! <http://localhost:3000>. `CLIENT_ID` and `AUDIENCE` (`rooms` unless set) are as at the provider, where the page's address
//! has to be allowed as a redirect and as an origin; the client is a public one. `PORT` is 3000 unless set.
//!
//! The page signs in by the authorization code flow with PKCE (RFC 7636), and this program checks its access tokens with the
//! keys that the provider publishes. When the provider changes them, connections stay.

use std::{env, error::Error, time::Duration};

use axum::{
    Json, Router,
    http::header::CONTENT_TYPE,
    response::{Html, Response},
    routing::get,
};
use rooms::{Endpoint, HookError, Kind, Member, Payload, RoomManager, Shutdown, axum::RoomUpgrade};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The longest message, in characters.
const MAX_TEXT: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let issuer = env::var("ISSUER").map_err(|_| "ISSUER is the provider's URL, exactly as in its tokens' `iss`")?;
    let client = env::var("CLIENT_ID").unwrap_or_else(|_| "rooms".to_owned());
    let audience = env::var("AUDIENCE").unwrap_or_else(|_| "rooms".to_owned());
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;

    // The provider makes tokens for its other clients with the same keys: the audience tells ours.
    let tokens = rooms::jwks::oidc(&issuer)?.audience(&audience);
    // A page can't set a header, and a URL is written into logs.
    let endpoint = Endpoint::new().without_header_token().protocol_token("app.v1");
    let lounge = Kind::authenticated().list_members().on_message(say);
    let rooms = RoomManager::builder().authenticator(tokens).endpoint(endpoint).kind("lounge", lounge).build()?;

    let config = json!({"issuer": issuer, "client_id": client, "audience": audience});
    let routes = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/rooms.js", get(|| async { ([(CONTENT_TYPE, "text/javascript")], rooms::PAGE_CLIENT) }))
        .route("/config", get(|| async { Json(config) }))
        .route("/live", get(live))
        .with_state(rooms.clone());
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    tracing::info!("listening on http://localhost:{}", listener.local_addr()?.port());
    let stop = async { _ = tokio::signal::ctrl_c().await };
    rooms::axum::serve(&rooms, listener, routes, stop, Shutdown::within(Duration::from_secs(5))).await;
    Ok(())
}

async fn live(upgrade: RoomUpgrade) -> Response {
    upgrade.room("lounge", 1)
}

/// `{"type":"say","text":..}`
async fn say(member: Member, message: Payload) -> Result<(), HookError> {
    let message = message.json()?;
    let text = message.get("text").and_then(Value::as_str);
    let text = text.filter(|text| (1..=MAX_TEXT).contains(&text.chars().count()));
    let text = text.ok_or_else(|| HookError::refused(format!("text: 1 to {MAX_TEXT} characters")))?;
    let said = json!({"type": "said", "by": member.identity().user(), "text": text});
    member.broadcast(&said).await.map_err(|_| HookError::unavailable())?;
    Ok(())
}
