//! The `live_posts` program as a process of its own. Cargo builds it with the tests, but not with `--test` alone:
//! then `cargo build --all-features --example live_posts` comes first, or an old one is tested.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// Long beyond what any step takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
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
        let path = executable();
        let mut process = Command::new(&path)
            .env("PORT", port.to_string())
            .env("JWT_SECRET", SECRET)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `cargo build --all-features --example live_posts` makes it", path.display())
            });
        let mut log = Lines::of(process.stdout.take().unwrap());
        let port = log.after("listening on http://localhost:").await.parse().unwrap();
        Self { process, log, port }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill(1) runs").success());
    }

    /// How it ended, and the rest of what it said.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the program did not end in {PATIENCE:?}");
            sleep(Duration::from_millis(20)).await;
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

/// Cargo builds the examples beside the tests: `target/debug/deps/this_test`, `target/debug/examples/live_posts`.
fn executable() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/live_posts")
}

/// The lines of a pipe, which is read to its end whether anyone listens or not: a full pipe would stop the process.
pub(crate) struct Lines(mpsc::UnboundedReceiver<String>);

impl Lines {
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                _ = sender.send(line);
            }
        });
        Self(receiver)
    }

    /// What follows a text that some line holds.
    pub(crate) async fn after(&mut self, text: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.0.recv()).await.ok().flatten();
            let line = line.unwrap_or_else(|| panic!("no line says {text:?}"));
            if let Some((_, after)) = line.split_once(text) {
                return after.trim().to_owned();
            }
        }
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.0.recv().await {
            rest = rest + &line + "\n";
        }
        rest
    }
}
