//! The examples as processes of their own, and what they print. Cargo builds them with the tests, but not with `--test`
//! alone: then `cargo build --all-features --examples` comes first, or old ones are tested.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    thread,
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

/// Long beyond what any step takes, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Cargo builds the examples beside the tests: `target/debug/deps/this_test`, `target/debug/examples/live_posts`.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

pub(crate) fn how_to_build(name: &str) -> String {
    format!("{}: `cargo build --all-features --example {name}` makes it", example(name).display())
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
        self.after_if_ever(text).await.unwrap_or_else(|| panic!("no line says {text:?}"))
    }

    /// The same; `None` where the pipe ends before.
    pub(crate) async fn after_if_ever(&mut self, text: &str) -> Option<String> {
        loop {
            let line = timeout(PATIENCE, self.0.recv()).await.ok().flatten()?;
            if let Some((_, after)) = line.split_once(text) {
                return Some(after.trim().to_owned());
            }
        }
    }

    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.0.recv().await {
            rest = rest + &line + "\n";
        }
        rest
    }
}
