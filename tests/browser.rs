//! The page of `live_posts` in a real browser: what it shows, and what it does when its connection ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "browser/post.rs"]
mod post;
#[path = "support/program.rs"]
mod program;

use std::{net::TcpListener, time::Duration};

use fantoccini::key::Key;
use serde_json::json;

use browser::{Browser, Device};
use post::{POST, sign_in};
use program::Program;

#[tokio::test]
async fn two_windows_see_each_other_their_comments_and_likes() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url(POST)).await;
        sign_in(&ann, "ann").await;
        ann.says("#viewers", "1").await;
        let bob = browser.another(&program.url(POST)).await;
        sign_in(&bob, "bob").await;
        for page in [&ann, &bob] {
            page.says("#viewers", "2").await;
        }

        ann.fill("#text", "Is anybody here? <b>not bold</b>").await;
        ann.click("#send").await;
        bob.says("#comments li p", "Is anybody here? <b>not bold</b>").await;
        bob.says("#comments li .who", "ann").await;
        bob.fill("#text", "I am.").await;
        bob.click("#send").await;
        ann.says("#comments li:nth-child(2) p", "I am.").await;
        bob.click("#like").await;
        ann.says("#likes", "1").await;
        ann.picture("live_posts").await;

        // Another post is another room.
        let carol = browser.another(&program.url("/#1")).await;
        sign_in(&carol, "carol").await;
        carol.says("#viewers", "1").await;
        assert!(!carol.find("#comments").await.text().await.unwrap().contains("I am."));
        carol.click("[data-post='42']").await;
        bob.says("#viewers", "3").await;
        carol.close().await;

        bob.close().await;
        ann.says("#viewers", "1").await;
        assert_eq!(ann.script("return document.querySelectorAll('#comments li').length").await, json!(2), "none twice");
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_is_joined_again() {
    let program = Program::start().await;
    let port = program.port;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        sign_in(&page, "ann").await;
        for (n, text) in ["One", "Two"].iter().enumerate() {
            page.fill("#text", text).await;
            page.click("#send").await;
            page.says(&format!("#comments li:nth-child({}) p", n + 1), text).await;
            page.click("#like").await;
            page.says("#likes", &(n + 1).to_string()).await;
        }

        program.signal("TERM");
        let (status, log) = program.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        page.says("#viewers", "–").await;
        page.picture("offline").await;

        let program = Program::start_at(port).await;
        page.says("#state", "Live").await;
        page.says("#viewers", "1").await;
        // The new server knows nothing of what the old one had, and numbers its comments from 1 again.
        page.says("#likes", "0").await;
        page.says("#comments", "").await;
        page.fill("#text", "Back again").await;
        page.click("#send").await;
        page.says("#comments li p", "Back again").await;
        page.click("#like").await;
        page.says("#likes", "1").await;
        drop(program);
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
    })
    .await;
}

#[tokio::test]
async fn a_page_comes_back_when_the_server_says() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.keep_sockets().await;
        sign_in(&page, "ann").await;
        page.hears(r#"{"type": "reconnect", "in_ms": 90000}"#).await;
        page.is_closed(1012, "").await;
        page.shows("#state", |text| ["Offline, trying again in 90 s", "Offline, trying again in 89 s"].contains(&text))
            .await;
    })
    .await;
}

#[tokio::test]
async fn each_close_code_is_answered_as_its_table_says() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.keep_sockets().await;
        sign_in(&page, "ann").await;
        let ends = async |code, reason, said: &str| {
            page.is_closed(code, reason).await;
            page.says("#state", said).await;
            page.says("#viewers", "–").await;
            page.click("#again").await;
            page.says("#state", "Live").await;
        };
        for code in [1002, 1003, 1007, 1008, 1009] {
            ends(code, "why", "Refused: why").await;
        }
        ends(1009, "", "Refused: 1009").await;
        ends(4403, "not allowed", "Not allowed here").await;
        ends(4430, "too many connections", "Too many tabs are open").await;
        page.is_closed(1013, "").await;
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        assert!(!page.buttons().await.as_array().unwrap().contains(&json!("again")), "it is tried again by itself");

        // When to come back, as one server said it, is not for another post's connection.
        page.click("[data-post='1']").await;
        page.says("#state", "Live").await;
        page.hears(r#"{"type": "reconnect", "in_ms": 90000}"#).await;
        page.click("[data-post='2']").await;
        page.says("#state", "Live").await;
        page.is_closed(1006, "").await;
        page.says("#state", "Live").await;

        page.is_closed(4401, "token expired").await;
        page.says("#state", "Signed out").await;
        page.says("#login-notice", "Your session has expired. Please sign in again.").await;
    })
    .await;
}

