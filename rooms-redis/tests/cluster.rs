//! A cluster of three masters and three replicas: rooms follow their slots, and what is lost on the way is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/storm.rs"]
mod storm;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rooms_core::{
    Bus,
    bus::{BusError, Topic},
};
use rooms_redis::{ConnectError, PubSub, RedisBus};
use tokio::time::sleep;

use cluster::Cluster;
use listener::{Listener, healthy, reconciled, room, subscribe, unsubscribe};
use storm::Storm;

const ROOM: &str = "ws:post:42";

async fn cluster_storm() -> Storm<Cluster> {
    let cluster = Cluster::start().await;
    let (urls, publishing) = (cluster.urls(), cluster.quick(PubSub::Sharded));
    Storm::over(cluster, || cluster::quick(&urls, PubSub::Sharded), publishing).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_moved_under_traffic() {
    let storm = cluster_storm().await;
    let from = storm.redis.owner(ROOM).await;
    let to = (from + 1) % 3;
    storm.redis.move_slot(ROOM, from, to).await;
    storm.redis.until_listeners(to, ROOM, 3).await;
    storm.redis.move_slot(ROOM, to, from).await;
    storm.redis.until_listeners(from, ROOM, 3).await;
    storm.is_over(0).await;
    storm.check(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed_under_traffic() {
    let mut storm = cluster_storm().await;
    let owner = storm.redis.owner(ROOM).await;
    storm.redis.nodes[owner].kill();
    storm.redis.until_listeners(owner + 3, ROOM, 3).await;
    storm.is_over(1).await;
    storm.check(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_relieved_under_traffic() {
    let mut storm = cluster_storm().await;
    // The new master passes on what the old one still sent to its replicas, also after its own first messages.
    storm.strays = true;
    let owner = storm.redis.owner(ROOM).await;
    assert_eq!(storm.redis.nodes[owner + 3].cli(&["CLUSTER", "FAILOVER"]).await, "OK");
    storm.redis.until_listeners(owner + 3, ROOM, 3).await;
    storm.is_over(0).await;
    storm.check(3).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_a_gap_of_its_rooms_and_of_no_others() {
    let cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let publisher = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let heard = Listener::of(&bus);
    let rooms: Vec<Topic> = (0..300).map(|number| room(&format!("post:{number}"))).collect();
    subscribe(&bus, &rooms).await;
    let from = cluster.owner(ROOM).await;
    cluster.move_slot(ROOM, from, (from + 1) % 3).await;
    assert_eq!(heard.hears("gap post:42").await, ["gap post:42"]);
    for topic in &rooms {
        publisher.publish(topic, "it works".into()).await.unwrap();
    }
    let mut events = heard.take(300).await;
    events.sort();
    let mut expected: Vec<String> = (0..300).map(|number| format!("post:{number} it works")).collect();
    expected.sort();
    assert_eq!(events, expected);
    assert_eq!(bus.health().subscriber_losses, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_that_come_and_go_while_slots_move_end_as_the_last_call_states() {
    let cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let heard = Listener::of(&bus);
    let moving: Vec<Topic> = (0..10).map(|number| room(&format!("post:{number}"))).collect();
    let lasting: Vec<Topic> = (10..20).map(|number| room(&format!("post:{number}"))).collect();
    subscribe(&bus, &lasting).await;
    let over = AtomicBool::new(false);
    let coming_and_going = async {
        while !over.load(Ordering::Relaxed) {
            for topic in &moving {
                let topic = std::slice::from_ref(topic);
                bus.subscribe(topic);
                bus.unsubscribe(topic);
                subscribe(&bus, topic).await;
            }
            unsubscribe(&bus, &moving).await;
        }
    };
    let slots_move = async {
        for number in 0..20 {
            let channel = format!("ws:post:{number}");
            let from = cluster.owner(&channel).await;
            cluster.move_slot(&channel, from, (from + 1) % 3).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(coming_and_going, slots_move);
    subscribe(&bus, &moving).await;
    healthy(&bus, |health| health.connected && health.subscribed == 20).await;
    for topic in moving.iter().chain(&lasting) {
        let Topic::Room(name) = topic else { continue };
        bus.publish(topic, "it works".into()).await.unwrap();
        heard.hears(&format!("{name} it works")).await;
    }
}

#[tokio::test]
async fn rooms_are_spread_over_the_masters_and_a_foreign_publisher_reaches_them_with_spublish() {
    let cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let heard = Listener::of(&bus);
    let rooms: Vec<Topic> = (0..20_000).map(|number| room(&format!("post:{number}"))).collect();
    subscribe(&bus, &rooms).await;
    for node in &cluster.nodes[..3] {
        let channels = node.cli(&["PUBSUB", "SHARDCHANNELS", "ws:*"]).await.lines().count();
        assert!((5_000..8_500).contains(&channels), "{channels}");
    }
    let owner = cluster.owner(ROOM).await;
    assert_eq!(cluster.nodes[owner].cli(&["SPUBLISH", ROOM, "x"]).await, "1");
    heard.hears("post:42 x").await;
    unsubscribe(&bus, &rooms).await;
    assert_eq!((bus.health().wanted, bus.health().subscribed), (0, 0));
    assert_eq!(cluster.listeners(owner, ROOM).await, 0);
}

#[tokio::test]
async fn a_room_of_a_dead_master_is_down_and_the_others_go_on() {
    let mut cluster = Cluster::start().await;
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let heard = Listener::of(&bus);
    let owner = cluster.owner(ROOM).await;
    let other = (0..).map(|number| format!("chat:{number}"));
    let mut elsewhere = None;
    for name in other {
        if cluster.owner(&format!("ws:{name}")).await != owner {
            elsewhere = Some(name);
            break;
        }
    }
    let elsewhere = elsewhere.unwrap();
    let (mut new, mut new_of_the_dead) = (Vec::new(), Vec::new());
    for number in 0..30 {
        let name = format!("new:{number}");
        let of_the_dead = cluster.owner(&format!("ws:{name}")).await == owner;
        if of_the_dead { &mut new_of_the_dead } else { &mut new }.push(room(&name));
    }
    subscribe(&bus, &[room("post:42"), room(&elsewhere)]).await;
    // Its replica can't take over.
    cluster.nodes[owner + 3].kill();
    cluster.nodes[owner].kill();
    heard.hears("down").await;
    cluster::until("a publication that is told so", || async {
        matches!(bus.publish(&room("post:42"), "x".into()).await, Err(BusError::Down))
    })
    .await;
    bus.publish(&room(&elsewhere), "it works".into()).await.unwrap();
    assert_eq!(heard.hears(&format!("{elsewhere} it works")).await.len(), 1);
    // What is wanted together with rooms of the dead master waits for none of them.
    bus.subscribe(&[&new[..], &new_of_the_dead[..]].concat());
    healthy(&bus, |health| health.subscribed == 1 + new.len()).await;
    let links = bus.links();
    let down: Vec<_> = links.iter().filter(|link| !link.up).map(|link| &*link.name).collect();
    assert_eq!((links.len(), &down[..]), (3, &[&*format!("Redis at 127.0.0.1:{}", cluster.nodes[owner].port)][..]));
    for topic in &new {
        bus.publish(topic, "new".into()).await.unwrap();
    }
    assert_eq!(heard.take(new.len()).await.len(), new.len());
    cluster.nodes[owner].restart().await;
    assert_eq!(heard.hears("up").await, ["gap post:42", "up"]);
    reconciled(&bus).await;
    assert_eq!(bus.health().wanted, 2 + new.len() + new_of_the_dead.len());
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;
}

#[tokio::test]
async fn with_classic_channels_a_foreign_publisher_reaches_the_rooms_from_any_node() {
    let mut cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Classic).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.cli(&["PUBLISH", ROOM, &number.to_string()]).await;
        heard.hears(&format!("post:42 {number}")).await;
    }
    let owner = cluster.owner(ROOM).await;
    cluster.nodes[owner].kill();
    assert_eq!(heard.hears("up").await, ["down", "gap post:42", "up"]);
    bus.publish(&room("post:42"), "again".into()).await.unwrap();
    heard.hears("post:42 again").await;
    assert_eq!(bus.health().unreceived, 0);
}

#[tokio::test]
async fn a_classic_channel_whose_slot_moves_is_left_where_it_was() {
    let cluster = Cluster::start().await;
    let builder = cluster.quick(PubSub::Classic);
    let bus = builder.limits(|limits| limits.topology_interval = Duration::from_millis(100)).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    let from = cluster.owner(ROOM).await;
    let to = (from + 1) % 3;
    cluster.move_slot(ROOM, from, to).await;
    assert_eq!(heard.hears("gap post:42").await, ["gap post:42"]);
    let counts = ["PUBSUB", "NUMSUB", ROOM];
    let (old, new) = (&cluster.nodes[from], &cluster.nodes[to]);
    cluster::until("one subscription in the right place", || async {
        old.cli(&counts).await.ends_with('0') && new.cli(&counts).await.ends_with('1')
    })
    .await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.cli(&["PUBLISH", ROOM, &number.to_string()]).await;
        assert_eq!(heard.hears(&format!("post:42 {number}")).await.len(), 1);
    }
}

#[tokio::test]
async fn what_is_no_cluster_is_refused_with_the_reason() {
    let redis = redis_server::RedisServer::start().await;
    for pubsub in [PubSub::Sharded, PubSub::Classic] {
        let error = RedisBus::builder(redis.url()).cluster([] as [&str; 0], pubsub).connect().await.unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(matches!(error, ConnectError::Refused(_)) && why.contains("cluster support disabled"), "{error:?}");
    }
    let both = RedisBus::builder(redis.url()).sentinels(["redis://a"]).cluster([] as [&str; 0], PubSub::Sharded);
    assert!(matches!(both.connect().await, Err(ConnectError::SentinelsAndCluster)));
}

async fn kill_client(node: &redis_server::RedisServer, name: &str) {
    let clients = node.cli(&["CLIENT", "LIST"]).await;
    let client = clients.lines().find(|line| line.contains(&format!("name={name} "))).expect("a client of that name");
    let (id, _) = client.split_once("id=").and_then(|(_, rest)| rest.split_once(' ')).unwrap();
    node.cli(&["CLIENT", "KILL", "ID", id]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_probe_has_become_another_ones_is_proven_under_traffic() {
    let cluster = Cluster::start().await;
    let builder = cluster.quick(PubSub::Sharded).client_name("me");
    // Seldom, so that what is to be found to receive nothing is found by what happens here.
    let bus = builder.limits(|limits| limits.probe_interval = Duration::from_secs(3)).connect().await.unwrap();
    let heard = Listener::of(&bus);
    // The one with the lowest number, which another would try before its own.
    let mut probes = Vec::new();
    for (number, node) in cluster.nodes[..3].iter().enumerate() {
        let probe = node.cli(&["PUBSUB", "SHARDCHANNELS", "rooms-probe:*"]).await;
        probes.push((probe.rsplit_once(':').unwrap().1.parse::<u32>().unwrap(), number, probe));
    }
    let (_, from, probe) = probes.into_iter().min().unwrap();
    let to = (from + 1) % 3;
    let mut here = String::new();
    for number in 0.. {
        here = format!("post:{number}");
        if cluster.owner(&format!("ws:{here}")).await == from {
            break;
        }
    }
    subscribe(&bus, &[room(&here)]).await;
    cluster.move_slot(&probe, from, to).await;
    // Makes it look at the slots, so that the next connection of `to` would choose the probe that is there now.
    kill_client(&cluster.nodes[(from + 2) % 3], "me:pub").await;
    sleep(Duration::from_millis(300)).await;
    kill_client(&cluster.nodes[to], "me:sub").await;
    sleep(Duration::from_millis(100)).await;
    kill_client(&cluster.nodes[from], "me:pub").await;
    let (port, channel, traffic) = (cluster.nodes[from].port, format!("ws:{here}"), AtomicBool::new(true));
    let talk = async {
        while traffic.load(Ordering::Relaxed) {
            redis_server::cli(port, &["SPUBLISH", &channel, "x"]).await;
        }
    };
    let proven = async {
        heard.hears("down").await;
        healthy(&bus, |health| health.connected).await;
        traffic.store(false, Ordering::Relaxed);
    };
    tokio::join!(talk, proven);
}
