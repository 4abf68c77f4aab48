//! This library behind Axum and behind Warp: ordinary programs on the public API alone.

use std::{future::pending, io, time::Duration};

use axum::{Router, extract::Path, response::Response, routing::get};
use rooms::{
    Connection, Endpoint, HookError, Identity, JwtAuthenticator, Kind, Limits, Member, Payload, RoomKey, RoomManager,
    Shutdown, axum::RoomUpgrade, ws,
};
use tokio::net::TcpListener;
use warp::Filter as _;

use super::{Command, Filling, SECRET, Setup, announce, calls, control};
use crate::Result;

pub(super) async fn serve(filling: Filling, setup: Setup) -> Result<()> {
    let endpoint = Endpoint::new().query_token("token");
    let rooms = RoomManager::builder()
        .authenticator(JwtAuthenticator::hs256(SECRET)?)
        .endpoint(if setup.deflate { endpoint.deflate() } else { endpoint })
        .kind("post", Kind::authenticated().on_message(pass_on))
        .kind("other", Kind::authenticated())
        // All of the load comes from one address, by its thousands.
        .limits(|limits| {
            (limits.max_connections_per_ip, limits.max_unauthenticated_per_ip) = (usize::MAX, usize::MAX);
            (limits.connects_per_second_per_ip, limits.connect_burst_per_ip) = (u32::MAX, u32::MAX);
        })
        .build()?;
    let _others = fill(&rooms, setup.other_rooms).await?;
    let times = calls::begin(&rooms, setup.call)?;
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
        served = listen(setup.kind, listener, rooms.clone()) => served?,
        controlled = control(commands, publish, || times.report()) => controlled?,
    }
    Ok(())
}

async fn listen(kind: super::Kind, listener: TcpListener, rooms: RoomManager) -> io::Result<()> {
    if kind == super::Kind::RoomsOnWarp {
        let live = warp::path!("posts" / u64 / "live").and(rooms::warp::upgrade(&rooms));
        let live = live.map(|post, upgrade: rooms::warp::RoomUpgrade| upgrade.room("post", post));
        warp::serve(live).incoming(listener).run().await;
        return Ok(());
    }
    let app = Router::new().route("/posts/{post}/live", get(live)).with_state(rooms.clone());
    if kind == super::Kind::RoomsServed {
        rooms::axum::serve(&rooms, listener, app, pending(), Shutdown::within(Duration::ZERO)).await;
        return Ok(());
    }
    axum::serve(listener, app).await
}

/// For a scenario in which members say something.
async fn pass_on(member: Member, message: Payload) -> std::result::Result<(), HookError> {
    let message: serde_json::Value = message.json().map_err(|_| HookError::refused("not JSON"))?;
    member.broadcast(&message).await.map(drop).map_err(|_| HookError::unavailable())
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
    let each = Limits::default().max_rooms_per_connection;
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
