//! The page of the chat in a real browser.

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

use fantoccini::key::Key;
use serde_json::{Value, json};

use browser::{Browser, Device, Page};
use no_sockets::{Network, NoSockets};
use program::Program;
use user::User;

const LAST: &str = "#log .said:last-child p";

/// Signs in, and waits until so many are in the channel that is open.
async fn sign_in(page: &Page, user: &str, here: usize) {
    page.fill("#user", user).await;
    page.click("#enter").await;
    page.says("#state", "Live").await;
    are_here(page, here).await;
}

async fn are_here(page: &Page, count: usize) {
    let end = format!(": {count}");
    page.shows("#here", |text| text.ends_with(&end)).await;
}

/// Writes where the page says a message is written.
async fn say(page: &Page, text: &str) {
    page.fill("#text", text).await;
    page.fill("#text", &Key::Enter).await;
}

async fn people(page: &Page) -> Value {
    page.script("return [...document.querySelectorAll('#people .name')].map(name => name.textContent)").await
}

#[tokio::test]
async fn two_users_talk_and_see_each_other_here() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        sign_in(&ann, "ann", 1).await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;
        are_here(&ann, 2).await;
        for page in [&ann, &bob] {
            assert_eq!(people(page).await, json!(["ann", "bob"]));
        }

        say(&ann, "Is anybody here? <b>not bold</b>").await;
        bob.says(LAST, "Is anybody here? <b>not bold</b>").await;
        bob.says("#log .said:last-child .who", "ann").await;
        say(&bob, "I am. The plain text arrives as it was typed.").await;
        ann.says(LAST, "I am. The plain text arrives as it was typed.").await;
        say(&ann, "And whoever comes to this channel is in the list on the right.").await;
        bob.says(LAST, "And whoever comes to this channel is in the list on the right.").await;
        bob.fill("#text", "One more th").await;
        ann.says("#typing", "bob is typing…").await;
        ann.picture("chat").await;

        // Another channel is another room.
        bob.click("[data-key='channel:random']").await;
        bob.says("#title", "# random").await;
        assert_eq!(bob.script("return document.querySelectorAll('#log .said').length").await, json!(0));
        bob.close().await;
        are_here(&ann, 1).await;
        assert_eq!(people(&ann).await, json!(["ann"]));
        assert_eq!(ann.script("return document.querySelectorAll('#log .said').length").await, json!(3), "none twice");
    })
    .await;
}

#[tokio::test]
async fn a_direct_message_is_in_every_tab_of_both() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let one = browser.first(&program.url("/")).await;
        sign_in(&one, "ann", 1).await;
        let two = browser.another(&program.url("/")).await;
        sign_in(&two, "ann", 1).await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;

        bob.fill("#to", "ann").await;
        bob.click("#write button").await;
        bob.says("#title", "@ ann").await;
        say(&bob, "Psst").await;
        bob.says(LAST, "Psst").await;
        for page in [&one, &two] {
            page.says("[data-key='direct:bob'] .badge", "1\nunread").await;
            page.click("[data-key='direct:bob']").await;
            page.says(LAST, "Psst").await;
        }
        say(&two, "Yes?").await;
        for page in [&one, &two, &bob] {
            page.says(LAST, "Yes?").await;
            assert_eq!(page.script("return document.querySelectorAll('#log .said').length").await, json!(2));
        }
        one.picture("chat_direct").await;

        bob.fill("#to", "a b").await;
        bob.click("#write button").await;
        say(&bob, "Is that a name?").await;
        bob.shows("#notice", |text| text.starts_with("user: 1 to 200")).await;
        assert_eq!(bob.script("return document.getElementById('text').value").await, json!("Is that a name?"));
    })
    .await;
}

#[tokio::test]
async fn typing_is_seen_and_vanishes() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        sign_in(&ann, "ann", 1).await;
        // All that was ever shown, as a signal may be over before anybody looks.
        ann.script(
            "window.shown = []; const at = document.getElementById('typing');
             new MutationObserver(() => window.shown.push(at.textContent)).observe(at, {childList: true});",
        )
        .await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;
        bob.fill("#text", "hm").await;
        ann.until("return window.shown.includes('bob is typing…') && window.shown.at(-1) === ''").await;
        assert_eq!(bob.text("#typing").await, "", "nobody is told of their own typing");
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_is_joined_again() {
    let program = Program::start_chat_at(0).await;
    let port = program.port;
    Browser::run(Device::Desktop, async move |browser: Browser| {
        let page = browser.first(&program.url("/")).await;
        sign_in(&page, "ann", 1).await;
        page.fill("#channel", "rust").await;
        page.click("#join button").await;
        page.says("#title", "# rust").await;
        say(&page, "Before").await;
        page.says(LAST, "Before").await;

        program.signal("TERM");
        let (status, log) = program.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        say(&page, "Is it kept?").await;
        page.shows("#notice", |text| text.starts_with("Not connected")).await;
        page.picture("chat_offline").await;

        let program = Program::start_chat_at(port).await;
        page.says("#state", "Live").await;
        are_here(&page, 1).await;
        page.shows("#log .note.warn", |text| text.starts_with("The connection was lost")).await;
        page.fill("#text", &Key::Enter).await;
        page.says(LAST, "Is it kept?").await;
        drop(program);
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
    })
    .await;
}

