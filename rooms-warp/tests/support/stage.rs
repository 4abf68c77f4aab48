//! What `adapter_conformance!` wants served, by Warp.

use rooms_core::testing::adapter_conformance::Stage;
use rooms_warp::{RoomEvents, RoomUpgrade};
use warp::{Filter, Rejection, Reply};

pub(crate) fn routes(stage: &Stage) -> impl Filter<Extract: Reply, Error = Rejection> + Clone + Send + Sync + 'static {
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
    let of_one = |kind: String, id: String, events: RoomEvents| events.room(&kind, id);
    let of_one = warp::path!("events" / String / String).and(rooms_warp::events(&stage.rooms)).map(of_one);
    let of_many = warp::path!("events").and(rooms_warp::events(&stage.rooms)).map(RoomEvents::rooms);
    one.or(strict).or(browsers).or(services).or(many).or(of_one).or(of_many)
}
