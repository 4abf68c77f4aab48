//! The contract of an adapter to a web framework, clause by clause, over real sockets.
//!
//! [`adapter_conformance!`](crate::adapter_conformance) makes a test of each clause. It is given an async function that
//! serves five routes on a free port of `127.0.0.1` and says where:
//!
//! - `/rooms/{kind}/{id}`: a connection for that one room, by the endpoint of the manager;
//! - `/strict/{kind}/{id}`: the same by the endpoint [`Stage::strict`];
//! - `/browsers/{kind}/{id}` and `/services/{kind}/{id}`: the same by the endpoints [`Stage::browsers`] and
//!   [`Stage::services`], with the upgrade's `with_claims(stage.claims(upgrade.identity()))` and
//!   `on_close(stage.on_close())`;
//! - `/socket`: a connection that is in many rooms, by the endpoint of the manager;
//! - `/events/{kind}/{id}`: that one room as an event stream, by the endpoint of the manager;
//! - `/events`: the rooms that the URL names as one.
//!
//! `{kind}` and `{id}` are percent-decoded, once, by the router or by the adapter. The adapter is told the peer's address.
//!
//! ```
//! use std::net::SocketAddr;
//! use rooms_core::testing::adapter_conformance::Stage;
//!
//! async fn serve(stage: Stage) -> SocketAddr {
//!     let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
//!     let address = listener.local_addr().unwrap();
//!     tokio::spawn(routes(listener, stage));
//!     address
//! }
//!
//! /// Serves the five routes by the adapter that is to be proved.
//! async fn routes(listener: tokio::net::TcpListener, stage: Stage) {
//! #   let _ = (listener, stage.rooms, stage.strict, stage.browsers, stage.services);
//! }
//!
//! rooms_core::adapter_conformance!(serve);
//! # fn main() {}
//! ```

#![allow(clippy::indexing_slicing, reason = "a suite fails by panicking")]

mod binary;
mod client;
mod closing;
mod conversation;
mod events;
mod opening;
mod pausing;
mod sign_in;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use self::client::Client;
pub use self::{
    binary::binary,
    closing::{
        a_drain_ends_well, a_vanished_client_is_counted_out, closes_arrive, silence_is_noticed, slow_is_alone,
        slow_readers_are_told_why, the_answer_to_a_close_is_waited_for,
    },
    conversation::{fidelity, many_rooms, one_room, resumption},
    events::{a_room_as_events, refused_events, resumed_events, the_end_of_events},
    opening::{bad_tokens, escapes, origins, refusals, token_places},
    pausing::paused_rooms,
    sign_in::{closed_ways_in, ends, ways_in},
};
use crate::{
    auth::{Attempt, AuthError, Authenticator, Identity},
    bus::Retention,
    close::{Close, CloseCode},
    handshake::{BadToken, Endpoint},
    kind::{HookError, Kind, Member},
    limits::Limits,
    manager::RoomManager,
    payload::Payload,
    room_key::RoomKey,
};

/// What an adapter serves for the suite.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stage {
    /// The manager behind all routes.
    pub rooms: RoomManager,
    /// The endpoint of the routes under `/strict`, where a bad token is refused with 401 and `Authorization` is not looked at.
    pub strict: Endpoint,
    /// The endpoint of the routes under `/browsers`: the token is in a cookie, in the protocol, or in the first message.
    pub browsers: Endpoint,
    /// The endpoint of the routes under `/services`, which has an authenticator of its own.
    pub services: Endpoint,
    ended: mpsc::UnboundedSender<Close>,
}

impl Stage {
    /// What a handler of `/browsers` and `/services` adds to the claims of who comes.
    #[must_use]
    pub fn claims(&self, who: Option<&Identity>) -> [(&'static str, Value); 1] {
        [("seen_as", json!(who.map_or("nobody yet", Identity::user)))]
    }

    /// What such a handler does when its connection has ended.
    pub fn on_close(&self) -> impl FnOnce(Close) + Send + 'static + use<> {
        let ended = self.ended.clone();
        move |close| _ = ended.send(close)
    }
}

/// An adapter under test: how it serves, and how patient the suite is with it.
#[derive(Debug)]
pub struct Suite<F> {
    serve: F,
    patience: Duration,
}

