//! Three masters with a third of the slots each, and a replica of each.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use futures::future::join_all;
use rooms_redis::{PubSub, RedisBus, RedisBusBuilder};
use tokio::time::{Instant, sleep};

use crate::redis_server::{PATIENCE, RedisServer, free_port};

/// The first three are the masters at first; the next three are their replicas.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<RedisServer>,
}

const RANGES: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];

impl Cluster {
    pub(crate) async fn start() -> Self {
        let nodes = join_all((0..6).map(|_| async {
            let bus_port = free_port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus_port];
            // A replica counts when it has copied something; by default that begins after five seconds.
            let replicas = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            let node = RedisServer::with(&[&settings[..], &replicas[..]].concat()).await;
            (node, bus_port)
        }));
        let (nodes, bus_ports): (Vec<RedisServer>, Vec<String>) = nodes.await.into_iter().unzip();
        let cluster = Self { nodes };
        for (number, node) in cluster.nodes.iter().enumerate() {
            assert_eq!(node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await, "OK");
            if let Some([first, last]) = RANGES.get(number) {
                assert_eq!(node.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await, "OK");
            }
            // Each meets each: to hear of each other by hearsay takes seconds.
            let port = node.port.to_string();
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus_ports[number]];
            join_all(cluster.nodes[..number].iter().map(|other| other.cli(&meet))).await;
        }
        for number in 3..6 {
            let master = cluster.id(number - 3).await;
            let follows = || async { cluster.nodes[number].cli(&["CLUSTER", "REPLICATE", &master]).await == "OK" };
            until("a replica that knows its master", follows).await;
        }
        cluster.is_well(6).await;
        cluster
    }

    /// Waits until so many nodes say that all is well, and know of each other's roles.
    pub(crate) async fn is_well(&self, nodes: usize) {
        let well = || async {
            let mut views = Vec::new();
            for node in &self.nodes {
                if !node.is_running() {
                    continue;
                }
                let info = node.cli(&["CLUSTER", "INFO"]).await;
                let slots = node.cli(&["CLUSTER", "SLOTS"]).await;
                // Three ranges, with a master and a replica each where all run.
                let known = slots.lines().filter(|line| *line == "127.0.0.1").count();
                views.push(
                    info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") && known >= nodes,
                );
            }
            views.len() >= nodes && views.iter().all(|well| *well)
        };
        until("a cluster that is well", well).await;
    }

    /// As the default, in a fifth of the time, and told of two nodes.
    pub(crate) fn quick(&self, pubsub: PubSub) -> RedisBusBuilder {
        quick(&self.urls(), pubsub)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    async fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"]).await
    }

    pub(crate) async fn slot(&self, channel: &str) -> String {
        self.nodes[0].cli(&["CLUSTER", "KEYSLOT", channel]).await
    }

    /// The master that has the slot of a channel, as another node sees it.
    pub(crate) async fn owner(&self, channel: &str) -> usize {
        let slot: u16 = self.slot(channel).await.parse().unwrap();
        RANGES.iter().position(|[_, last]| slot <= last.parse().unwrap()).unwrap()
    }

    /// Gives the slot of a channel from one master to another, as `redis-cli --cluster reshard` does.
    pub(crate) async fn move_slot(&self, channel: &str, from: usize, to: usize) {
        self.begin_move(channel, from, to).await;
        let keys = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot(channel).await, "100"]).await;
        if !keys.is_empty() {
            self.move_keys(&keys.lines().collect::<Vec<_>>(), from, to).await;
        }
        self.end_move(channel, from, to).await;
    }

    /// From here on keys of the slot may be at either of the two.
    pub(crate) async fn begin_move(&self, channel: &str, from: usize, to: usize) {
        self.set_slot(channel, to, &["IMPORTING", &self.id(from).await]).await;
        self.set_slot(channel, from, &["MIGRATING", &self.id(to).await]).await;
    }

    pub(crate) async fn move_keys(&self, keys: &[&str], from: usize, to: usize) {
        let port = self.nodes[to].port.to_string();
        let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        assert_eq!(self.nodes[from].cli(&[&migrate[..], keys].concat()).await, "OK");
    }

    pub(crate) async fn end_move(&self, channel: &str, from: usize, to: usize) {
        let id = self.id(to).await;
        self.set_slot(channel, to, &["NODE", &id]).await;
        self.set_slot(channel, from, &["NODE", &id]).await;
    }

    async fn set_slot(&self, channel: &str, node: usize, what: &[&str]) {
        let slot = self.slot(channel).await;
        let answer = self.nodes[node].cli(&[&["CLUSTER", "SETSLOT", &slot], what].concat()).await;
        assert_eq!(answer, "OK", "{what:?}");
    }

    /// How many are subscribed to a sharded channel at a node.
    pub(crate) async fn listeners(&self, node: usize, channel: &str) -> usize {
        let answer = self.nodes[node].cli(&["PUBSUB", "SHARDNUMSUB", channel]).await;
        answer.lines().last().unwrap().parse().unwrap()
    }

    pub(crate) async fn until_listeners(&self, node: usize, channel: &str, count: usize) {
        let there = || async { self.listeners(node, channel).await == count };
        until("subscriptions at that node", there).await;
    }
}

pub(crate) fn quick(urls: &[String], pubsub: PubSub) -> RedisBusBuilder {
    RedisBus::builder(&urls[0]).cluster(&urls[1..2], pubsub).limits(|limits| {
        crate::fleet::in_a_fifth_of_the_time(limits);
        // What moves is to be noticed, and not to be found by and by.
        limits.topology_interval = Duration::from_secs(3600);
    })
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
