//! Users that are put out, revoked and refreshed, on four nodes over one Redis, at real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../rooms-redis/tests/support/proxy.rs"]
mod proxy;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Extension, Router, extract::State, response::Response, routing::get};
use futures::{SinkExt as _, StreamExt as _, future::join_all};
use jsonwebtoken::{EncodingKey, Header};
use rooms::{
    Close, CloseCode, Endpoint, Identity, JwtAuthenticator, Kind, Reach, Revocation, RoomKey, RoomManager,
    axum::RoomUpgrade, redis::RedisBus,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use proxy::{Link, Proxy};
use redis_server::{PATIENCE, RedisServer, size};

const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";
const SERVICES: &[u8] = b"another secret of at least 32 bytes";

struct Node {
    rooms: RoomManager,
    address: SocketAddr,
}

/// What the handler adds to the claims of a token.
async fn upgrade(upgrade: RoomUpgrade, State(_): State<RoomManager>) -> Response {
    upgrade.with_claims([("tenant", json!("blue"))]).rooms()
}

impl Node {
    async fn start(redis: &str) -> Self {
        let bus = RedisBus::builder(redis)
            .limits(|limits| {
                limits.probe_interval = Duration::from_millis(400);
                limits.probe_timeout = Duration::from_millis(400);
                limits.response_timeout = Duration::from_millis(400);
                limits.first_backoff = Duration::from_millis(20);
                limits.max_backoff = Duration::from_millis(500);
            })
            .connect()
            .await
            .unwrap();
        let tenants = Kind::new()
            .join_rule(|who: std::sync::Arc<Identity>, room: RoomKey| async move {
                who.claim::<String>("tenant").unwrap().as_deref() == Some(room.id())
            })
            .list_members();
        let rooms = RoomManager::builder()
            .authenticator(JwtAuthenticator::hs256(SECRET).unwrap())
            .endpoint(Endpoint::new().query_token("token"))
            .kind("tenant", tenants)
            .kind("team", Kind::new().join_claim("rooms"))
            .bus(bus)
            .build()
            .unwrap();
        let services = Endpoint::new().query_token("token").authenticator(JwtAuthenticator::hs256(SERVICES).unwrap());
        let app = Router::new()
            .route("/services", get(upgrade).layer(Extension(services)))
            .route("/live", get(upgrade))
            .with_state(rooms.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { rooms, address }
    }

    async fn fleet(redis: &RedisServer, count: usize) -> Vec<Self> {
        let nodes = join_all((0..count).map(|_| Self::start_at(redis.url()))).await;
        until(|| nodes.iter().all(|node| node.rooms.stats().nodes == count)).await;
        nodes
    }

    async fn start_at(redis: String) -> Self {
        Self::start(&redis).await
    }

    async fn connect(&self, path: &str, token: &str) -> Socket {
        let url = format!("ws://{}{path}?token={token}", self.address);
        Socket(connect_async(url).await.unwrap().0)
    }

    /// A tab of a user in the room of the tenant.
    async fn tab(&self, user: &str) -> Socket {
        let mut tab = self.connect("/live", &token(SECRET, &json!({"sub": user, "iat": now() - 60}))).await;
        tab.join("tenant:blue").await;
        tab
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn join(&mut self, room: &str) {
        self.say(&json!({"type": "join", "room": room})).await;
        assert_eq!(self.next_of("room_joined").await["room"], room);
    }

    /// The next event of this type.
    async fn next_of(&mut self, what: &str) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("an event in time") {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if event["type"] == what {
                        return event;
                    }
                }
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{other:?} in place of {what}"),
            }
        }
    }

    /// The code of the close frame, and its reason.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a close in time") {
                Some(Ok(Message::Close(Some(close)))) => return (close.code.into(), close.reason.to_string()),
                Some(Ok(_)) => {}
                other => panic!("{other:?} in place of a close frame"),
            }
        }
    }
}

