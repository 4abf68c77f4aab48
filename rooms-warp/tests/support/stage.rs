//! What `adapter_conformance!` wants served, by Warp.

use rooms_core::testing::adapter_conformance::Stage;
use rooms_warp::RoomUpgrade;
use warp::{Filter, Rejection, Reply};

pub(crate) fn routes(stage: Stage) -> impl Filter<Extract: Reply, Error = Rejection> + Clone + Send + Sync + 'static {
    let room = |kind: String, id: String, upgrade: RoomUpgrade| upgrade.room(&kind, id);
    let one = warp::path!("rooms" / String / String).and(rooms_warp::upgrade(&stage.rooms)).map(room);
    let strict =
        warp::path!("strict" / String / String).and(rooms_warp::upgrade_at(&stage.rooms, stage.strict)).map(room);
    let many = warp::path!("socket").and(rooms_warp::upgrade(&stage.rooms)).map(RoomUpgrade::rooms);
    one.or(strict).or(many)
}