#[tokio::test]
async fn a_page_that_is_left_is_counted_out_and_is_live_again_after_back() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url(POST)).await;
        sign_in(&ann, "ann").await;
        let bob = browser.another(&program.url(POST)).await;
        sign_in(&bob, "bob").await;
        ann.says("#viewers", "2").await;

        ann.leave_for(&program.url("/healthz")).await;
        bob.says("#viewers", "1").await;
        bob.fill("#text", "Where is ann?").await;
        bob.click("#send").await;
        bob.says("#comments li p", "Where is ann?").await;

        ann.back().await;
        ann.says("#state", "Live").await;
        ann.says("#comments li p", "Where is ann?").await;
        for page in [&ann, &bob] {
            page.says("#viewers", "2").await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_is_never_answered_is_given_up() {
    let mut program = Program::start().await;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.hurry().await;
        sign_in(&page, "ann").await;

        program.kill();
        let deaf = TcpListener::bind(("0.0.0.0", program.port)).unwrap();
        // Whoever comes is taken by the kernel, and never read.
        page.says("#state", "Reconnecting…").await;
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        drop(deaf);
        let _program = Program::start_at(program.port).await;
        page.says("#state", "Live").await;
        page.says("#viewers", "1").await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_token_is_said_and_not_tried_again() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.script(
            "sessionStorage.setItem('token', 'forged'); sessionStorage.setItem('user', 'ann'); location.reload()",
        )
        .await;
        page.says("#login-notice", "Your token was refused. Please sign in again.").await;
        page.says("#state", "Signed out").await;
        assert_eq!(page.buttons().await, json!(["enter"]), "none without effect");
        page.picture("refused").await;

        page.script("window.tried = 0; window.WebSocket = class { constructor() { window.tried += 1; } }").await;
        // Several times the first delay of a reconnect.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(page.script("return window.tried").await, json!(0));
    })
    .await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.tab_to("user").await;
        page.keys("ann").await;
        page.keys(&Key::Enter).await;
        page.says("#state", "Live").await;

        // Signing in leads to the comment; the field is not left for the button.
        page.keys("By hand").await;
        page.keys(&(Key::Control + &Key::Enter + &Key::Null)).await;
        page.says("#comments li p", "By hand").await;
        page.tab_to("send").await;
        page.tab_to("logout").await;
        page.script("document.activeElement.blur()").await;
        page.tab_to("like").await;
        page.keys(&Key::Space).await;
        page.says("#likes", "1").await;
        assert_eq!(page.script("return getComputedStyle(document.activeElement).outlineStyle").await, json!("solid"));
        page.picture("keyboard").await;
    })
    .await;
}

#[tokio::test]
async fn a_phone_shows_it_without_scrolling_sideways() {
    let program = Program::start().await;
    Browser::run(Device::Phone, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.picture("phone_signed_out").await;
        assert!(page.state_is_quiet().await, "nothing is wrong with who has not signed in yet");
        page.keep_sockets().await;
        sign_in(&page, &"w".repeat(200)).await;
        let long = "w".repeat(300);
        page.fill("#text", &long).await;
        page.click("#send").await;

        page.says("#comments li p", &long).await;
        let wider = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(page.script(wider).await, json!(false));
        assert_eq!(page.script("return window.innerWidth").await, json!(360));
        page.picture("phone").await;
        assert_eq!(page.header_rows().await, 1, "of a long name, its beginning");
        page.hears(r#"{"type": "reconnect", "in_ms": 90000}"#).await;
        page.is_closed(1012, "").await;
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        assert_eq!(page.header_rows().await, 2);
        page.picture("phone_offline").await;
        page.script("scrollTo(0, 0)").await;
        page.click("[data-post='1']").await;
        page.says("#state", "Live").await;
        page.is_closed(1009, &"w".repeat(123)).await;
        page.shows("#state", |text| text.starts_with("Refused")).await;
        assert_eq!(page.script(wider).await, json!(false));
        page.picture("phone_stopped").await;
    })
    .await;
}
