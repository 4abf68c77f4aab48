//! What a bus says while Redis dies, freezes, refuses and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/listener.rs"]
mod listener;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{sync::Arc, time::Duration};

use rooms_core::{
    Bus,
    bus::{BusError, Topic},
};
use rooms_redis::{ConnectError, RedisBus, RedisBusBuilder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use listener::{Listener, healthy, reconciled, room, subscribe};
use proxy::{Link, Proxy};
use redis_server::{RedisServer, size};

const BACK: &str = "up, perhaps with a loss";

/// As the default, in a tenth of the time.
fn quick(url: String) -> RedisBusBuilder {
    RedisBus::builder(url).limits(|limits| {
        limits.response_timeout = Duration::from_millis(400);
        limits.probe_interval = Duration::from_millis(200);
        limits.probe_timeout = Duration::from_millis(400);
        limits.first_backoff = Duration::from_millis(20);
        limits.max_backoff = Duration::from_millis(500);
    })
}

/// A bus that hears `post:42`.
async fn hearing(builder: RedisBusBuilder) -> (RedisBus, Arc<Listener>) {
    let bus = builder.connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    (bus, heard)
}

/// The bus is up, and hears what is published to it.
async fn works(bus: &RedisBus, heard: &Listener) {
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;
}

#[tokio::test]
async fn a_crash_while_nobody_does_anything_is_noticed_and_healed_however_long_it_takes() {
    let mut redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    let link = || bus.links().remove(0);
    let up = link();
    assert_eq!((&*up.name, up.up, up.subscribed, up.losses), ("Redis", true, 1, 0), "{up:?}");
    assert!(up.round_trip_us.is_some() && up.last_fault.is_none(), "{up:?}");
    redis.kill();
    assert_eq!(heard.hears("down").await, ["down"]);
    let down = link();
    assert!(!down.up && down.losses > 0 && down.last_fault.is_some(), "{down:?}");
    assert!(matches!(bus.publish(&room("post:42"), "x".into()).await, Err(BusError::Down)));
    // Long enough for a dozen attempts: a client that gives up after some has done so.
    sleep(Duration::from_secs(size(4, 60))).await;
    assert!(bus.health().subscriber_losses > 6, "{:?}", bus.health());
    redis.restart().await;
    assert_eq!(heard.hears(BACK).await, [BACK]);
    works(&bus, &heard).await;
    assert!(link().up && bus.links().len() == 1, "{:?}", bus.links());
}

#[tokio::test]
async fn where_nobody_is_subscribed_nothing_is_lost() {
    let mut redis = RedisServer::start().await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    redis.kill();
    heard.hears("down").await;
    redis.restart().await;
    assert_eq!(heard.hears("up").await, ["up"]);
}

#[tokio::test]
async fn a_bus_can_be_made_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    assert!(matches!(quick(redis.url()).connect().await, Err(ConnectError::Unreachable(_))));
    let bus = quick(redis.url()).start().unwrap();
    let heard = Listener::of(&bus);
    assert_eq!(heard.events(), ["down"]);
    let rooms = [room("post:42")];
    bus.subscribe(&rooms);
    redis.restart().await;
    reconciled(&bus).await;
    assert_eq!(heard.hears("up").await, ["down", "up"], "nobody was promised anything before");
    works(&bus, &heard).await;
}

#[tokio::test]
async fn what_is_wanted_while_redis_is_away_is_subscribed_when_it_is_back() {
    let mut redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.kill();
    heard.hears("down").await;
    bus.subscribe(&[room("post:43")]);
    bus.unsubscribe(&[room("post:42")]);
    assert_eq!((bus.health().wanted, bus.health().subscribed), (1, 0));
    redis.restart().await;
    heard.hears_any(&["up", BACK]).await;
    assert_eq!((bus.health().wanted, bus.health().subscribed), (1, 1));
}

#[tokio::test]
async fn a_frozen_redis_is_down_and_nothing_is_lost_when_it_goes_on() {
    let redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.freeze();
    assert_eq!(heard.hears("down").await, ["down"]);
    assert!(matches!(bus.publish(&room("post:42"), "x".into()).await, Err(BusError::Down)));
    redis.thaw();
    assert_eq!(heard.hears("up").await, ["up"], "the subscribing connection was there all the time");
    works(&bus, &heard).await;
    assert_eq!(bus.health().subscriber_losses, 0);
}

#[tokio::test]
async fn what_is_on_its_way_when_redis_freezes_has_an_unknown_outcome_and_comes_once() {
    let redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.freeze();
    let error = bus.publish(&room("post:42"), "perhaps".into()).await.unwrap_err();
    assert!(matches!(error, BusError::Unknown(_)), "{error:?}");
    redis.thaw();
    let events = heard.hears("up").await;
    works(&bus, &heard).await;
    let times = events.iter().filter(|event| *event == "post:42 perhaps").count();
    assert_eq!((times, bus.health().unknown), (1, 1), "{events:?}");
}

