//! A program with rooms behind one of the adapters, served by one thread: whatever blocks there blocks everybody.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{future::pending, net::SocketAddr, time::Duration};

use axum::{Extension, Router, extract::Path, response::Response, routing::any};
use rooms::{
    Endpoint, JwtAuthenticator, Kind, RoomManager, RoomManagerBuilder, Shutdown, axum as rooms_axum, warp as rooms_warp,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{sleep, timeout},
};
use warp::{Filter as _, Reply as _, filters::BoxedFilter, http::StatusCode, reply::Response as WarpResponse};

use crate::tokens::SECRET;

/// Long beyond what any step takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Adapter {
    Axum,
    Warp,
}

pub(crate) const BOTH: [Adapter; 2] = [Adapter::Axum, Adapter::Warp];

pub(crate) struct Served {
    pub(crate) rooms: RoomManager,
    pub(crate) address: SocketAddr,
    thread: Option<Runtime>,
}

impl Served {
    /// With `/posts/{id}` for the room of a post and `/posts/all` for many rooms, and the same below the name of each other
    /// endpoint.
    pub(crate) async fn start(
        adapter: Adapter,
        endpoints: Vec<(&'static str, Endpoint)>,
        configure: impl FnOnce(RoomManagerBuilder) -> RoomManagerBuilder + Send + 'static,
    ) -> Self {
        let thread = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started = thread.spawn(async move {
            let builder = RoomManager::builder()
                .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
                .endpoint(Endpoint::new().query_token("token").first_message_token())
                // Each who comes or goes is told to all.
                .kind("post", Kind::authenticated().allow_publish().list_members());
            let rooms = configure(builder).build().unwrap();
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let all = [("posts", rooms.endpoint().clone())].into_iter().chain(endpoints);
            let (served, stop) = (rooms.clone(), Shutdown::within(Duration::ZERO));
            match adapter {
                Adapter::Axum => {
                    let app = behind_axum(&rooms, all);
                    tokio::spawn(async move { rooms_axum::serve(&served, listener, app, pending(), stop).await });
                }
                Adapter::Warp => {
                    let app = behind_warp(&rooms, all);
                    tokio::spawn(async move { rooms_warp::serve(&served, listener, app, pending(), stop).await });
                }
            }
            (rooms, address)
        });
        let (rooms, address) = started.await.unwrap();
        Self { rooms, address, thread: Some(thread) }
    }

    /// Runs something on the thread that serves everybody.
    pub(crate) fn spawn<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.thread.as_ref().unwrap().spawn(what)
    }

    /// Waits until so many are connected.
    pub(crate) async fn connections(&self, count: usize) {
        let settled = async {
            while self.rooms.stats().connections != count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, settled).await.expect("the number of connections");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Waiting for it would wait for a hook that blocks.
        self.thread.take().unwrap().shutdown_background();
    }
}

fn behind_axum(rooms: &RoomManager, endpoints: impl Iterator<Item = (&'static str, Endpoint)>) -> Router {
    async fn live(upgrade: rooms_axum::RoomUpgrade, Path(id): Path<String>) -> Response {
        if id == "all" { upgrade.rooms() } else { upgrade.room("post", id) }
    }
    let routes = endpoints.fold(Router::new(), |routes, (name, endpoint)| {
        routes.route(&format!("/{name}/{{id}}"), any(live).layer(Extension(endpoint)))
    });
    routes.with_state(rooms.clone())
}

fn behind_warp(
    rooms: &RoomManager,
    endpoints: impl Iterator<Item = (&'static str, Endpoint)>,
) -> BoxedFilter<(WarpResponse,)> {
    let live = |id: String, upgrade: rooms_warp::RoomUpgrade| {
        if id == "all" { upgrade.rooms() } else { upgrade.room("post", id) }
    };
    let nothing = warp::path!("nothing").map(|| StatusCode::NOT_FOUND.into_response()).boxed();
    endpoints.fold(nothing, |routes, (name, endpoint)| {
        let route = warp::path(name).and(warp::path::param()).and(warp::path::end());
        routes.or(route.and(rooms_warp::upgrade_at(rooms, endpoint)).map(live)).unify().boxed()
    })
}