/// Makes a test of each clause of the contract, in the place where it is called.
///
/// The argument is an async function from a [`Stage`] to the address where it is served. The tests need tokio with the
/// features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! adapter_conformance {
    ($serve:expr) => {
        $crate::adapter_conformance! { @tests ($serve)
            what_is_no_upgrade_is_told_so_over_http => refusals,
            a_foreign_page_is_refused => origins,
            a_bad_token_is_upgraded_and_closed_or_refused_as_the_endpoint_says => bad_tokens,
            the_token_is_found_where_it_may_be_and_in_one_place_only => token_places,
            browsers_and_services_come_each_in_their_own_way_into_one_room => ways_in,
            what_may_not_come_that_way_does_not => closed_ways_in,
            a_handler_is_told_when_its_connection_ends => ends,
            what_is_escaped_in_a_url_is_decoded_once => escapes,
            a_connection_for_one_room => one_room,
            a_connection_for_one_room_that_comes_back => resumption,
            a_connection_for_many_rooms => many_rooms,
            a_page_that_is_hidden_is_counted_and_misses_nothing_unsaid => paused_rooms,
            what_is_sent_arrives_as_it_was => fidelity,
            bytes_travel_beside_text => binary,
            a_close_frame_arrives_whatever_was_wrong => closes_arrive,
            a_member_that_does_not_read_delays_nobody => slow_is_alone,
            a_slow_reader_gets_a_whole_stream_that_ends_in_its_close_frame => slow_readers_are_told_why,
            the_stream_ends_after_the_answer_to_the_close_frame => the_answer_to_a_close_is_waited_for,
            a_client_that_vanishes_is_counted_out => a_vanished_client_is_counted_out,
            a_client_that_answers_no_ping_is_closed => silence_is_noticed,
            a_drain_refuses_with_503_and_closes_with_1012 => a_drain_ends_well,
            rooms_are_event_streams_too => a_room_as_events,
            an_event_stream_that_can_not_be_is_refused => refused_events,
            an_event_stream_that_comes_back_is_resumed => resumed_events,
            an_event_stream_delays_nobody_and_ends_with_its_reason => the_end_of_events,
        }
    };
    (@tests ($serve:expr) $($name:ident => $clause:ident,)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let suite = $crate::testing::adapter_conformance::Suite::new($serve);
                $crate::testing::adapter_conformance::$clause(&suite).await;
            }
        )*
    };
}

/// How an adapter serves a stage: an async function.
pub trait Serve: Send + Sync {
    /// Serves it on a free port, and says where.
    fn serve(&self, stage: Stage) -> impl Future<Output = SocketAddr> + Send;
}

impl<F, Served> Serve for F
where
    F: Fn(Stage) -> Served + Send + Sync,
    Served: Future<Output = SocketAddr> + Send,
{
    fn serve(&self, stage: Stage) -> impl Future<Output = SocketAddr> + Send {
        self(stage)
    }
}

impl<F: Serve> Suite<F> {
    /// A suite that waits for anything up to 30 s: long beyond what any step takes, on any machine.
    pub const fn new(serve: F) -> Self {
        Self { serve, patience: Duration::from_secs(30) }
    }

    /// Sets how long the suite waits for anything.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    async fn stage(&self) -> Theatre {
        self.stage_with(|_| {}).await
    }

    async fn stage_with(&self, limits: impl FnOnce(&mut Limits) + Send) -> Theatre {
        let post = Kind::new().join_rule(|_, room| async move { room.id() != "13" }).on_message(
            |member, message| async move {
                let message = message.json()?;
                if message["type"] == "panic" {
                    return Err(Close::INTERNAL.into());
                }
                member.send(&json!({"type": "echo", "of": message}));
                Ok(())
            },
        );
        let endpoint = Endpoint::new().query_token("token");
        let rooms = RoomManager::builder()
            .authenticator(Doorman)
            .endpoint(endpoint.clone())
            .kind("post", post)
            .kind("channel", Kind::authenticated().allow_publish())
            .kind("log", Kind::authenticated().history(Retention::messages(10)).on_join(said))
            .kind("draft", Kind::authenticated().allow_publish().allow_binary().history(Retention::messages(10)))
            .kind("seat", Kind::authenticated().on_join(seat))
            .kind("user", Kind::owner_only())
            .limits(limits)
            .build()
            .expect("rooms");
        let strict = endpoint.bad_token(BadToken::Refuse).without_header_token();
        let browsers = Endpoint::new().without_header_token().cookie_token("session").protocol_token("app.v1");
        let browsers = browsers.subprotocols(["app.v2"]).first_message_token().origins([PAGE]).expect("an origin");
        let peers = Peers::default();
        let services = Endpoint::new().authenticator(ServiceDoorman(Arc::clone(&peers)));
        let (ends, ended) = mpsc::unbounded_channel();
        let stage = Stage { rooms: rooms.clone(), strict, browsers, services, ended: ends };
        let address = self.serve.serve(stage).await;
        Theatre { rooms, address, peers, ended, patience: self.patience }
    }
}

