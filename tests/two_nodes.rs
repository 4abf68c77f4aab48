//! The `two_nodes` program does what its first lines promise.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

use lines::Lines;
use redis_server::RedisServer;

struct Node {
    process: Child,
    out: Lines,
}

impl Node {
    async fn start(redis: &RedisServer) -> Self {
        let path = lines::example("two_nodes");
        let mut process = Command::new(&path)
            .env("REDIS_URL", redis.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", lines::how_to_build("two_nodes")));
        let mut out = Lines::of(process.stdout.take().unwrap());
        out.after("in post:42").await;
        Self { process, out }
    }

    fn types(&mut self, text: &str) {
        self.process.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[tokio::test]
async fn what_is_typed_into_one_process_or_published_by_redis_cli_is_printed_by_both() {
    let redis = RedisServer::start().await;
    let [mut one, mut two] = [Node::start(&redis).await, Node::start(&redis).await];
    one.types("hello\n");
    one.out.after("sent: AllNodes").await;
    two.out.after(r#"{"text":"hello","type":"said"}"#).await;
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", r#"{"type":"new_comment"}"#]).await, "2");
    for node in [&mut one, &mut two] {
        node.out.after(r#"{"type":"new_comment"}"#).await;
    }
}
