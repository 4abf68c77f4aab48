//! The page of `live_posts` in a real browser: what it missed, or was told too little of, appears once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/no_sockets.rs"]
mod no_sockets;
#[path = "browser/post.rs"]
mod post;
#[path = "support/program.rs"]
mod program;
#[path = "../rooms-redis/tests/support/proxy.rs"]
mod proxy;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use serde_json::json;

use browser::{Browser, Device, Page};
use no_sockets::{Network, NoSockets};
use post::{POST, comment, sign_in};
use program::Program;
use proxy::{Link, Proxy};
use redis_server::RedisServer;

#[tokio::test]
async fn a_page_that_was_told_too_little_fetches() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.script("window.faults = []; window.onerror = fault => window.faults.push(fault)").await;
        page.keep_sockets().await;
        sign_in(&page, "ann").await;
        page.click("#like").await;
        page.says("#likes", "1").await;
        page.fill("#text", "Stored").await;
        page.click("#send").await;
        page.says("#comments li p", "Stored").await;
        page.hurry().await;

        // What is shown is taken away, so that only a fetch brings it back.
        let clear = "document.getElementById('comments').replaceChildren()";
        for message in [r#"{"type": "new_comment"}"#, r#"{"type": "resync"}"#, r#"{"type": "refresh"}"#] {
            page.script(clear).await;
            page.hears(message).await;
            page.says("#comments li p", "Stored").await;
        }
        page.script(
            "const real = fetch; window.fetch = () => { window.fetch = real; return Promise.reject(new Error('down')); };",
        )
        .await;
        page.script(clear).await;
        page.hears(r#"{"type": "room_joined", "room": "post:42", "viewers": 1}"#).await;
        page.says("#comments li p", "Stored").await;

        for message in ["null", "5", "{}", r#"{"type": "like_count"}"#, r#"{"type": "new_comment", "comment": 5}"#] {
            page.hears(message).await;
        }
        page.says("#likes", "1").await;
        page.says("#state", "Live").await;
        assert_eq!(page.script("return window.faults").await, json!([]));

        page.script(
            "const real = fetch, headers = { authorization: 'Bearer forged' };
             window.fetch = (path, how) => real(path, { ...how, headers: { ...how.headers, ...headers } });",
        )
        .await;
        page.click("#like").await;
        page.says("#login-notice", "Please sign in again.").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_page_was_to_fetch_when_its_connection_ended_is_fetched_by_the_next_one() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url(POST)).await;
        page.keep_sockets().await;
        sign_in(&page, "ann").await;
        comment(&page, "Stored").await;
        page.says("#comments li p", "Stored").await;
        // As late as can be, and not before the connection ends.
        page.script("Math.random = () => 0.9999; document.getElementById('comments').replaceChildren()").await;
        page.hears(r#"{"type": "new_comment"}"#).await;
        page.script("dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))").await;
        page.says("#comments li p", "Stored").await;
    })
    .await;
}

#[tokio::test]
async fn a_comment_that_was_posted_while_a_page_was_away_appears_once_and_nothing_is_fetched() {
    let program = Program::start().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url(POST)).await;
        sign_in(&ann, "ann").await;
        let bob = browser.another(&program.url(POST)).await;
        sign_in(&bob, "bob").await;
        bob.fill("#text", "Before").await;
        bob.click("#send").await;
        ann.says("#comments li p", "Before").await;

        let count =
            "window.fetches = 0; const real = fetch; window.fetch = (...how) => { fetches += 1; return real(...how) }";
        ann.script(count).await;
        ann.script("dispatchEvent(new Event('pagehide'))").await;
        bob.says("#viewers", "1").await;
        for text in ["Meanwhile", "And again"] {
            bob.fill("#text", text).await;
            bob.click("#send").await;
        }
        bob.says("#comments li:nth-child(3) p", "And again").await;
        bob.click("#like").await;
        bob.says("#likes", "1").await;
        ann.script("dispatchEvent(new Event('pageshow'))").await;
        ann.says("#comments li:nth-child(3) p", "And again").await;
        ann.says("#comments li:nth-child(2) p", "Meanwhile").await;
        ann.says("#likes", "1").await;
        ann.says("#viewers", "2").await;
        let shown = "return [document.querySelectorAll('#comments li').length, window.fetches]";
        assert_eq!(ann.script(shown).await, json!([3, 0]), "each once, and nothing was fetched");
    })
    .await;
}

/// Counts what the page fetches from now on.
async fn count_fetches(page: &Page) {
    let count =
        "window.fetches = 0; const real = fetch; window.fetch = (...how) => { fetches += 1; return real(...how) }";
    page.script(count).await;
}

