//! This library behind Axum: an ordinary program on the public API alone.

use axum::{Router, extract::Path, response::Response, routing::get};
use rooms::{
    Connection, Endpoint, Identity, JwtAuthenticator, Kind, Limits, RoomKey, RoomManager, axum::RoomUpgrade, ws,
};
use tokio::net::TcpListener;

use super::{Command, Filling, SECRET, Setup, announce, calls, control};
use crate::Result;

pub(super) async fn serve(filling: Filling, setup: Setup) -> Result<()> {
    let rooms = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET)?)
        .endpoint(Endpoint::new().query_token("token"))
        .kind("post", Kind::authenticated())
        .kind("other", Kind::authenticated())
        .build()?;
    let _others = fill(&rooms, setup.other_rooms).await?;
    let times = calls::begin(&rooms, setup.call)?;
    let app = Router::new().route("/posts/{post}/live", get(live)).with_state(rooms.clone());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let commands = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce(listener.local_addr()?, commands.local_addr()?);
    let publish = async |command: Command| {
        let Ok(room) = RoomKey::new("post", command.room) else { return };
        if let Err(error) = rooms.broadcast(&room, &filling.payload(command)).await {
            eprintln!("{error}");
        }
    };
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        controlled = control(commands, publish, || times.report()) => controlled?,
    }
    Ok(())
}

async fn live(upgrade: RoomUpgrade, Path(post): Path<u64>) -> Response {
    upgrade.room("post", post)
}

/// A connection without a socket.
pub(super) fn inside(rooms: &RoomManager, user: &str) -> Result<Connection> {
    let (_, sink) = ws::over(tokio::io::join(tokio::io::empty(), tokio::io::sink()), &[], rooms.limits());
    Ok(rooms.connect(Identity::new(user)?, sink)?)
}

/// Makes rooms that have a member each and are never published to.
async fn fill(rooms: &RoomManager, count: usize) -> Result<Vec<Connection>> {
    let each = Limits::default().rooms_per_connection;
    let mut connections: Vec<Connection> = Vec::new();
    for room in 0..count {
        if room % each == 0 {
            connections.push(inside(rooms, &format!("other{room}"))?);
        }
        if let Some(connection) = connections.last_mut() {
            connection.join(&RoomKey::new("other", room)?).await?;
        }
    }
    Ok(connections)
}
