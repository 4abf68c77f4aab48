//! A slot of a cluster that is on its way to another server: what is about its rooms follows it, and nothing fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use futures::future::join_all;
use rooms_core::bus::{BusError, History, NewState, Outcome, ReadFrom, Retention, States, Topic};
use rooms_redis::PubSub;

use cluster::{Cluster, until};

const CHANNEL: &str = "ws:post:42";
const LOG: &str = "rooms:log:{ws:post:42}";
const MARK: &str = "rooms:mark:{ws:post:42}";
const RETENTION: Retention = Retention::messages(500);
const KEEP: Duration = Duration::from_secs(3600);

/// How often a node has answered with this error.
async fn said(cluster: &Cluster, node: usize, error: &str) -> u64 {
    let stats = cluster.nodes[node].cli(&["INFO", "errorstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{error}:count=")));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_together_is_there_once_and_each_is_told_its_own_position() {
    let cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let topic = Topic::Room("post:42".parse().unwrap());
    let together = |name: &'static str| {
        let (bus, topic) = (bus.clone(), topic.clone());
        let append = move |number: u64| {
            let (bus, topic, text) = (bus.clone(), topic.clone(), format!("{name} {number}"));
            async move { (bus.append(&topic, text.clone().into(), RETENTION).await.unwrap().offset(), text) }
        };
        tokio::spawn(join_all((0..30).map(append)))
    };
    let from = cluster.owner(CHANNEL).await;
    let to = (from + 1) % 3;
    let mut all = together("here").await.unwrap();
    cluster.begin_move(CHANNEL, from, to).await;
    cluster.move_keys(&[MARK], from, to).await;
    let before = said(&cluster, from, "TRYAGAIN").await;
    let waiting = together("at two servers");
    let cluster_ = &cluster;
    until("tries", || async move { said(cluster_, from, "TRYAGAIN").await > before }).await;
    cluster.move_keys(&[LOG], from, to).await;
    all.extend(waiting.await.unwrap());
    cluster.nodes[to].cli(&["SCRIPT", "FLUSH"]).await;
    all.extend(together("asked for").await.unwrap());
    cluster.end_move(CHANNEL, from, to).await;
    cluster.nodes[to].cli(&["SCRIPT", "FLUSH"]).await;
    all.extend(together("moved").await.unwrap());
    all.sort_unstable();
    let messages = bus.read(&topic, ReadFrom::Newest(500), RETENTION).await.unwrap().messages;
    let kept: Vec<_> = (1..).zip(messages.iter().map(|text| String::from_utf8_lossy(text).into_owned())).collect();
    assert_eq!(all, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_ask_it_is_an_error_that_says_so_until_the_slot_is_there() {
    let cluster = Cluster::start().await;
    for node in &cluster.nodes {
        assert_eq!(node.cli(&["ACL", "SETUSER", "default", "-asking"]).await, "OK");
    }
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let topic = Topic::Room("post:42".parse().unwrap());
    let append = || bus.append(&topic, "1".into(), RETENTION);
    let from = cluster.owner(CHANNEL).await;
    let to = (from + 1) % 3;
    assert_eq!(append().await.unwrap().offset(), 1);
    cluster.begin_move(CHANNEL, from, to).await;
    cluster.move_keys(&[MARK, LOG], from, to).await;
    match append().await {
        Err(BusError::Refused(error)) => assert!(error.to_string().contains("'asking'"), "{error}"),
        other => panic!("{other:?}"),
    }
    cluster.end_move(CHANNEL, from, to).await;
    assert_eq!(append().await.unwrap().offset(), 2, "what was refused is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_about_a_room_whose_slot_is_on_its_way_goes_where_its_keys_are() {
    let cluster = Cluster::start().await;
    for pubsub in [PubSub::Sharded, PubSub::Classic] {
        let bus = cluster.quick(pubsub).connect().await.unwrap();
        let topic = Topic::Room("post:42".parse().unwrap());
        let from = cluster.owner(CHANNEL).await;
        let to = (from + 1) % 3;
        let append = |text: &'static str| {
            let (bus, topic) = (bus.clone(), topic.clone());
            async move { bus.append(&topic, text.into(), RETENTION).await.map(|position| position.offset()) }
        };
        assert_eq!(append("1").await.unwrap(), 1);
        cluster.begin_move(CHANNEL, from, to).await;
        assert_eq!(append("2").await.unwrap(), 2, "both keys are where they were");

        // The two keys are at two servers: nobody can append, and who does waits.
        cluster.move_keys(&[MARK], from, to).await;
        let before = said(&cluster, from, "TRYAGAIN").await;
        let waiting = tokio::spawn(append("3"));
        let read = {
            let (bus, topic) = (bus.clone(), topic.clone());
            tokio::spawn(async move { bus.read(&topic, ReadFrom::Newest(9), RETENTION).await })
        };
        let cluster_ = &cluster;
        until("tries", || async move { said(cluster_, from, "TRYAGAIN").await >= before + 4 }).await;
        assert!(!waiting.is_finished() && !read.is_finished());

        // Both are at the other one, which serves those who were sent there.
        cluster.move_keys(&[LOG], from, to).await;
        assert_eq!(waiting.await.unwrap().unwrap(), 3);
        assert!((2..=3).contains(&read.await.unwrap().unwrap().messages.len()));
        // It has to learn the script, and what is not there yet begins there.
        cluster.nodes[to].cli(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(append("4").await.unwrap(), 4);
        let Outcome::Set(revision) = bus.set_state(&topic, NewState::new(None, "1".into(), KEEP)).await.unwrap() else {
            panic!("there was no state")
        };
        assert_eq!(bus.state(&topic, KEEP).await.unwrap().unwrap().revision, revision);

        cluster.end_move(CHANNEL, from, to).await;
        assert_eq!(append("5").await.unwrap(), 5);
        assert_eq!(bus.state(&topic, KEEP).await.unwrap().unwrap().revision, revision);
        let all = bus.read(&topic, ReadFrom::Newest(9), RETENTION).await.unwrap().messages;
        assert_eq!(all, ["1", "2", "3", "4", "5"]);

        cluster.move_slot(CHANNEL, to, from).await;
        assert_eq!(append("6").await.unwrap(), 6);
        cluster.nodes[from].cli(&["DEL", LOG, MARK, "rooms:state:{ws:post:42}"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_stops_half_way_is_an_error_after_a_while_and_no_other_room_waits() {
    let cluster = Cluster::start().await;
    let bus = cluster.quick(PubSub::Sharded).connect().await.unwrap();
    let topic = |name: &str| Topic::Room(name.parse().unwrap());
    let from = cluster.owner(CHANNEL).await;
    let to = (from + 1) % 3;
    bus.append(&topic("post:42"), "1".into(), RETENTION).await.unwrap();
    cluster.begin_move(CHANNEL, from, to).await;
    cluster.move_keys(&[MARK], from, to).await;
    let stuck = tokio::spawn({
        let (bus, topic) = (bus.clone(), topic("post:42"));
        async move { bus.append(&topic, "2".into(), RETENTION).await }
    });
    let mut others = 0;
    while !stuck.is_finished() {
        for number in 0..20 {
            bus.append(&topic(&format!("other:{number}")), "1".into(), RETENTION).await.unwrap();
            others += 1;
        }
    }
    let outcome = stuck.await.unwrap();
    assert!(matches!(outcome, Err(BusError::Down)), "{outcome:?}");
    assert!(others > 100, "{others} others");
    cluster.move_keys(&[LOG], from, to).await;
    cluster.end_move(CHANNEL, from, to).await;
    assert_eq!(bus.append(&topic("post:42"), "2".into(), RETENTION).await.unwrap().offset(), 2);
}
