//! The README's program, pasted into a package of its own, built, started, and used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use browser::{Browser, Device};
use lines::{Lines, PATIENCE};

const README: &str = include_str!("../README.md");

/// Where the README has the clone of this repository, beside the new package.
const CLONE: &str = r#"path = "../rooms""#;

/// The first block of the section that starts so.
fn block(start: &str) -> &'static str {
    let (_, section) = README.split_once("## Your program\n").expect("the section");
    let (_, block) = section.split_once(&format!("\n```{start}\n")).expect("the block");
    block.split_once("\n```").expect("its end").0
}

/// Builds the program as a newcomer does, but without the network: what it depends on is in the workspace's lock file, and
/// has been loaded for the workspace. With `ROOMS_FRESH_LOCK`, as before a release, it depends on the newest that there is.
fn build() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let package = tempfile::tempdir().unwrap();
    let manifest = block("toml");
    assert!(manifest.contains(CLONE), "the package is in no registry");
    fs::write(package.path().join("Cargo.toml"), manifest.replace(CLONE, &format!("path = {here:?}"))).unwrap();
    let is_fresh = env::var_os("ROOMS_FRESH_LOCK").is_some();
    if !is_fresh {
        fs::copy(here.join("Cargo.lock"), package.path().join("Cargo.lock")).unwrap();
    }
    fs::create_dir(package.path().join("src")).unwrap();
    fs::write(package.path().join("src/main.rs"), block("rust,no_run")).unwrap();
    let built = Command::new(env!("CARGO"))
        .arg("build")
        .args((!is_fresh).then_some("--offline"))
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .status();
    assert!(built.unwrap().success(), "the README's program does not build");
    target.join("debug/live")
}

/// Killed when dropped.
struct Running {
    process: Child,
    at: String,
}

impl Running {
    async fn start() -> Self {
        let program = tokio::task::spawn_blocking(build).await.unwrap();
        let mut process =
            Command::new(program).env("LISTEN", "127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("a program");
        let said = Lines::of(process.stdout.take().unwrap()).after("open http://").await;
        Self { process, at: said.split_once(' ').unwrap().0.to_owned() }
    }

    async fn post(&self, path: &str) -> String {
        let answer = reqwest::Client::new().post(format!("http://{}{path}", self.at)).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    async fn watch(&self, token: &str) -> Watcher {
        Watcher(connect_async(format!("ws://{}/posts/42/live?token={token}", self.at)).await.unwrap().0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Watcher {
    async fn message(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.expect("a message in time").expect("a message").unwrap()
    }

    async fn event(&mut self) -> Value {
        serde_json::from_str(self.message().await.to_text().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn the_program_of_the_readme_runs_as_it_says() {
    let program = Running::start().await;
    let token = program.post("/tokens/5").await;
    let mut five = program.watch(&token).await;
    assert_eq!(five.event().await, json!({"type": "room_joined", "room": "post:42", "viewers": 1}));
    program.post("/posts/42/likes").await;
    assert_eq!(five.event().await, json!({"type": "liked"}));
    let Message::Close(Some(close)) = program.watch("forged").await.message().await else { panic!("it is let in") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "Invalid token"));

    Browser::run(Device::Phone, async |browser: Browser| {
        let ann = browser.first(&format!("http://{}/", program.at)).await;
        ann.says("#viewers", "2").await;
        assert_eq!(five.event().await, json!({"type": "viewer_joined", "viewers": 2}));
        ann.click("button").await;
        ann.says("#likes", "1").await;
        assert_eq!(five.event().await, json!({"type": "liked"}));
        ann.picture("readme").await;
        drop(five);
        ann.says("#viewers", "1").await;
    })
    .await;
}
