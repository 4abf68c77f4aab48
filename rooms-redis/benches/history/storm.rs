//! All connections of two nodes cut at once, messages published meanwhile, and all back.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{nodes::Node, processor_time, redis_server::RedisServer};

const ROOMS: usize = 20;
const MESSAGES: usize = 100;

struct Clients {
    _process: Child,
    says: Lines<BufReader<ChildStdout>>,
    hears: ChildStdin,
}

impl Clients {
    fn start(count: usize, nodes: &[Node; 2]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--clients").arg(count.to_string()).arg(ROOMS.to_string());
        nodes.iter().for_each(|node| _ = command.arg(node.address.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        let hears = process.stdin.take().unwrap();
        Self { _process: process, says, hears }
    }

    async fn next(&mut self) -> String {
        self.says.next_line().await.unwrap().expect("the clients go on")
    }

    async fn tell(&mut self, line: String) {
        self.hears.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
}

pub(crate) async fn run(redis: &RedisServer, connections: usize) {
    let mut nodes = [Node::start(redis).await, Node::start(redis).await];
    // Half the descriptors of this process for each node.
    let connections = connections / (2 * ROOMS) * 2 * ROOMS;
    let mut clients = Clients::start(connections, &nodes);
    assert_eq!(clients.next().await, "joined");
    println!("{connections} connections on 2 nodes in {ROOMS} rooms, {MESSAGES} messages while they are away:");
    for round in ["cut", "nodes restarted"] {
        if round == "cut" {
            for node in &mut nodes {
                node.cut().await;
            }
        } else {
            nodes = [Node::start(redis).await, Node::start(redis).await];
        }
        let [one, two] = &nodes;
        clients.tell(format!("{} {} {}", MESSAGES / ROOMS, one.address, two.address)).await;
        assert_eq!(clients.next().await, "cut");
        for n in 0..MESSAGES {
            let room = format!("post:{}", n % ROOMS).parse().unwrap();
            one.rooms.broadcast(&room, &json!({"n": n, "text": "x".repeat(100)})).await.unwrap();
        }
        redis.cli(&["CONFIG", "RESETSTAT"]).await;
        let before = processor_time();
        clients.tell("go".to_owned()).await;
        let took = clients.next().await;
        let each = (processor_time() - before).as_secs_f64() * 1e6 / connections as f64;
        let reads = reads(redis).await;
        let looks = 2 * ROOMS * (1 + took.parse::<usize>().unwrap() / 25_000);
        println!("  {round}: all whole in {took} ms, {each:.0} µs of the nodes for each, {reads} reads of Redis");
        assert!(reads <= 2 * ROOMS + looks, "a node reads a room once, and looks at its position every 25 s");
    }
}

/// How often a script was called; nothing is published meanwhile.
async fn reads(redis: &RedisServer) -> usize {
    let stats = redis.cli(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.map(|rest| rest.split(',').next().unwrap().parse::<usize>().unwrap()).sum()
}