/// The comments that the page shows, in their order, and how often it has fetched.
async fn shows_without_a_fetch(page: &Page, comments: &[&str]) {
    page.says(&format!("#comments li:nth-child({}) p", comments.len()), comments.last().unwrap()).await;
    let shown = "return [[...document.querySelectorAll('#comments li p')].map(p => p.textContent), window.fetches]";
    assert_eq!(page.script(shown).await, json!([comments, 0]));
}

#[tokio::test]
async fn a_comment_that_was_posted_while_the_network_of_a_tab_was_cut_appears_once_and_nothing_is_fetched() {
    let program = Program::start().await;
    let network = Proxy::before(program.port).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&format!("http://127.0.0.1:{}{POST}", network.port)).await;
        sign_in(&ann, "ann").await;
        let bob = browser.another(&program.url(POST)).await;
        sign_in(&bob, "bob").await;
        comment(&bob, "Before").await;
        ann.says("#comments li p", "Before").await;
        count_fetches(&ann).await;

        network.set(Link::Stalled);
        network.cut();
        ann.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        bob.says("#viewers", "1").await;
        comment(&bob, "Meanwhile").await;
        comment(&bob, "And again").await;
        bob.says("#comments li:nth-child(3) p", "And again").await;
        bob.click("#like").await;
        bob.says("#likes", "1").await;
        ann.says("#comments li:last-child p", "Before").await;

        network.set(Link::Open);
        ann.says("#state", "Live").await;
        ann.says("#likes", "1").await;
        comment(&bob, "After").await;
        shows_without_a_fetch(&ann, &["Before", "Meanwhile", "And again", "After"]).await;
        bob.says("#viewers", "2").await;
    })
    .await;
}

#[tokio::test]
async fn a_comment_that_was_posted_while_the_server_restarts_appears_once_and_nothing_is_fetched() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let mut restarts = Program::start_over(&url).await;
    let other = Program::start_over(&url).await;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let ann = browser.first(&restarts.url(POST)).await;
        sign_in(&ann, "ann").await;
        let bob = browser.another(&other.url(POST)).await;
        sign_in(&bob, "bob").await;
        bob.says("#viewers", "2").await;
        comment(&bob, "Before").await;
        ann.says("#comments li p", "Before").await;
        count_fetches(&ann).await;

        restarts.kill();
        ann.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        comment(&bob, "Meanwhile").await;
        bob.says("#comments li:nth-child(2) p", "Meanwhile").await;

        // What the process had stored is gone with it, so a fetch would show less.
        let _back = Program::start_over_at(&url, restarts.port).await;
        ann.says("#state", "Live").await;
        comment(&bob, "After").await;
        shows_without_a_fetch(&ann, &["Before", "Meanwhile", "After"]).await;
        ann.says("#viewers", "2").await;
    })
    .await;
}

#[tokio::test]
async fn where_no_socket_gets_through_a_page_goes_on_by_an_event_stream_until_one_does() {
    let program = Program::start().await;
    let network = NoSockets::before(program.port).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&format!("http://127.0.0.1:{}{POST}", network.port)).await;
        ann.fill("#user", "ann").await;
        ann.click("#enter").await;
        ann.says("#state", "Live, by event stream").await;
        let bob = browser.another(&program.url(POST)).await;
        sign_in(&bob, "bob").await;
        for page in [&ann, &bob] {
            page.says("#viewers", "2").await;
        }
        comment(&bob, "Before").await;
        ann.says("#comments li p", "Before").await;
        comment(&ann, "Mine").await;
        bob.says("#comments li:nth-child(2) p", "Mine").await;
        let fetched =
            "return performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/comments')).length";
        let before = ann.script(fetched).await;

        network.set(Network::Gone);
        ann.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        bob.says("#viewers", "1").await;
        comment(&bob, "Meanwhile").await;
        bob.says("#comments li:nth-child(3) p", "Meanwhile").await;
        network.set(Network::Blocks);
        ann.says("#state", "Live, by event stream").await;
        comment(&bob, "After").await;
        ann.says("#comments li:nth-child(4) p", "After").await;
        let shown = "return [...document.querySelectorAll('#comments li p')].map(p => p.textContent)";
        assert_eq!(ann.script(shown).await, json!(["Before", "Mine", "Meanwhile", "After"]), "each once");

        // It is tried now and then, and goes on where the stream was.
        network.set(Network::Open);
        ann.says("#state", "Live").await;
        bob.says("#viewers", "2").await;
        comment(&bob, "By socket").await;
        ann.says("#comments li:nth-child(5) p", "By socket").await;
        assert_eq!(ann.script(shown).await, json!(["Before", "Mine", "Meanwhile", "After", "By socket"]));
        assert_eq!(ann.script(fetched).await, before, "nothing was fetched for it");
    })
    .await;
}
