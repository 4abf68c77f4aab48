//! A master, a replica, and three sentinels that watch them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rooms_redis::RedisBusBuilder;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::redis_server::{PATIENCE, RedisServer, cli, free_port, missing};

/// The two servers change their roles; `servers[0]` is the master at first.
pub(crate) struct Watched {
    pub(crate) servers: [RedisServer; 2],
    pub(crate) sentinels: Vec<Sentinel>,
}

pub(crate) struct Sentinel {
    process: Child,
    port: u16,
    _data: TempDir,
}

/// A failover begins when two sentinels of the three have missed the master for a second.
const SETTINGS: &str = "sentinel down-after-milliseconds service 1000\nsentinel failover-timeout service 10000\n";

impl Watched {
    pub(crate) async fn start() -> Self {
        let master = RedisServer::start().await;
        let of = master.port.to_string();
        let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
        let sentinels = (0..3).map(|_| Sentinel::start(master.port)).collect();
        let watched = Self { servers: [master, replica], sentinels };
        let known = |answer: &str| answer.contains("num-other-sentinels\n2\n") && answer.contains("num-slaves\n1\n");
        for sentinel in &watched.sentinels {
            sentinel.until(&["SENTINEL", "MASTER", "service"], known).await;
        }
        watched
    }

    pub(crate) fn quick(&self) -> RedisBusBuilder {
        quick(self.urls())
    }

    /// One more, which knows the master and is known to the others.
    pub(crate) async fn add_sentinel(&mut self) {
        let sentinel = Sentinel::start(self.servers[0].port);
        sentinel.until(&["SENTINEL", "MASTER", "service"], |answer| answer.contains("num-other-sentinels\n3\n")).await;
        self.sentinels.push(sentinel);
    }

    /// The sentinels watch no more.
    pub(crate) async fn forget(&self) {
        for sentinel in &self.sentinels {
            sentinel.cli(&["SENTINEL", "REMOVE", "service"]).await;
        }
    }

    /// The sentinels watch again, with this server as the master.
    pub(crate) async fn watch(&self, server: usize) {
        let port = self.servers[server].port.to_string();
        for sentinel in &self.sentinels {
            sentinel.cli(&["SENTINEL", "MONITOR", "service", "127.0.0.1", &port, "2"]).await;
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port)).collect()
    }

    /// Waits until all sentinels that run know this server as the master.
    pub(crate) async fn until_master(&self, server: usize) {
        let address = format!("127.0.0.1\n{}", self.servers[server].port);
        for sentinel in &self.sentinels {
            sentinel.until(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "service"], |answer| answer == address).await;
        }
    }
}

/// As the default, in a fifth of the time.
pub(crate) fn quick(sentinels: Vec<String>) -> RedisBusBuilder {
    crate::fleet::quick("redis://service".to_owned()).sentinels(sentinels)
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let (port, data) = (free_port(), TempDir::new().unwrap());
        let file = data.path().join("sentinel.conf");
        let settings =
            format!("port {port}\nbind 127.0.0.1\nsentinel monitor service 127.0.0.1 {master} 2\n{SETTINGS}");
        fs::write(&file, settings).unwrap();
        let process = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| missing("redis-server", &error));
        Self { process, port, _data: data }
    }

    pub(crate) async fn cli(&self, command: &[&str]) -> String {
        cli(self.port, command).await
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn freeze(&self) {
        let sent = Command::new("kill").arg("-STOP").arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill(1) runs").success());
    }

    /// Waits until a command has such an answer.
    async fn until(&self, command: &[&str], answers: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = match tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await {
                Ok(_) => self.cli(command).await,
                Err(_) => "it does not listen".to_owned(),
            };
            if answers(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{command:?}: {answer}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
