//! A real Prometheus with the configuration of `examples/deploy`: it scrapes both nodes, has the alert rules, and answers each
//! query of the dashboard.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;
#[path = "support/user.rs"]
mod user;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use lines::PATIENCE;
use program::Program;
use redis_server::RedisServer;
use user::User;

const CONFIG: &str = include_str!("../examples/deploy/prometheus.yml");

/// Killed when dropped.
struct Prometheus {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// Puts one text in the place of another, which has to be there once.
fn put(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} is once in the file");
    text.replace(old, new)
}

impl Prometheus {
    fn start(nodes: [String; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        fs::copy(docs.join("alerts.yml"), folder.path().join("alerts.yml")).unwrap();
        let [a, b] = nodes;
        let config = put(&put(CONFIG, "node-a:9000", &a), "node-b:9000", &b);
        let config = put(&config, "scrape_interval: 15s", "scrape_interval: 500ms");
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = free_port("127.0.0.1");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; `apt-get install prometheus` installs it"));
        Self { process, url: format!("http://127.0.0.1:{port}/api/v1/"), _folder: folder }
    }

    /// What it answers; nothing where it is not there yet.
    async fn get(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.ok()?;
        let answer: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// The series of a query; nothing where it is not there yet.
    async fn query(&self, query: &str) -> Vec<Value> {
        let data = self.get(&format!("query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC))).await;
        data.and_then(|data| data["result"].as_array().cloned()).unwrap_or_default()
    }

    /// Waits until a query has this many series.
    async fn until(&self, query: &str, series: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.query(query).await;
            if found.len() == series {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {found:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_both_nodes_and_answers_the_dashboard() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let ports = [free_port("127.0.0.1"), free_port("127.0.0.2")].map(|port| port.to_string());
    let common = [("PORT", "0"), ("REDIS_URL", &*url)];
    let own: [&[(&str, &str)]; 2] =
        [&[("METRICS_PORT", &*ports[0])], &[("METRICS_PORT", &*ports[1]), ("METRICS_HOST", "127.0.0.2")]];
    let mut nodes = Vec::new();
    for own in own {
        nodes.push(Program::start_with("live_posts", &[&common, own].concat()).await);
    }
    let prometheus = Prometheus::start([format!("127.0.0.1:{}", ports[0]), format!("127.0.0.2:{}", ports[1])]);
    let ann = User::login(&nodes[0], "ann").await;
    let (_live, _) = ann.watch(42).await;
    assert_eq!(ann.post("/posts/42/comments", &json!({"text": "first"})).await.0, 201);

    prometheus.until("rooms_peers{job=\"live_posts\"} == 1", 2).await;
    prometheus.until("sum by (job) (rooms_connections) == 1", 1).await;
    prometheus.until("rooms_broadcasts_total{outcome=\"all_nodes\"} == 1", 1).await;
    let rules = prometheus.get("rules").await.unwrap();
    assert_eq!(rules["groups"][0]["rules"].as_array().unwrap().len(), 12);

    let dashboard = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut empty = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$kind", "post");
            if prometheus.query(&query.replace("$job", "live_posts")).await.is_empty() {
                empty.push(panel["title"].as_str().unwrap().to_owned());
            }
        }
    }
    for shown in ["Connections", "Bus down, and peers", "Viewers", "Rooms"] {
        assert!(!empty.iter().any(|title| title == shown), "{empty:?}");
    }
}