#[tokio::test]
async fn a_subscriber_that_is_cut_off_without_a_word_is_found_by_the_probe() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let (bus, heard) = hearing(quick(proxy.url())).await;
    // Only what comes from Redis is held back: it takes publications, and thinks that they are heard.
    proxy.set_present(Link::Mute);
    let start = Instant::now();
    heard.hears("down").await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    heard.hears(BACK).await;
    works(&bus, &heard).await;
}

#[tokio::test]
async fn a_stalled_link_is_down_and_back_when_a_new_one_works() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let (bus, heard) = hearing(quick(proxy.url())).await;
    proxy.set(Link::Stalled);
    heard.hears("down").await;
    assert!(matches!(bus.publish(&room("post:42"), "x".into()).await, Err(BusError::Down)));
    proxy.set(Link::Open);
    heard.hears_any(&["up", BACK]).await;
    works(&bus, &heard).await;
}

#[tokio::test]
async fn a_link_that_is_cut_is_replaced_at_once() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    // A connection that lived so long was a good one.
    let (bus, heard) = hearing(quick(proxy.url()).limits(|limits| limits.max_backoff = Duration::ZERO)).await;
    for _ in 0..5 {
        proxy.cut();
        assert_eq!(heard.hears(BACK).await, ["down", BACK]);
        works(&bus, &heard).await;
    }
}

#[tokio::test]
async fn a_link_that_is_closed_on_our_side_alone_leaves_a_connection_that_changes_nothing() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let (bus, heard) = hearing(quick(proxy.url())).await;
    proxy.set_present(Link::HalfClosed);
    assert_eq!(heard.hears(BACK).await, ["down", BACK]);
    // Redis still thinks that it sends to the old connection, too.
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", "1"]).await, "2");
    assert_eq!(heard.hears("post:42 1").await, ["post:42 1"], "once");
    works(&bus, &heard).await;
}

#[tokio::test]
async fn a_publication_that_reaches_nobody_though_we_are_subscribed_is_a_gap_of_its_topic() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    // The probes are too slow to find it first.
    let builder = quick(proxy.url()).limits(|limits| limits.probe_interval = Duration::from_secs(60));
    let (bus, heard) = hearing(builder).await;
    proxy.set_present(Link::HidesTheEnd);
    assert_eq!(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "1");
    bus.publish(&room("post:7"), "nobody is there, and nobody need be".into()).await.unwrap();
    assert_eq!(heard.events(), [] as [String; 0]);
    bus.publish(&room("post:42"), "lost".into()).await.unwrap();
    assert_eq!(heard.hears(BACK).await, ["gap post:42", "down", BACK]);
    works(&bus, &heard).await;
    assert_eq!(bus.health().unreceived, 1);
}

#[tokio::test]
async fn a_password_that_is_wrong_for_a_while_heals_when_it_is_repaired() {
    let mut redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.kill();
    redis.restart_with(&["--requirepass", "another"]).await;
    heard.hears("down").await;
    let refused =
        |health: &rooms_redis::Health| health.last_fault.as_ref().is_some_and(|fault| fault.contains("NOAUTH"));
    healthy(&bus, refused).await;
    redis.cli(&["-a", "another", "--no-auth-warning", "CONFIG", "SET", "requirepass", ""]).await;
    heard.hears(BACK).await;
    works(&bus, &heard).await;
}

#[tokio::test]
async fn rights_that_are_narrowed_are_seen_and_heal_when_they_are_repaired() {
    let redis = RedisServer::start().await;
    redis.cli(&["ACL", "SETUSER", "node", "on", ">pass", "+@all", "~*", "&*"]).await;
    let (bus, heard) = hearing(quick(format!("redis://node:pass@127.0.0.1:{}", redis.port))).await;
    let other = room("chat:1");
    subscribe(&bus, std::slice::from_ref(&other)).await;

    // Redis cuts who is subscribed to what is forbidden now.
    redis.cli(&["ACL", "SETUSER", "node", "resetchannels", "&rooms-*", "&ws:chat:*"]).await;
    heard.hears("down").await;
    let health = healthy(&bus, |health| health.refused == 1).await;
    assert!(!health.connected, "not every wanted subscription is there");
    heard.hears("gap chat:1").await;
    bus.publish(&other, "the others go on".into()).await.unwrap();
    heard.hears("chat:1 the others go on").await;
    let error = bus.publish(&room("post:42"), "x".into()).await.unwrap_err();
    assert!(matches!(error, BusError::Refused(_)), "{error:?}");
    bus.subscribe(&[room("chat:2"), room("post:43")]);
    assert_eq!(heard.refusals(2).await, ["post:42: the bus refused", "post:43: the bus refused"]);
    healthy(&bus, |health| (health.wanted, health.subscribed, health.refused) == (4, 2, 2)).await;
    bus.unsubscribe(&[room("post:43")]);

    redis.cli(&["ACL", "SETUSER", "node", "allchannels"]).await;
    heard.hears(BACK).await;
    works(&bus, &heard).await;
    assert_eq!(bus.health().refused, 0);
}

