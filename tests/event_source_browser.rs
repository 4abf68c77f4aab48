//! A browser's own `EventSource`, and what it does by itself with an event stream.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/no_sockets.rs"]
mod no_sockets;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use serde_json::json;

use browser::{Browser, Device};
use no_sockets::{Network, NoSockets};
use program::Program;
use user::User;

/// Opens three streams, and keeps what is heard of each.
const START: &str = r#"
    window.streams = {};
    for (const [name, post, token] of [["live", 42, TOKEN], ["forbidden", 999, TOKEN], ["unknown", 42, "bad"]]) {
        const source = new EventSource(`/sse/posts/${post}/live?token=${token}`);
        const its = streams[name] = { source, opened: 0, heard: [], codes: [] };
        source.onopen = () => its.opened += 1;
        source.onmessage = ({ data, lastEventId }) => its.heard.push({ ...JSON.parse(data), lastEventId });
        source.addEventListener("close", ({ data }) => its.codes.push(JSON.parse(data).code));
    }
"#;

#[tokio::test]
async fn an_event_source_resumes_by_itself_and_stays_away_after_a_401_and_where_it_is_told_to() {
    let program = Program::start().await;
    let network = NoSockets::before(program.port).await;
    let bob = User::login(&program, "bob").await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&format!("http://127.0.0.1:{}/healthz", network.port)).await;
        page.script(&START.replace("TOKEN", &json!(bob.token).to_string())).await;
        page.until("return streams.live.heard.length === 1").await;
        page.until("return streams.unknown.source.readyState === EventSource.CLOSED").await;
        page.until("return streams.forbidden.codes[0] === 4403").await;

        // A browser comes back after some seconds of its own, unless it was told when: two rounds are more than one of them.
        for text in ["one", "two"] {
            network.set(Network::Gone);
            page.until("return streams.live.source.readyState === EventSource.CONNECTING").await;
            let (status, answer) = bob.post("/posts/42/comments", &json!({"text": text})).await;
            assert!(status.is_success(), "{answer}");
            network.set(Network::Blocks);
            page.until(&format!("return JSON.stringify(streams.live.heard).includes('\"{text}\"')")).await;
        }
        let joins = "return streams.live.heard.filter(({ type }) => type === 'room_joined')
            .map(({ recovered, position, lastEventId }) => [recovered ?? null, position === lastEventId])";
        assert_eq!(page.script(joins).await, json!([[null, true], [true, true], [true, true]]));
        let messages = "return streams.live.heard.filter(({ type }) => type === 'message')
            .map(({ offset, lastEventId }) => offset === lastEventId)";
        assert_eq!(page.script(messages).await, json!([true, true]), "each once");
        let stays = "const { unknown, forbidden } = streams;
            return [unknown.opened, unknown.source.readyState, forbidden.opened, forbidden.codes.length]";
        assert_eq!(page.script(stays).await, json!([0, 2, 1, 1]), "a 401 is the end, and `retry` says a day");
    })
    .await;
}