/// The origin of the pages that may bring a cookie.
const PAGE: &str = "https://app.example";

/// Says who joins, with the claims that a handler added.
async fn seat(member: Member) -> Result<Value, HookError> {
    let seen_as = member.identity().claim::<String>("seen_as").ok().flatten();
    Ok(json!({"user": member.identity().user(), "seen_as": seen_as, "speaks": member.subprotocol()}))
}

/// Repeats what was said with a join.
async fn said(member: Member) -> Result<Value, HookError> {
    Ok(json!({"said": member.with().map(Payload::json).transpose()?}))
}

/// A served adapter.
struct Theatre {
    rooms: RoomManager,
    address: SocketAddr,
    /// Of whom the authenticator of services was told.
    peers: Peers,
    /// What the handlers of `/browsers` and `/services` were told.
    ended: mpsc::UnboundedReceiver<Close>,
    patience: Duration,
}

type Peers = Arc<Mutex<Vec<Option<SocketAddr>>>>;

impl Theatre {
    async fn connect(&self, target: &str) -> Client {
        self.connect_with(target, &[]).await.unwrap_or_else(|status| panic!("{target}: {status} instead of an upgrade"))
    }

    /// Connects with these headers besides; the status where that is refused.
    async fn connect_with(&self, target: &str, headers: &[(&str, &str)]) -> Result<Client, u16> {
        let opened = Client::open(self.address, target, headers, &[], self.patience).await;
        opened.map_err(|head| head.status())
    }

    async fn status(&self, target: &str, headers: &[(&str, &str)]) -> u16 {
        self.connect_with(target, headers).await.err().unwrap_or(101)
    }

    /// A member of `post:42` that has had its `room_joined`.
    async fn joined(&self, user: &str) -> Client {
        let mut client = self.connect(&format!("/rooms/post/42?token=user-{user}")).await;
        assert_eq!(client.json().await["type"], "room_joined");
        client
    }

    async fn broadcast(&self, value: &Value) {
        self.rooms.broadcast(&room(), value).await.expect("a broadcast");
    }

    /// Waits until nobody is connected any more.
    async fn empty(&self) {
        let empty = async {
            while self.rooms.stats().connections > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(self.patience, empty).await.expect("every connection is counted out");
    }
}

fn room() -> RoomKey {
    RoomKey::new("post", 42).expect("a room")
}

fn bad_token() -> (u16, String) {
    (CloseCode::POLICY.get(), "Invalid token".to_owned())
}

/// Lets in whoever has the token `user-` and their id.
#[derive(Debug)]
struct Doorman;

#[async_trait]
impl Authenticator for Doorman {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let token = attempt.token().ok_or(AuthError::Missing)?;
        match token {
            "hang" => std::future::pending().await,
            "panic" => panic!("the table of users is gone"),
            _ => {
                let user = token.strip_prefix("user-").ok_or(AuthError::Refused("no such token"))?;
                Identity::new(user).map_err(|_| AuthError::Subject)
            }
        }
    }
}

/// Lets in the one service that there is.
#[derive(Debug)]
struct ServiceDoorman(Peers);

#[async_trait]
impl Authenticator for ServiceDoorman {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        match attempt.token().ok_or(AuthError::Missing)? {
            "service" => {
                self.0.lock().expect("peers").push(attempt.peer());
                Identity::new("service").map_err(|_| AuthError::Subject)
            }
            _ => Err(AuthError::Refused("no such service")),
        }
    }
}
