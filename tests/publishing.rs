//! The programs of `docs/publishing.md`, each run as it stands there against a Redis, and what a member of the room is given.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use std::{fs, path::Path, process::Command, time::Duration};

use futures::{StreamExt as _, channel::mpsc};
use rooms::{
    Connection, Identity, Kind, Message, Publisher, RoomManager,
    bus::Retention,
    redis::{APPEND_SCRIPT, RedisBus},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use redis_server::{PATIENCE, RedisServer};

const PAGE: &str = include_str!("../docs/publishing.md");
const HISTORIES: &str = include_str!("../docs/history.md");

/// The block of that number in a language.
fn block<'a>(page: &'a str, language: &str, number: usize) -> &'a str {
    let start = format!("```{language}\n");
    page.split(&*start).nth(number).unwrap().split("```").next().unwrap()
}

fn posts() -> Kind {
    Kind::authenticated().history(Retention::messages(500).age(Duration::from_secs(3600)))
}

/// A Redis, a member of two rooms over it, and a directory for programs.
struct Service {
    redis: RedisServer,
    directory: TempDir,
    _member: Connection,
    received: mpsc::UnboundedReceiver<Message>,
}

impl Service {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let rooms = RoomManager::build_for()
            .kind("post", posts())
            .kind("board", Kind::authenticated())
            .bus(RedisBus::connect(redis.url()).await.unwrap())
            .build()
            .unwrap();
        let (sink, mut received) = mpsc::unbounded::<Message>();
        let mut member = rooms.connect(Identity::new("ada").unwrap(), sink).unwrap();
        for room in ["post:42", "board:42"] {
            member.join(&room.parse().unwrap()).await.unwrap();
        }
        tokio::spawn(member.drive());
        for _ in 0..2 {
            received.next().await.unwrap();
        }
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("append.lua"), APPEND_SCRIPT).unwrap();
        Self { redis, directory, _member: member, received }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Runs a program to its end; what it printed.
    async fn run(&self, program: &str, words: &[&str], package: &'static str) -> String {
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.directory);
        command.env("REDIS_URL", self.redis.url()).env("APPEND_SCRIPT", self.path("append.lua"));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        let output =
            output.unwrap_or_else(|error| panic!("{program}: {error}; `apt-get install {package}` installs it"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}; `apt-get install {package}` installs what it needs");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the member is given next.
    async fn next(&mut self) -> Value {
        let message = timeout(PATIENCE, self.received.next()).await.expect("a message in time").unwrap();
        serde_json::from_slice(message.payload()).unwrap()
    }

    async fn expect(&mut self, from: &str) {
        assert_eq!(self.next().await, json!({"type": "new_comment", "text": format!("from {from}")}));
    }
}

#[tokio::test]
async fn python_publishes() {
    let mut service = Service::start().await;
    let program = service.write("publish.py", block(PAGE, "python", 1));
    service.write("redis.py", include_str!("../rooms-redis/tests/support/redis_for_python.py"));
    service.run("python3", &[&program], "python3").await;
    service.expect("Python").await;
}

#[tokio::test]
async fn node_publishes_and_appends_once() {
    let mut service = Service::start().await;
    let fetched = Command::new("scripts/npm-packages").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let packages = String::from_utf8(fetched.stdout).unwrap();
    std::os::unix::fs::symlink(Path::new(packages.trim()), service.path("node_modules")).unwrap();
    let program = service.write("publish.mjs", block(PAGE, "js", 1));
    service.run("node", &[&program], "nodejs npm").await;
    service.expect("Node").await;
    let program = service.write("append.mjs", block(PAGE, "js", 2));
    let first = service.run("node", &[&program], "nodejs npm").await;
    service.expect("Node").await;
    assert_eq!(service.run("node", &[&program], "nodejs npm").await, first, "it is one message");
}

#[tokio::test]
async fn ruby_publishes() {
    let mut service = Service::start().await;
    let program = service.write("publish.rb", block(PAGE, "ruby", 1));
    service.run("ruby", &[&program], "ruby ruby-redis").await;
    service.expect("Ruby").await;
}

#[tokio::test]
async fn a_relay_publishes_what_a_transaction_wrote() {
    let mut service = Service::start().await;
    let [table, insert] = [1, 2].map(|number| block(PAGE, "sql", number));
    let database = service.path("comments.db");
    let setup = format!(
        "import sqlite3\ndatabase = sqlite3.connect({database:?})\ndatabase.executescript('''CREATE TABLE comments (post \
         INTEGER, text TEXT);\n{table}\n{insert}''')\n"
    );
    let setup = service.write("setup.py", &setup);
    service.run("python3", &[&setup], "python3").await;
    service.write("redis.py", include_str!("../rooms-redis/tests/support/redis_for_python.py"));
    // Of the page about histories the function, without the call at its end.
    let (function, _) = block(HISTORIES, "python", 1).split_once("\nprint(").unwrap();
    service.write("history.py", function);
    let relay = service.write("relay.py", block(PAGE, "python", 2));
    let (url, append) = (service.redis.url(), service.path("append.lua"));
    service.run("python3", &[&relay, &url, &append, &database], "python3").await;
    service.expect("SQL").await;
}

#[tokio::test]
async fn rust_publishes_once_and_is_no_node() {
    let mut service = Service::start().await;
    let bus = RedisBus::connect(service.redis.url()).await.unwrap();
    let publisher = Publisher::builder(bus).kind("post", posts()).build().unwrap();
    let room = "post:42".parse().unwrap();
    let mut receipts = Vec::new();
    for _ in 0..2 {
        let event = json!({"type": "new_comment", "text": "from Rust"});
        receipts.push(publisher.to(&room).idempotency_key("job-7").json(&event).await.unwrap());
    }
    assert!(receipts[0].position.is_some() && receipts[0].position == receipts[1].position);
    assert!(receipts[1].repeated);
    service.expect("Rust").await;
    publisher
        .broadcast(&"board:42".parse().unwrap(), &json!({"type": "new_comment", "text": "from Rust"}))
        .await
        .unwrap();
    service.expect("Rust").await;
    publisher.close().await;
}