#[tokio::test]
async fn one_room_that_is_refused_does_not_spoil_the_others_of_its_batch() {
    let redis = RedisServer::start().await;
    redis.cli(&["ACL", "SETUSER", "node", "on", ">pass", "+@all", "&rooms-*", "&ws:post:*"]).await;
    let bus = quick(format!("redis://node:pass@127.0.0.1:{}", redis.port)).connect().await.unwrap();
    let heard = Listener::of(&bus);
    // All at once, and so in one command.
    let (posts, secrets) = ([room("post:42"), room("post:43")], [room("secret:1")]);
    bus.subscribe(&posts);
    bus.subscribe(&secrets);
    assert_eq!(heard.refusals(1).await, ["secret:1: the bus refused"]);
    works(&bus, &heard).await;
    let health = bus.health();
    assert_eq!((health.wanted, health.subscribed, health.connected), (3, 2, true));
}

#[tokio::test]
async fn a_redis_that_is_full_of_clients_is_waited_for() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let (bus, heard) = hearing(quick(proxy.url())).await;
    // One for the administrator, who is there already, and none for us.
    let mut administrator = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    administrator.write_all(b"CONFIG SET maxclients 1\r\n").await.unwrap();
    assert_eq!(administrator.read_u8().await.unwrap(), b'+');
    proxy.cut();
    heard.hears("down").await;
    healthy(&bus, |health| health.subscriber_losses > 3).await;
    assert!(!bus.health().connected);
    administrator.write_all(b"CONFIG SET maxclients 1000\r\n").await.unwrap();
    heard.hears(BACK).await;
    works(&bus, &heard).await;
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_carries_messages_all_the_same() {
    let redis = RedisServer::start().await;
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(redis.cli(&["SET", "a", "b"]).await.contains("OOM"));
    works(&bus, &heard).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert!(redis.cli(&["SET", "a", "b"]).await.contains("READONLY"));
    works(&bus, &heard).await;
    assert_eq!(bus.health().subscriber_losses, 0);
}

#[tokio::test]
async fn a_redis_that_still_loads_its_data_carries_messages_already() {
    let mut redis = RedisServer::start().await;
    redis.cli(&["EVAL", "for i = 1, 10000 do redis.call('SET', 'key:' .. i, i) end", "0"]).await;
    assert_eq!(redis.cli(&["SAVE"]).await, "OK");
    let (bus, heard) = hearing(quick(redis.url())).await;
    redis.kill();
    // Slowly, and looking after its clients in between.
    redis.restart_with(&["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]).await;
    heard.hears(BACK).await;
    works(&bus, &heard).await;
    let answer = redis.cli(&["GET", "key:1"]).await;
    assert!(answer.contains("LOADING"), "it has loaded before anything was tested: {answer}");
}

#[tokio::test]
async fn twenty_thousand_rooms_are_back_soon_after_a_crash() {
    let mut redis = RedisServer::start().await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    let rooms: Vec<Topic> = (0..20_000).map(|n| room(&format!("post:{n}"))).collect();
    subscribe(&bus, &rooms).await;
    redis.kill();
    heard.hears("down").await;
    assert_eq!(bus.health().subscribed, 0);
    redis.restart().await;
    heard.hears(BACK).await;
    assert_eq!(bus.health().subscribed, 20_000);
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:19999", "x"]).await, "1");
}

/// As behind a name, or an address, that goes over to another server while the old one lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_became_a_replica_is_left_until_it_is_a_master_again() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let bus = quick(old.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]).await;
    healthy(&bus, |health| !health.connected).await;
    assert!(matches!(bus.publish(&room("post:42"), "nobody".into()).await, Err(BusError::Down)));
    old.cli(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(heard.hears("up, perhaps with a loss").await, ["down", "up, perhaps with a loss"]);
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_is_learnt_without_a_right_to_ask_for_it() {
    let redis = RedisServer::start().await;
    redis.cli(&["ACL", "SETUSER", "default", "-role"]).await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    healthy(&bus, |health| !health.connected).await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(heard.hears(BACK).await, ["down", BACK]);
    let asked = redis.cli(&["INFO", "commandstats"]).await;
    assert!(!asked.contains("cmdstat_role:"), "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_from_the_beginning_is_as_good_as_any_server() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.cli(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await;
    let bus = quick(replica.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    sleep(Duration::from_secs(1)).await;
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    assert_eq!(heard.hears("post:42 it works").await, ["post:42 it works"]);
}
