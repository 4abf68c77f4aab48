//! The `oidc` program with a provider: who gets in, what an exchange of keys does, and the page in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/provider.rs"]
mod provider;
#[path = "support/user.rs"]
mod user;

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue, protocol::frame::coding::CloseCode},
};

use browser::{Browser, Device, Page};
use lines::PATIENCE;
use program::Program;
use provider::{Key, Provider};
use user::Live;

const HOUR: Duration = Duration::from_secs(3600);

async fn program(provider: &Provider) -> Program {
    Program::start_with("oidc", &[("PORT", "0"), ("ISSUER", &provider.issuer)]).await
}

/// Connects as the page does.
async fn connect(program: &Program, token: &str) -> Live {
    let mut request = program.url("/live").replace("http", "ws").into_client_request().unwrap();
    let offer = HeaderValue::from_str(&format!("app.v1, bearer, {token}")).unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offer);
    let (socket, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "app.v1", "and never the token");
    Live(socket)
}

/// Connects, and takes the `room_joined`; `None` where the token is bad.
async fn join(program: &Program, token: &str) -> Option<Live> {
    let mut live = connect(program, token).await;
    match live.message().await {
        Message::Text(text) => {
            assert!(text.contains("room_joined"), "{text}");
            Some(live)
        }
        Message::Close(Some(close)) if close.code == CloseCode::Policy => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_providers_tokens_for_this_program_are_taken_and_no_others() {
    let provider = Provider::start(HOUR).await;
    let program = program(&provider).await;
    let mut ann = join(&program, &provider.token("ann")).await.unwrap();
    let good = provider.token("ann");
    let stranger = Provider::start(HOUR).await;
    for (what, token) in [
        ("another client's", provider.token_for("ann", "mail")),
        ("another provider's, with the same key", stranger.token("ann")),
        ("a changed one", good.replace(good.split('.').nth(1).unwrap(), "e30")),
        ("none", "none".to_owned()),
    ] {
        assert!(join(&program, &token).await.is_none(), "{what}");
    }
    ann.send(&json!({"type": "say", "text": "hello"})).await;
    assert_eq!(ann.event().await, json!({"type": "said", "by": "ann", "text": "hello"}));

    program.signal("INT");
    drop(ann);
    let (status, log) = program.ended().await;
    assert!(status.success() && !log.contains(&good), "{log}");
}

#[tokio::test]
async fn the_provider_exchanges_its_keys_and_connections_stay() {
    let provider = Provider::start(HOUR).await;
    let program = program(&provider).await;
    let old = provider.token("ann");
    let mut ann = join(&program, &old).await.unwrap();
    provider.exchange_keys(Key::Second);
    // The keys are fetched again no sooner than 30 s after the last time, however many unknown ones come.
    let by = Instant::now() + PATIENCE;
    let mut bob = loop {
        if let Some(bob) = join(&program, &provider.token("bob")).await {
            break bob;
        }
        assert!(Instant::now() < by, "the new key is never taken");
        // She is there all the time, and so are her answers to pings.
        ann.until_pong().await;
        sleep(Duration::from_millis(500)).await;
    };
    bob.send(&json!({"type": "say", "text": "hello"})).await;
    for live in [&mut ann, &mut bob] {
        let said = json!({"type": "said", "by": "bob", "text": "hello"});
        while live.event().await != said {}
    }
    assert!(join(&program, &old).await.is_none(), "what the provider took back is good no more");
}

async fn sign_in(page: &Page, user: &str) {
    page.click("#enter").await;
    page.fill("#user", user).await;
    page.click("#approve").await;
    page.says("#state", "Live").await;
}

#[tokio::test]
async fn somebody_signs_in_at_the_provider_and_is_still_there_when_their_token_has_ended() {
    let provider = Provider::start(Duration::from_secs(2)).await;
    let program = program(&provider).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        ann.says("#state", "Signed out").await;
        sign_in(&ann, "ann").await;
        assert_eq!(ann.script("return location.search").await, json!(""), "the code is not left in the address");
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob").await;
        ann.says("#members", "ann, bob").await;
        bob.fill("#text", "<b>hello</b>").await;
        bob.click("#send").await;
        ann.says("#said li", "bob: <b>hello</b>").await;

        // Ten seconds more than the token's two are allowed for clocks that differ.
        ann.script("window.states = []; new MutationObserver(() => states.push(document.getElementById('state').textContent)).observe(document.getElementById('state'), { childList: true })").await;
        let by = Instant::now() + PATIENCE;
        while provider.refreshed() < 2 {
            assert!(Instant::now() < by, "no token was fetched anew");
            sleep(Duration::from_millis(100)).await;
        }
        for page in [&ann, &bob] {
            page.says("#members", "ann, bob").await;
            page.says("#state", "Live").await;
        }
        assert!(!ann.script("return states").await.to_string().contains("Offline"), "nobody was told");
        bob.fill("#text", "still here").await;
        bob.click("#send").await;
        ann.says("#said li:nth-child(2)", "bob: still here").await;

        ann.click("#logout").await;
        ann.says("#state", "Signed out").await;
        bob.says("#members", "bob").await;
        ann.open(&program.url("/?code=number-1&state=forged")).await;
        ann.says("#state", "Signed out").await;
    })
    .await;
}
