//! The page of `live_posts` in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use fantoccini::key::Key;
use serde_json::json;

use browser::{Browser, Device, Page};
use program::Program;

const POST: &str = "/#42";

async fn sign_in(page: &Page, user: &str) {
    page.fill("#user", user).await;
    page.click("#enter").await;
    page.says("#state", "Live").await;
}

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
        sign_in(&page, "ann").await;
        let bye =
            r#"received({"type": "reconnect", "in_ms": 90000}, open); closed(1012); return $("state").textContent"#;
        assert_eq!(page.script(bye).await, json!("Offline, trying again in 90 s"));
        // The next time nobody said anything.
        let again = r#"closed(1006); return $("state").textContent"#;
        assert_eq!(page.script(again).await, json!("Offline, trying again in 1 s"));
    })
    .await;
}

#[tokio::test]
async fn each_close_code_is_answered_as_its_table_says() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        sign_in(&page, "ann").await;
        let says = async |close: &str| {
            let again = "$('again').checkVisibility()";
            page.script(&format!("attempt = 0; clearTimeout(retry); {close}; return [$('state').textContent, {again}]"))
                .await
        };
        assert_eq!(says("silent(socket)").await, json!(["Offline, trying again in 1 s", false]));
        assert_eq!(says("closed(1006)").await, json!(["Offline, trying again in 1 s", false]));
        for code in [1011, 1013, 4429] {
            let said = says(&format!("Math.random = () => 0; closed({code})")).await;
            assert_eq!(said, json!(["Offline, trying again in 4 s", false]), "{code}");
        }
        for code in [1002, 1003, 1007, 1008, 1009] {
            let said = says(&format!("closed({code}, 'why')")).await;
            assert_eq!(said, json!(["Refused: why", true]), "{code}");
        }
        assert_eq!(says("closed(4403)").await, json!(["Not allowed here", true]));
        assert_eq!(says("closed(4430)").await, json!(["Too many tabs are open", true]));
        page.click("#again").await;
        page.says("#state", "Live").await;

        // When to come back, as one server said it, is not for another post's connection.
        page.script("received({type: 'reconnect', in_ms: 90000}, open)").await;
        page.click("[data-post='1']").await;
        page.says("#state", "Live").await;
        assert_eq!(says("closed(1006)").await, json!(["Offline, trying again in 1 s", false]));

        assert_eq!(says("closed(4401)").await, json!(["Signed out", false]));
        page.says("#login-notice", "Your session has expired. Please sign in again.").await;
    })
    .await;
}

#[tokio::test]
async fn a_page_that_was_told_too_little_fetches() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.script("window.faults = []; window.onerror = fault => window.faults.push(fault)").await;
        sign_in(&page, "ann").await;
        page.click("#like").await;
        page.says("#likes", "1").await;
        page.fill("#text", "Stored").await;
        page.click("#send").await;
        page.says("#comments li p", "Stored").await;
        page.script("const after = setTimeout; window.setTimeout = (run, ms) => after(run, ms / 20)").await;

        // What is shown is forgotten, so that only a fetch brings it back.
        for message in [r#"{"type": "new_comment"}"#, r#"{"type": "resync"}"#, r#"{"type": "refresh"}"#] {
            let told = format!("clear(); socket.onmessage({{data: '{message}'}}); return $('comments').children.length");
            assert_eq!(page.script(&told).await, json!(0), "not all pages at once");
            page.says("#comments li p", "Stored").await;
        }
        page.script(
            "const real = fetch; window.fetch = () => { window.fetch = real; return Promise.reject(new Error('down')); };
             clear(); refresh(open);",
        )
        .await;
        page.says("#comments li p", "Stored").await;

        for message in ["null", "5", "{}", r#"{"type": "like_count"}"#, r#"{"type": "new_comment", "comment": 5}"#] {
            page.script(&format!("socket.onmessage({{data: '{message}'}})")).await;
        }
        page.says("#likes", "1").await;
        page.says("#state", "Live").await;
        assert_eq!(page.script("return window.faults").await, json!([]));

        page.script("token = 'forged'").await;
        page.click("#like").await;
        page.says("#login-notice", "Please sign in again.").await;
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
        sign_in(&page, &"w".repeat(200)).await;
        let long = "w".repeat(300);
        page.fill("#text", &long).await;
        page.click("#send").await;

        page.says("#comments li p", &long).await;
        let wider = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(page.script(wider).await, json!(false));
        assert_eq!(page.script("return window.innerWidth").await, json!(360));
        page.picture("phone").await;
        page.script("closed(1008, 'w'.repeat(123))").await;
        assert_eq!(page.script(wider).await, json!(false));
        page.picture("phone_stopped").await;
    })
    .await;
}
