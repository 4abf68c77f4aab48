//! A board whose events are declared once, as Rust enums: the compiler, the server and the page's TypeScript hold to them.
//!
//! `cargo run --example typed --features axum,schema`, then open <http://localhost:3000> in two windows. `PORT` is 3000 unless
//! set. `-- --schema` prints the JSON Schema, and `-- --async-api` the document of AsyncAPI, and nothing is served.
//!
//! After a change of `events.rs`, make the page's types anew, and have them compared with the page:
//!
//! ```sh
//! cargo run --example typed --features axum,schema -- --schema |
//!   node clients/typescript/bin/ws-rooms-types.mjs --out examples/typed/rooms-types.d.ts
//! tsc --project examples/typed
//! ```

mod events;

use std::{env, error::Error, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, Response},
    routing::{get, post, put},
};
use rooms::{
    Attempt, AuthError, Authenticator, Identity, Kind, RoomManager, Shutdown, TypedRooms, TypedStates,
    axum::RoomUpgrade,
};
use tokio::net::TcpListener;

use crate::events::{BoardCommand, BoardEvent, Notice, Topic};

#[derive(Clone)]
struct App {
    rooms: RoomManager,
    users: TypedRooms<Notice>,
    topics: TypedStates<Topic>,
}

impl axum::extract::FromRef<App> for RoomManager {
    fn from_ref(app: &App) -> Self {
        app.rooms.clone()
    }
}

/// Everybody, without a token.
#[derive(Debug)]
struct Guests;

#[async_trait::async_trait]
impl Authenticator for Guests {
    async fn authenticate(&self, _: &Attempt<'_>) -> Result<Identity, AuthError> {
        Ok(Identity::guest())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = rooms()?;
    let schema = rooms.schema("Board", "1.0.0");
    match env::args().nth(1).as_deref() {
        Some("--schema") => println!("{:#}", schema.json_schema()),
        Some("--async-api") => println!("{:#}", schema.async_api()),
        Some(other) => return Err(format!("there is no option {other}").into()),
        None => serve(rooms).await?,
    }
    Ok(())
}

fn rooms() -> Result<RoomManager, Box<dyn Error>> {
    let board = Kind::public().allow_publish().events_with_schema::<BoardEvent>().publishes_with_schema(
        |member, command: BoardCommand| async move {
            let by = member.identity().user().to_owned();
            Ok(match command {
                BoardCommand::Put { card } => BoardEvent::CardChanged { card, by },
                BoardCommand::Remove { id } => BoardEvent::CardRemoved { id },
            })
        },
    );
    // What it is about is kept for a day.
    let board = board.keep_state(Duration::from_secs(86_400)).state_with_schema::<Topic>();
    let user = Kind::owner_only().events_with_schema::<Notice>();
    Ok(RoomManager::builder().authenticator(Guests).kind("board", board).kind("user", user).build()?)
}

async fn serve(rooms: RoomManager) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let app = App { users: rooms.typed("user")?, topics: rooms.typed_states("board")?, rooms: rooms.clone() };
    let script = |text: &'static str| get(move || async move { ([(CONTENT_TYPE, "text/javascript")], text) });
    let router = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/page.js", script(include_str!("page.js")))
        .route("/rooms.js", script(rooms::PAGE_CLIENT))
        .route("/live", get(live))
        .route("/users/{user}/cards/{card}", post(assign))
        .route("/boards/{board}/topic", put(set_topic))
        .with_state(app);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    tracing::info!("listening on http://localhost:{}", listener.local_addr()?.port());
    let stop = async { _ = tokio::signal::ctrl_c().await };
    rooms::axum::serve(&rooms, listener, router, stop, Shutdown::within(Duration::from_secs(2))).await;
    Ok(())
}

async fn live(upgrade: RoomUpgrade) -> Response {
    upgrade.rooms()
}

/// Who joins later is told it, too.
async fn set_topic(
    State(app): State<App>,
    Path(board): Path<String>,
    Json(topic): Json<Topic>,
) -> Result<(), StatusCode> {
    let board = app.topics.room(board).map_err(|_| StatusCode::NOT_FOUND)?;
    board.set(&topic).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(())
}

/// A `BoardEvent` here would not compile.
async fn assign(State(app): State<App>, Path((user, card)): Path<(String, u64)>) -> Result<(), StatusCode> {
    let user = app.users.room(user).map_err(|_| StatusCode::NOT_FOUND)?;
    let notice = Notice::Assigned { board: "1".to_owned(), card };
    user.broadcast(&notice).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(())
}