#[tokio::test]
async fn a_resync_is_noted_and_the_list_made_right() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        ann.keep_sockets().await;
        sign_in(&ann, "ann", 1).await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;
        are_here(&ann, 2).await;
        ann.hurry().await;
        // One coming and one going that never were: as if those that were had been lost.
        ann.hears(r#"{"type": "viewer_joined", "room": "channel:general", "viewers": 2, "users": [{"user": "gone"}]}"#)
            .await;
        ann.hears(r#"{"type": "viewer_left", "room": "channel:general", "viewers": 2, "users": [{"user": "bob"}]}"#)
            .await;
        assert_eq!(people(&ann).await, json!(["ann", "gone"]));
        ann.hears(r#"{"type": "resync", "room": "channel:general", "reason": "bus_gap"}"#).await;
        ann.says("#log .note.warn", "Some messages may be missing here.").await;
        ann.until("return document.getElementById('people').textContent.includes('bob')").await;
        assert_eq!(people(&ann).await, json!(["ann", "bob"]));
        assert_eq!(ann.script("return document.querySelectorAll('.note.warn').length").await, json!(1));
    })
    .await;
}

#[tokio::test]
async fn a_channel_lists_all_who_are_here_also_where_they_are_many() {
    let program = Program::start_chat_at(0).await;
    let mut tabs = Vec::new();
    for n in 0..105 {
        let mut tab = User::login(&program, &format!("u{n:03}")).await.tab().await;
        tab.send(&json!({"type": "join", "room": "channel:general"})).await;
        tab.until_pong().await;
        tabs.push(tab);
    }
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        sign_in(&ann, "ann", 106).await;
        ann.until("return document.querySelectorAll('#people .name').length === 106").await;
        assert_eq!(people(&ann).await[105], "u104");
        drop(tabs.pop());
        are_here(&ann, 105).await;
        assert_eq!(people(&ann).await.as_array().unwrap().len(), 105);
    })
    .await;
}

#[tokio::test]
async fn each_close_code_is_answered_as_its_table_says() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url("/")).await;
        assert_eq!(page.buttons().await, json!(["enter"]), "none without effect");
        page.keep_sockets().await;
        sign_in(&page, "ann", 1).await;
        let ends = async |code, reason, said: &str| {
            page.is_closed(code, reason).await;
            page.says("#state", said).await;
            page.click("#again").await;
            page.says("#state", "Live").await;
        };
        ends(1009, "too big", "Refused: too big").await;
        ends(1008, "why", "Refused: why").await;
        ends(4403, "not allowed", "Not allowed here").await;
        ends(4430, "too many connections", "Too many tabs are open").await;
        page.is_closed(1013, "").await;
        page.shows("#state", |text| text.starts_with("Offline, trying again in")).await;
        assert!(!page.buttons().await.as_array().unwrap().contains(&json!("again")), "it is tried again by itself");
        page.says("#state", "Live").await;
        page.is_closed(4401, "token expired").await;
        page.says("#state", "Signed out").await;
        page.says("#login-notice", "Your session has expired. Please sign in again.").await;
        assert_eq!(page.buttons().await, json!(["enter"]));
    })
    .await;
}

#[tokio::test]
async fn a_page_that_is_left_is_counted_out_and_is_live_again_after_back() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        sign_in(&ann, "ann", 1).await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;
        say(&bob, "Before").await;
        ann.says(LAST, "Before").await;

        ann.leave_for(&program.url("/healthz")).await;
        are_here(&bob, 1).await;
        say(&bob, "Meanwhile").await;
        ann.back().await;
        ann.says("#state", "Live").await;
        for page in [&ann, &bob] {
            are_here(page, 2).await;
        }
        ann.says(LAST, "Meanwhile").await;
        let notes = "return document.querySelectorAll('#log .note.warn').length";
        assert_eq!(ann.script(notes).await, json!(0), "nothing is missing");
        say(&bob, "After").await;
        ann.says(LAST, "After").await;
    })
    .await;
}

#[tokio::test]
async fn who_comes_late_sees_the_last_hundred_messages_of_a_channel() {
    let program = Program::start_chat_at(0).await;
    let carol = User::login(&program, "carol").await;
    let mut tab = carol.tab().await;
    tab.send(&json!({"type": "join", "room": "channel:general"})).await;
    for number in 1..=105 {
        let data = json!({"text": format!("Number {number}")});
        tab.send(&json!({"type": "publish", "room": "channel:general", "data": data, "ref": number})).await;
        while tab.event().await["ref"] != json!(number) {}
    }
    drop(tab);
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&program.url("/")).await;
        sign_in(&ann, "ann", 1).await;
        ann.says(LAST, "Number 105").await;
        let said = "return [...document.querySelectorAll('#log .said p')].map(said => said.textContent)";
        let expected: Vec<String> = (6..=105).map(|number| format!("Number {number}")).collect();
        assert_eq!(ann.script(said).await, json!(expected), "in order, and none twice");
        assert_eq!(ann.script("return document.querySelectorAll('#log .note.warn').length").await, json!(0));
    })
    .await;
}

