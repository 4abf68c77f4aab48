//! The places of HTTP/2 connections, of which each has many streams.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../rooms-core/tests/support/http2_places.rs"]
mod http2_places;
#[path = "../../rooms-core/tests/support/streams.rs"]
#[allow(dead_code, reason = "it serves other tests, too")]
mod streams;

use std::{future::pending, net::SocketAddr, pin::pin, time::Duration};

use hyper::{
    Request,
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rooms_core::{RoomManager, Shutdown, adapter};
use rooms_warp::{RoomEvents, RoomUpgrade};
use tokio::net::TcpListener;
use warp::Filter as _;

async fn serve(rooms: &RoomManager) -> SocketAddr {
    let rooms = rooms.clone();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let live = warp::path!("live").and(rooms_warp::events(&rooms)).map(|events: RoomEvents| events.room("post", 42));
    let socket =
        warp::path!("socket").and(rooms_warp::upgrade(&rooms)).map(|upgrade: RoomUpgrade| upgrade.room("post", 42));
    let app = TowerToHyperService::new(warp::service(warp::path::end().map(|| "here".to_owned()).or(live).or(socket)));
    tokio::spawn(async move {
        let how = Shutdown::within(Duration::from_secs(1));
        adapter::serve(&rooms, listener, pending(), how, move |stream, _, mut ending| {
            let (app, place) = (app.clone(), ending.place());
            let app = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(place.clone());
                app.call(request)
            });
            async move {
                let http = Builder::new(TokioExecutor::new());
                let mut http = http.http2_only();
                http.http2().enable_connect_protocol();
                let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), app));
                tokio::select! {
                    _ = served.as_mut() => return,
                    () = ending.begun() => served.as_mut().graceful_shutdown(),
                }
                _ = served.await;
            }
        })
        .await;
    });
    address
}

#[tokio::test]
async fn a_connection_with_streams_of_rooms_keeps_nobody_out_and_with_none_it_takes_a_place_or_ends() {
    let rooms = streams::rooms();
    http2_places::a_connection_with_streams_of_rooms_keeps_nobody_out(serve(&rooms).await, &rooms).await;
}
