//! The client of the guide's page in a real browser: `src/guide/rooms.js`, as it is printed there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use browser::{Browser, Device, Page};
use lines::PATIENCE;
use program::Program;
use user::User;

const CLIENT: &str = include_str!("../src/guide/rooms.js");

/// Against a clock and a server that do what the case says.
const CASES: &str = include_str!("browser/client_cases.js");

/// Signs in as ann, and keeps what is heard.
const START: &str = r#"
    const headers = { "content-type": "application/json" }, body = JSON.stringify({ user: "ann" });
    const token = async () => (await (await fetch("/login", { method: "POST", headers, body })).json()).token;
    window.heard = [];
    const onEvent = event => window.heard.push(event);
    const onOffline = how => onEvent({ type: "offline", ...how });
    const onEnd = (code, reason) => onEvent({ type: "end", code, reason });
    window.rooms = client("/ws", { token, onEvent, onOffline, onEnd });
"#;

/// A page of the program that has no script but the client.
async fn page_of(browser: &Browser, program: &Program) -> Page {
    let page = browser.first(&program.url("/healthz")).await;
    let text = json!(CLIENT);
    let load = format!(
        "const url = URL.createObjectURL(new Blob([{text}], {{ type: 'text/javascript' }}));
         return import(url).then(({{ connect }}) => {{ window.client = connect; }});"
    );
    page.script(&load).await;
    page
}

/// The next event of a kind, after which what came before it is forgotten.
async fn hears(page: &Page, what: &str) -> Value {
    let next =
        format!("const at = heard.findIndex(event => {what}); return at < 0 ? null : heard.splice(0, at + 1).at(-1)");
    let by = Instant::now() + PATIENCE;
    loop {
        let event = page.script(&next).await;
        if !event.is_null() {
            return event;
        }
        assert!(Instant::now() < by, "never heard {what}: {}", page.script("return heard").await);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn joins(page: &Page, room: &str) -> Value {
    hears(page, &format!("event.type === 'room_joined' && event.room === '{room}'")).await
}

#[tokio::test]
async fn each_case_is_as_the_guide_says() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = page_of(&browser, &program).await;
        let list = format!("(0, eval)({}); return Object.keys(cases)", json!(CASES));
        let names: Vec<String> = serde_json::from_value(page.script(&list).await).unwrap();
        assert!(!names.is_empty());
        for name in names {
            let run = format!("return cases.{name}().then(() => 'passed', fault => String(fault.stack))");
            assert_eq!(page.script(&run).await, json!("passed"), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn it_is_back_in_its_rooms_when_a_killed_server_is() {
    let mut program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let page = page_of(&browser, &program).await;
        let join = "for (const room of ['channel:general', 'channel:rust', 'channel:left']) rooms.join(room)";
        page.script(&format!("{START}; {join}")).await;
        joins(&page, "channel:left").await;
        let bob = User::login(&program, "bob").await;
        let mut tab = bob.tab().await;
        tab.send(&json!({"type": "join", "room": "channel:rust"})).await;
        tab.send(&json!({"type": "publish", "room": "channel:rust", "data": {"text": "Before"}})).await;
        let message = hears(&page, "event.type === 'message'").await;
        assert_eq!((&message["room"], &message["data"]["text"]), (&json!("channel:rust"), &json!("Before")));
        drop(tab);

        program.kill();
        assert_eq!(hears(&page, "event.type === 'offline'").await["code"], 1006);
        let offline =
            "rooms.leave('channel:left'); rooms.join('channel:late'); return rooms.publish('channel:rust', {})";
        assert_eq!(page.script(offline).await, json!(false));
        let program = Program::start_chat_at(program.port).await;
        for room in ["channel:general", "channel:rust", "channel:late"] {
            joins(&page, room).await;
        }

        let bob = User::login(&program, "bob").await;
        let mut tab = bob.tab().await;
        for (room, here) in [("channel:general", 2), ("channel:rust", 2), ("channel:late", 2), ("channel:left", 1)] {
            tab.send(&json!({"type": "join", "room": room})).await;
            let joined = tab.until_pong().await.into_iter().find(|event| event["type"] == "room_joined").unwrap();
            assert_eq!((&joined["room"], &joined["viewers"]), (&json!(room), &json!(here)));
        }
        page.script("rooms.publish('channel:rust', { text: 'After' }, 1)").await;
        hears(&page, "event.type === 'published' && event.ref === 1").await;

        page.script("rooms.close()").await;
        let by = Instant::now() + PATIENCE;
        while bob.get("/healthz").await.1["connections"] != 1 {
            assert!(Instant::now() < by, "the connection is still there");
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_says_when_to_come_back() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let page = page_of(&browser, &program).await;
        page.script(START).await;
        joins(&page, "user:ann").await;
        program.signal("TERM");
        let told = hears(&page, "event.type === 'reconnect'").await;
        let offline = hears(&page, "event.type === 'offline'").await;
        assert_eq!((&offline["code"], &offline["in_ms"]), (&json!(1012), &told["in_ms"]));
    })
    .await;
}

#[tokio::test]
async fn as_many_rooms_as_there_may_be_are_joined_without_a_close() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = page_of(&browser, &program).await;
        // The user's own room is one of the 128.
        page.script(&format!("{START}; for (let i = 1; i <= 128; i++) rooms.join(`channel:${{i}}`)")).await;
        let refused = hears(&page, "event.type === 'error' || event.type === 'offline'").await;
        assert_eq!((&refused["code"], &refused["room"]), (&json!("too_many_rooms"), &json!("channel:128")));
        page.script("rooms.leave('channel:1'); rooms.join('channel:128')").await;
        joins(&page, "channel:128").await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_too_many_is_the_end() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = page_of(&browser, &program).await;
        let ann = User::login(&program, "ann").await;
        let mut tabs = Vec::new();
        for _ in 0..100 {
            tabs.push(ann.tab().await);
        }
        page.script(START).await;
        let closed = hears(&page, "event.type === 'end' || event.type === 'offline'").await;
        assert_eq!(closed, json!({"type": "end", "code": 4430, "reason": "too many connections"}));
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_always_bad_is_asked_for_anew_and_ever_later() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = page_of(&browser, &program).await;
        page.script(
            "window.heard = []; window.asked = 0;
             const token = async () => `bad-${window.asked += 1}`;
             const onOffline = how => window.heard.push({ ...how, asked: window.asked });
             window.rooms = client('/ws', { token, onEvent: () => {}, onOffline });",
        )
        .await;
        for (tries, longest) in [(1, 500.0), (2, 1_000.0), (3, 2_000.0)] {
            let offline = hears(&page, "true").await;
            assert_eq!((&offline["code"], &offline["reason"]), (&json!(1008), &json!("Invalid token")));
            let delay = offline["in_ms"].as_f64().unwrap();
            assert!((longest / 2.0..=longest).contains(&delay), "{delay} ms at try {tries}");
            assert_eq!(offline["asked"], tries);
        }
    })
    .await;
}
