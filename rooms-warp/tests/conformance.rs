//! The contract of an adapter, held by the one for Warp.

use std::net::SocketAddr;

use rooms_core::{adapter_conformance, testing::adapter_conformance::Stage};
use rooms_warp::RoomUpgrade;
use tokio::net::TcpListener;
use warp::Filter as _;

async fn serve(stage: Stage) -> SocketAddr {
    let room = |kind: String, id: String, upgrade: RoomUpgrade| upgrade.room(&kind, id);
    let one = warp::path!("rooms" / String / String).and(rooms_warp::upgrade(&stage.rooms)).map(room);
    let strict = warp::path!("strict" / String / String)
        .and(rooms_warp::upgrade_at(&stage.rooms, stage.strict.clone()))
        .map(room);
    // With what the suite adds to an upgrade.
    let guide = stage.clone();
    let guided = move |kind: String, id: String, upgrade: RoomUpgrade| {
        let claims = guide.claims(upgrade.identity());
        upgrade.with_claims(claims).on_close(guide.on_close()).room(&kind, id)
    };
    let browsers = warp::path!("browsers" / String / String)
        .and(rooms_warp::upgrade_at(&stage.rooms, stage.browsers.clone()))
        .map(guided.clone());
    let services = warp::path!("services" / String / String)
        .and(rooms_warp::upgrade_at(&stage.rooms, stage.services.clone()))
        .map(guided);
    let many = warp::path!("socket").and(rooms_warp::upgrade(&stage.rooms)).map(RoomUpgrade::rooms);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap_or_else(|error| panic!("a free port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("an address: {error}"));
    tokio::spawn(warp::serve(one.or(strict).or(browsers).or(services).or(many)).incoming(listener).run());
    address
}

adapter_conformance!(serve);