async fn until(is_so: impl Fn() -> bool + Send + Sync) {
    let waits = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("in time");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token for an hour, with these claims.
fn token(secret: &[u8], claims: &Value) -> String {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().entry("exp").or_insert(json!(now() + 3600));
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn revoked() -> (u16, String) {
    (4410, "revoked".to_owned())
}

#[tokio::test]
async fn a_kick_a_disconnect_and_a_revocation_reach_the_sockets_of_all_nodes() {
    let redis = RedisServer::start().await;
    let nodes = Node::fleet(&redis, 4).await;
    let mut tabs = Vec::new();
    for node in &nodes {
        tabs.push(node.tab("5").await);
    }
    let mut stays = nodes[1].tab("6").await;
    let room: RoomKey = "tenant:blue".parse().unwrap();

    assert_eq!(nodes[0].rooms.kick(&room, "5", "spam").await.unwrap(), Reach::AllNodes);
    for tab in &mut tabs {
        let left = tab.next_of("room_left").await;
        assert_eq!((&left["reason"], &left["message"]), (&json!("kicked"), &json!("spam")));
    }
    nodes[3].rooms.enter("5", &room).await.unwrap();
    for tab in &mut tabs {
        assert_eq!(tab.next_of("room_joined").await["room"], "tenant:blue");
    }
    let close = Close::new(CloseCode::new(4000).unwrap(), "bye");
    nodes[2].rooms.disconnect_user("5", close).await.unwrap();
    for tab in &mut tabs {
        assert_eq!(tab.closed().await, (4000, "bye".to_owned()));
    }

    let mut tabs = join_all(nodes.iter().map(|node| node.tab("5"))).await;
    let old = token(SECRET, &json!({"sub": "5", "iat": now() - 60}));
    let start = Instant::now();
    let time = SystemTime::now() - Duration::from_secs(1);
    nodes[0].rooms.revoke(Revocation::IssuedBefore { time, user: Some("5".into()) }).await.unwrap();
    for tab in &mut tabs {
        assert_eq!(tab.closed().await, revoked());
    }
    let took = start.elapsed();
    println!("out on four nodes after {took:?}");
    assert!(took <= size(PATIENCE, Duration::from_secs(1)), "{took:?}");
    for node in &nodes {
        assert_eq!(node.connect("/live", &old).await.closed().await, revoked());
    }
    // Who signs in again gets in.
    let new = token(SECRET, &json!({"sub": "5", "iat": now()}));
    nodes[2].connect("/live", &new).await.join("tenant:blue").await;
    stays.say(&json!({"type": "ping"})).await;
    stays.next_of("pong").await;
}

#[tokio::test]
async fn a_revocation_outlives_an_outage_of_redis_and_reaches_a_node_that_starts_later() {
    let mut redis = RedisServer::start().await;
    let nodes = Node::fleet(&redis, 4).await;
    let mut tabs = join_all(nodes.iter().map(|node| node.tab("5"))).await;
    redis.kill();
    until(|| nodes.iter().all(|node| node.rooms.stats().bus_down)).await;
    assert_eq!(nodes[0].rooms.revoke(Revocation::User("5".into())).await.unwrap(), Reach::LocalOnly);
    assert_eq!(tabs[0].closed().await, revoked());
    sleep(size(Duration::from_secs(3), Duration::from_secs(30))).await;
    redis.restart().await;
    let up = || nodes.iter().all(|node| !node.rooms.stats().bus_down);
    until(up).await;
    let start = Instant::now();
    for tab in &mut tabs[1..] {
        assert_eq!(tab.closed().await, revoked());
    }
    let took = start.elapsed();
    println!("out on all nodes {took:?} after the last of them had its bus back");
    assert!(took <= size(PATIENCE, Duration::from_secs(1)), "{took:?}");

    let late = Node::start_at(redis.url()).await;
    let start = Instant::now();
    until(|| late.rooms.stats().revocations == 1).await;
    let took = start.elapsed();
    println!("known to a node {took:?} after it was built");
    assert!(took <= size(PATIENCE, Duration::from_secs(1)), "{took:?}");
    let refused = late.connect("/live", &token(SECRET, &json!({"sub": "5"}))).await.closed().await;
    assert_eq!(refused, revoked());
}

#[tokio::test]
async fn a_node_that_alone_was_cut_off_for_longer_than_a_lease_learns_and_tells_within_a_second_of_its_return() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let mut nodes = Node::fleet(&redis, 3).await;
    nodes.push(Node::start(&proxy.url()).await);
    let (cut, others) = nodes.split_last().unwrap();
    until(|| nodes.iter().all(|node| node.rooms.stats().nodes == 4)).await;
    let (mut here, mut there) = (cut.tab("5").await, others[1].tab("6").await);
    proxy.set(Link::Stalled);
    until(|| cut.rooms.stats().bus_down).await;
    until(|| others.iter().all(|node| node.rooms.stats().nodes == 3)).await;
    assert_eq!(others[0].rooms.revoke(Revocation::User("5".into())).await.unwrap(), Reach::AllNodes);
    assert_eq!(cut.rooms.revoke(Revocation::User("6".into())).await.unwrap(), Reach::LocalOnly);
    proxy.set(Link::Open);
    until(|| !cut.rooms.stats().bus_down).await;
    let start = Instant::now();
    assert_eq!(here.closed().await, revoked());
    assert_eq!(there.closed().await, revoked());
    let took = start.elapsed();
    println!("out on both sides {took:?} after the node had its bus back");
    assert!(took <= size(PATIENCE, Duration::from_secs(1)), "{took:?}");
}

#[tokio::test]
async fn a_token_is_refreshed_by_the_authenticator_of_its_endpoint_and_keeps_what_the_handler_added() {
    let redis = RedisServer::start().await;
    let node = Node::start(&redis.url()).await;
    // Half of its eight seconds are over when it is told, and the leeway is ten more.
    let of = |secret: &[u8], claims: Value| token(secret, &claims);
    let first = of(SERVICES, json!({"sub": "5", "rooms": ["team:a", "team:b"], "exp": now() + 5}));
    let mut socket = node.connect("/services", &first).await;
    for room in ["tenant:blue", "team:a", "team:b"] {
        socket.join(room).await;
    }
    assert!(socket.next_of("token_expiring").await["in_ms"].as_u64().unwrap() <= 15_000);
    let refresh = |token: String| json!({"type": "refresh", "token": token, "ref": 1});
    socket.say(&refresh(of(SECRET, json!({"sub": "5"})))).await;
    assert_eq!(socket.next_of("error").await["code"], "bad_token", "of the other endpoint");
    socket.say(&refresh(of(SERVICES, json!({"sub": "5", "rooms": "team:a"})))).await;
    let refreshed = socket.next_of("refreshed").await;
    assert!(refreshed["in_ms"].as_u64().unwrap() > 3_600_000 - 60_000 && refreshed["ref"] == 1);
    let left = socket.next_of("room_left").await;
    assert_eq!((&left["room"], &left["reason"]), (&json!("team:b"), &json!("not_allowed")));
    // The rule of the tenant's room reads the claim that the handler added.
    socket.say(&json!({"type": "leave", "room": "tenant:blue"})).await;
    socket.next_of("room_left").await;
    socket.join("tenant:blue").await;
}