#[tokio::test]
async fn a_hostile_channel_is_refused_with_words_and_nothing_breaks() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url("/")).await;
        sign_in(&page, "ann", 1).await;
        page.script("window.faults = []; window.onerror = fault => window.faults.push(fault)").await;
        for name in ["<img src=x onerror=faults.push(1)>", "*", "{a}", "a b", "наш", "\"']);", &"x".repeat(201)] {
            page.fill("#channel", name).await;
            page.click("#join button").await;
            page.shows("#join-notice", |text| text.starts_with("That is no name for a channel")).await;
            page.script("document.getElementById('channel').value = ''").await;
        }
        assert_eq!(page.script("return document.querySelectorAll('#channels li').length").await, json!(2));

        say(&page, "<img src=x onerror=faults.push(2)>").await;
        page.says(LAST, "<img src=x onerror=faults.push(2)>").await;
        page.says("#state", "Live").await;
        assert_eq!(page.script("return window.faults").await, json!([]));
        page.picture("chat_refused").await;
    })
    .await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&program.url("/")).await;
        page.tab_to("user").await;
        page.keys("ann").await;
        page.keys(&Key::Enter).await;
        page.says("#state", "Live").await;
        are_here(&page, 1).await;

        // Signing in leads to the message.
        page.keys("By hand").await;
        page.keys(&Key::Enter).await;
        page.says(LAST, "By hand").await;
        page.tab_to("channel").await;
        page.keys("rust").await;
        page.keys(&Key::Enter).await;
        page.says("#title", "# rust").await;
        page.tab_to("leave").await;
        assert_eq!(page.script("return getComputedStyle(document.activeElement).outlineStyle").await, json!("solid"));
        page.keys(&Key::Enter).await;
        page.says("#title", "# general").await;
        page.tab_to("to").await;
        page.tab_to("log").await;
        page.tab_to("logout").await;
        page.keys(&Key::Space).await;
        page.says("#state", "Signed out").await;
    })
    .await;
}

#[tokio::test]
async fn a_phone_shows_it_without_scrolling_sideways() {
    let program = Program::start_chat_at(0).await;
    Browser::run(Device::Phone, async |browser: Browser| {
        let page = browser.first(&program.url("/")).await;
        page.picture("chat_phone_signed_out").await;
        assert!(page.state_is_quiet().await, "nothing is wrong with who has not signed in yet");
        page.keep_sockets().await;
        let long = "w".repeat(150);
        sign_in(&page, &long, 1).await;
        let fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        say(&page, "A short one").await;
        say(&page, &long).await;
        page.says(LAST, &long).await;
        assert_eq!((page.script(fits).await, page.script("return window.innerWidth").await), (json!(true), json!(360)));
        page.picture("chat_phone").await;

        page.click("#more").await;
        page.fill("#channel", &long).await;
        page.click("#join button").await;
        page.shows("#title", |text| text.starts_with("# www")).await;
        assert_eq!(page.script(fits).await, json!(true));
        page.picture("chat_phone_forms").await;
        assert_eq!(page.header_rows().await, 1, "of a long name, its beginning");
        page.is_closed(1009, &"w".repeat(123)).await;
        page.shows("#state", |text| text.starts_with("Refused")).await;
        assert_eq!(page.script(fits).await, json!(true));
        page.picture("chat_phone_stopped").await;
    })
    .await;
}

#[tokio::test]
async fn where_no_socket_gets_through_the_chat_goes_on_by_an_event_stream_for_all_its_rooms() {
    let program = Program::start_chat_at(0).await;
    let network = NoSockets::before(program.port).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let ann = browser.first(&format!("http://127.0.0.1:{}/", network.port)).await;
        ann.fill("#user", "ann").await;
        ann.click("#enter").await;
        ann.says("#state", "Live, by event stream").await;
        are_here(&ann, 1).await;
        let bob = browser.another(&program.url("/")).await;
        sign_in(&bob, "bob", 2).await;
        are_here(&ann, 2).await;
        say(&bob, "To all").await;
        ann.says(LAST, "To all").await;
        say(&ann, "By a request of its own").await;
        for page in [&ann, &bob] {
            page.says(LAST, "By a request of its own").await;
        }

        network.set(Network::Gone);
        are_here(&bob, 1).await;
        say(&bob, "Meanwhile").await;
        network.set(Network::Open);
        ann.says("#state", "Live").await;
        ann.says(LAST, "Meanwhile").await;
        let said = "return [...document.querySelectorAll('#log .said p')].map(p => p.textContent)";
        assert_eq!(ann.script(said).await, json!(["To all", "By a request of its own", "Meanwhile"]), "each once");
        are_here(&bob, 2).await;
    })
    .await;
}
