//! The example `document` in a real browser: two write one text, also while one of them is offline, and through a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/no_sockets.rs"]
mod no_sockets;
#[path = "support/program.rs"]
mod program;

use std::{path::Path, process::Command};

use fantoccini::key::Key;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use browser::{Browser, Device, Page};
use no_sockets::{Network, NoSockets};
use program::Program;

const TEXT: &str = "return [...document.querySelectorAll('.cm-line')].map(line => \
                    [...line.childNodes].filter(node => !node.classList?.contains('cm-ySelectionCaret')).map(node => node.textContent).join(''))";

/// Bundles the page's script.
fn bundle() {
    run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/document-page")));
}

fn run(mut command: Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{error}; `apt-get install nodejs npm` installs what it needs"));
    let [said, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{command:?}: {said}{error}");
}

#[test]
fn what_a_room_keeps_is_enough_for_a_page_that_has_nothing() {
    bundle();
    let mut test = Command::new("npm");
    test.arg("test").current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/document/page"));
    run(test);
}

/// All that the room keeps is more than most outboxes hold, of which who comes is given three quarters at most.
#[tokio::test]
async fn who_comes_is_given_all_that_the_room_keeps() {
    const LENGTH: usize = 250_000;
    let program = start(0).await;
    let http = reqwest::Client::new();
    let token = http.post(program.url("/tokens/ann")).send().await.unwrap().text().await.unwrap();
    let url = program.url(&format!("/ws?token={token}")).replace("http://", "ws://");
    let head = b"\x01\x10document:minutes\x011";
    let published = [head.as_slice(), &[0; LENGTH]].concat();

    let (mut ann, _) = connect_async(&url).await.unwrap();
    ann.send(Message::text(json!({"type": "join", "room": "document:minutes"}).to_string())).await.unwrap();
    for _ in 0..4 {
        ann.send(Message::binary(published.clone())).await.unwrap();
        loop {
            let message = ann.next().await.unwrap().unwrap();
            assert!(!message.to_string().contains(r#""error""#), "{message}");
            if message.is_text() && message.to_string().contains(r#""published""#) {
                break;
            }
        }
    }

    let (mut bob, _) = connect_async(&url).await.unwrap();
    let join = json!({"type": "join", "room": "document:minutes", "newest": 600});
    bob.send(Message::text(join.to_string())).await.unwrap();
    bob.send(Message::text(json!({"type": "ping"}).to_string())).await.unwrap();
    let mut given = 0;
    loop {
        let message = bob.next().await.unwrap().unwrap();
        given += usize::from(message.is_binary());
        if message.is_text() && message.to_string().contains(r#""pong""#) {
            break;
        }
    }
    assert_eq!(given, 4);
}

async fn start(port: u16) -> Program {
    tokio::task::spawn_blocking(bundle).await.unwrap();
    Program::start_with("document", &[("PORT", &port.to_string())]).await
}

async fn open(page: &Page, user: &str) {
    page.fill("#user", user).await;
    page.click("#write").await;
    page.says("#state", "All changes shared").await;
}

/// Writes where the cursor is.
async fn write(page: &Page, keys: &str) {
    page.click(".cm-content").await;
    page.keys(keys).await;
}

async fn has(page: &Page, lines: Value) {
    page.until(&format!("{} === JSON.stringify({lines})", TEXT.replace("return ", "return JSON.stringify(") + ")"))
        .await;
}

async fn text(page: &Page) -> Value {
    page.script(TEXT).await
}

#[tokio::test]
async fn two_write_one_text_and_agree_after_one_was_offline() {
    let program = start(0).await;
    let network = NoSockets::before(program.port).await;
    network.set(Network::Open);
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/#minutes")).await;
        open(&ann, "ann").await;
        let bob = browser.another(&format!("http://127.0.0.1:{}/#minutes", network.port)).await;
        open(&bob, "bob").await;
        ann.says("#viewers", "2 here").await;
        write(&ann, "Agenda").await;
        has(&bob, json!(["Agenda"])).await;
        // Each sees where the other writes.
        bob.until("return document.querySelector('.cm-ySelectionInfo')?.textContent === 'ann'").await;

        network.set(Network::Gone);
        bob.says("#state", "Offline: what you write is kept").await;
        write(&bob, &format!("{}{}of bob, offline", char::from(Key::End), char::from(Key::Enter))).await;
        write(&ann, &format!("{} of Friday", char::from(Key::End))).await;
        ann.says("#viewers", "1 here").await;
        has(&ann, json!(["Agenda of Friday"])).await;
        has(&bob, json!(["Agenda", "of bob, offline"])).await;

        network.set(Network::Open);
        bob.says("#state", "All changes shared").await;
        for page in [&ann, &bob] {
            page.until(&format!("{}.join().includes('offline')", TEXT)).await;
            page.until(&format!("{}.join().includes('Friday')", TEXT)).await;
        }
        assert_eq!(text(&ann).await, text(&bob).await, "they agree");
        ann.picture("document").await;

        // Who comes later has it all, though the server knows nothing of the text.
        let cy = browser.another(&program.url("/#minutes")).await;
        open(&cy, "cy").await;
        has(&cy, text(&ann).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_text_is_whole_again_after_a_restart_that_lost_what_the_room_had_kept() {
    let mut program = start(0).await;
    let port = program.port;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/#minutes")).await;
        open(&ann, "ann").await;
        write(&ann, "Kept by ann").await;
        ann.says("#state", "All changes shared").await;
        program.kill();
        ann.says("#state", "Offline: what you write is kept").await;
        write(&ann, &format!("{}, alone", char::from(Key::End))).await;
        // Its secret is another: the page asks for a new token.
        let program = start(port).await;
        ann.says("#state", "All changes shared").await;
        let bob = browser.another(&program.url("/#minutes")).await;
        open(&bob, "bob").await;
        has(&bob, json!(["Kept by ann, alone"])).await;
    })
    .await;
}
