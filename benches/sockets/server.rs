//! The server under measurement: an ordinary Axum program on the public API alone.

use axum::{Router, extract::Path, response::Response, routing::get};
use rooms::{Endpoint, JwtAuthenticator, Kind, RoomManager, axum::RoomUpgrade};
use tokio::net::TcpListener;

use crate::Result;

pub(crate) const SECRET: &str = "a secret for benchmarks, nothing else";

/// Serves on a free port, which is the first line of its output, until it is killed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run() -> Result<()> {
    let rooms = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET)?)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated())
        .build()?;
    let app = Router::new().route("/posts/{post}/live", get(live)).with_state(rooms);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}

async fn live(upgrade: RoomUpgrade, Path(post): Path<u64>) -> Response {
    upgrade.room("post", post)
}
