//! An example as a process of its own: `live_posts`, or the chat.

#![allow(dead_code, reason = "each test file uses its part")]

use std::process::{Child, Command, ExitStatus, Stdio};

use tokio::time::{Instant, sleep};

use crate::lines::{self, Lines, PATIENCE};

const SECRET: &str = "a secret for tests of at least 32 bytes";

/// A running program; it is killed when dropped.
pub(crate) struct Program {
    process: Child,
    log: Lines,
    pub(crate) port: u16,
}

impl Program {
    pub(crate) async fn start() -> Self {
        Self::start_at(0).await
    }

    /// At a port, or at any with 0.
    pub(crate) async fn start_at(port: u16) -> Self {
        Self::start_with("live_posts", &[("PORT", &port.to_string())]).await
    }

    /// The chat, at a port, or at any with 0.
    pub(crate) async fn start_chat_at(port: u16) -> Self {
        Self::start_with("chat", &[("PORT", &port.to_string())]).await
    }

    /// As one of several processes, joined by a Redis.
    pub(crate) async fn start_over(redis: &str) -> Self {
        Self::start_over_at(redis, 0).await
    }

    /// The same, at a port, or at any with 0.
    pub(crate) async fn start_over_at(redis: &str, port: u16) -> Self {
        Self::start_with("live_posts", &[("PORT", &port.to_string()), ("REDIS_URL", redis)]).await
    }

    /// The chat, as one of several processes.
    pub(crate) async fn start_chat_over(redis: &str) -> Self {
        Self::start_with("chat", &[("PORT", "0"), ("REDIS_URL", redis)]).await
    }

    /// Any example, with what it takes from the environment.
    pub(crate) async fn start_with(example: &str, environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(lines::example(example))
            .env_remove("REDIS_URL")
            .env("JWT_SECRET", SECRET)
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: {}", lines::how_to_build(example)));
        let mut log = Lines::of(process.stdout.take().unwrap());
        let port = log.after("listening on http://localhost:").await.parse().unwrap();
        Self { process, log, port }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill(1) runs").success());
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// How it ended, and the rest of what it said.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the program did not end in {PATIENCE:?}");
            sleep(std::time::Duration::from_millis(20)).await;
        };
        (status, self.log.rest().await)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
