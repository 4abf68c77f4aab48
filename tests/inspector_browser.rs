//! The inspector's page in a real browser: of `live_posts` over Axum, and of the chat over Warp.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;
#[path = "support/user.rs"]
mod user;

use axum::Router;
use fantoccini::key::Key;
use futures::channel::mpsc;
use reqwest::{Client, Method, StatusCode};
use rooms::{Identity, Inspector, Kind, Message, RoomManager};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use browser::{Browser, Device, Page};
use program::Program;
use redis_server::RedisServer;
use user::User;

const PASSWORD: &str = "for the tests";

async fn start(example: &str, redis: Option<&str>) -> Program {
    let redis = redis.map(|redis| ("REDIS_URL", redis));
    let environment: Vec<_> = [("PORT", "0"), ("ADMIN_PASSWORD", PASSWORD)].into_iter().chain(redis).collect();
    Program::start_with(example, &environment).await
}

fn page_of(program: &Program) -> String {
    program.url("/admin/rooms").replace("://", "://admin:for%20the%20tests@")
}

async fn open(browser: &Browser, program: &Program) -> Page {
    let page = browser.first(&page_of(program)).await;
    page.shows("#state", |text| text == "Bus up").await;
    page
}

async fn rows(page: &Page, css: &str) -> Value {
    let rows = "return [...document.querySelectorAll('CSS tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))";
    page.script(&rows.replace("CSS", css)).await
}

#[tokio::test]
async fn nobody_but_the_admin_sees_it() {
    for example in ["live_posts", "chat"] {
        let program = start(example, None).await;
        let http = Client::new();
        let get = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap() };
        for path in ["/admin/rooms", "/admin/rooms?view=node"] {
            assert_eq!(get(http.get(program.url(path))).await.status(), StatusCode::UNAUTHORIZED, "{example}{path}");
            let wrong = get(http.get(program.url(path)).basic_auth("admin", Some("wrong"))).await;
            assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{example}{path}");
            let right = get(http.get(program.url(path)).basic_auth("admin", Some(PASSWORD))).await;
            assert_eq!(
                (right.status(), &right.headers()["cache-control"]),
                (StatusCode::OK, &"no-store".parse().unwrap())
            );
        }
        for password in [None, Some(("ADMIN_PASSWORD", ""))] {
            let environment: Vec<_> = [("PORT", "0")].into_iter().chain(password).collect();
            let without = Program::start_with(example, &environment).await;
            let nobody = get(http.get(without.url("/admin/rooms")).basic_auth("admin", Some(""))).await;
            assert_eq!(nobody.status(), StatusCode::NOT_FOUND, "{example} {password:?}");
        }
    }
}

#[tokio::test]
async fn an_action_needs_the_header_and_a_page_of_the_same_host() {
    for example in ["live_posts", "chat"] {
        let program = start(example, None).await;
        let url = program.url("/admin/rooms?do=disconnect&user=ann");
        let own = program.url("");
        let act = async |method: Method, header: bool, origin: Option<&str>| {
            let mut request = Client::new().request(method, &url).basic_auth("admin", Some(PASSWORD));
            if header {
                request = request.header("x-rooms-inspector", "1");
            }
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            request.send().await.unwrap().status()
        };
        assert_eq!(act(Method::POST, true, Some(&own)).await, StatusCode::OK, "{example}");
        for (header, origin) in
            [(false, Some(&*own)), (true, None), (true, Some("http://evil.example")), (true, Some("null"))]
        {
            assert_eq!(act(Method::POST, header, origin).await, StatusCode::FORBIDDEN, "{example} {header} {origin:?}");
        }
        assert_eq!(act(Method::PUT, true, Some(&own)).await, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn a_user_is_found_on_the_other_node_and_kicked_and_told_why() {
    let redis = RedisServer::start().await;
    let (one, other) = (start("live_posts", Some(&redis.url())).await, start("live_posts", Some(&redis.url())).await);
    let ann = User::login(&other, "ann").await;
    let (mut live, _) = ann.watch(42).await;
    let bob = User::login(&one, "bob").await;
    let (_bob, _) = bob.watch(42).await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = open(&browser, &one).await;
        page.until("return document.querySelectorAll('#nodes tbody tr').length === 2").await;
        page.until("return document.querySelector('#connections-now').textContent === '1'").await;
        let link = rows(&page, "#links").await;
        assert_eq!((&link[0][0], &link[0][1], &link[0][6]), (&json!("Redis"), &json!("up"), &json!("none")), "{link}");
        page.fill("#user", "ann").await;
        page.keys(&Key::Enter).await;
        page.says("#status", "1 connection of this user on 2 nodes.").await;
        let found = rows(&page, "#result").await;
        assert!(found.to_string().contains("post:42"), "{found}");

        page.picture("inspector_user").await;

        // Why, of one who is there and of a room that it is not in.
        page.click("#why").await;
        page.shows("#status", |text| text.ends_with("0 are problems.")).await;
        page.fill("#room", "post:43").await;
        page.click("#why").await;
        page.shows("#status", |text| text.ends_with("1 is a problem.")).await;
        let text = page.text("#result").await;
        assert!(text.contains("None of its connections is in the room post:43."), "{text}");

        // Kicked, from the list of the room.
        page.script("document.querySelector('#user').value = ''; document.querySelector('#room').value = 'post:42'").await;
        page.click("#search").await;
        page.says("#status", "The room is on 2 of 2 nodes.").await;
        page.script("[...document.querySelectorAll('#result tr')].find(row => row.textContent.includes('ann')).querySelector('button.harm').click()").await;
        page.says("#question", "Kick ann out of post:42, on all nodes?").await;
        page.click("#no").await;
        page.script("[...document.querySelectorAll('#result tr')].find(row => row.textContent.includes('ann')).querySelector('button.harm').click()").await;
        page.click("#yes").await;
        page.says("#status", "Done, on all nodes.").await;
        assert_eq!(u16::from(live.close_code().await), 4403);
    })
    .await;
}

/// Rooms of this process, and where their inspector is, with its buttons.
async fn of_this_process() -> (RoomManager, String) {
    let rooms = RoomManager::builder().kind("post", Kind::authenticated()).build().unwrap();
    let app = Router::new().route("/", rooms::axum::inspector(&Inspector::new(&rooms).allow_actions()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (rooms, url)
}

#[tokio::test]
async fn a_subscription_of_the_server_is_called_that_and_nobody_is_asked_to_kick_it() {
    let (rooms, url) = of_this_process().await;
    let room = "post:1".parse().unwrap();
    let _subscription = rooms.subscribe(&room).await.unwrap();
    let (sink, _unread) = mpsc::unbounded::<Message>();
    let mut ann = rooms.with_sink().connect(Identity::new("ann").unwrap(), sink).unwrap();
    ann.join(&room).await.unwrap();
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = browser.first(&url).await;
        page.shows("#state", |text| text == "Bus up").await;
        page.script("look({ room: 'post:1' })").await;
        page.says("#status", "The room is on 1 of 1 node.").await;
        let members = "return [...document.querySelectorAll('#result tbody tr')].filter(row => row.cells.length === 6)
            .map(row => [row.cells[0].textContent.split(',')[0], row.querySelectorAll('.harm').length]).sort()";
        assert_eq!(page.script(members).await, json!([["ann", 1], ["the server itself", 0]]));
    })
    .await;
}

#[tokio::test]
async fn the_keyboard_reaches_everything_and_what_changes_is_said() {
    let program = start("chat", None).await;
    let ann = User::login(&program, "ann").await;
    let _tab = ann.tab().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let page = open(&browser, &program).await;
        for id in ["user", "room", "search", "why", "largest", "incidents"] {
            page.tab_to(id).await;
        }
        // One way to say that it is pressed: a screen reader would read "Go on, pressed" of one that changes its words too.
        page.click("#pause").await;
        let pause = "const it = document.querySelector('#pause'); return [it.textContent, it.getAttribute('aria-pressed')]";
        assert_eq!(page.script(pause).await, json!(["Pause", "true"]));
        page.click("#pause").await;
        page.script("document.querySelector('#pause').focus()").await;
        page.tab_to("user").await;
        page.keys("ann").await;
        page.keys(&Key::Enter).await;
        page.says("#status", "1 connection of this user on 1 node.").await;
        assert_eq!(page.script("return document.activeElement.id").await, json!("result"));
        assert_eq!(page.script("return document.querySelector('#status').getAttribute('aria-live')").await, json!("polite"));
        // The dialog has the focus, and Escape gives it up.
        page.script("[...document.querySelectorAll('#result button.harm')].find(it => it.textContent === 'Disconnect').focus()").await;
        page.keys(&Key::Enter).await;
        page.until("return document.querySelector('#ask').open && document.querySelector('#ask').contains(document.activeElement)").await;
        page.keys(&Key::Escape).await;
        page.until("return !document.querySelector('#ask').open && document.activeElement.textContent === 'Disconnect'").await;
        // Every table has a caption, and headers of its columns; each chart says what it shows.
        let bare = "return [...document.querySelectorAll('table')].filter(it => !it.caption?.textContent || !it.querySelector('th[scope=col]')).length
            + [...document.querySelectorAll('svg')].filter(it => !it.getAttribute('aria-label')).length
            + [...document.querySelectorAll('input')].filter(it => !it.labels.length).length";
        page.until("return document.querySelectorAll('svg[aria-label]').length >= 3").await;
        page.until(&bare.replace("return", "return 1 >=")).await;
        // A report that comes meanwhile leaves the focus where it is.
        page.script("document.querySelector('#largest button').focus(); document.activeElement.kept = true").await;
        let report = page.text("#numbers").await;
        page.shows("#numbers", |text| text != report).await;
        assert_eq!(page.script("return document.activeElement.kept").await, json!(true));
    })
    .await;
}

#[tokio::test]
async fn nothing_that_others_chose_runs_or_turns_the_page_round() {
    let program = start("chat", None).await;
    let names = ["a".repeat(200), "=+/|@~a:b".into()];
    let mut tabs = Vec::new();
    for name in &names {
        tabs.push(User::login(&program, name).await.tab().await);
    }
    Browser::run(Device::Phone, async |browser: Browser| {
        let page = open(&browser, &program).await;
        page.script("window.hurt = 0; window.alert = () => hurt++; document.addEventListener('securitypolicyviolation', () => hurt++)").await;
        for name in &names {
            page.script(&format!("look({{ user: {} }})", json!(name))).await;
            page.says("#status", "1 connection of this user on 1 node.").await;
        }
        for text in ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\u{202e}b", "'\"><b>", "%00", "x".repeat(5000).as_str()] {
            for (user, room) in [(text, ""), ("ann", text)] {
                page.script(&format!("look({{ user: {}, room: {} }}, true)", json!(user), json!(room))).await;
                page.until("return document.querySelector('#status').dataset.state === 'bad'").await;
            }
        }
        // What a node of another make might send: every text of every report.
        let hostile = "\u{202e}<img src=x onerror=alert(1)>\u{0007}<script>alert(2)</script>".to_owned() + &"y".repeat(200);
        let of = json!({
            "user": hostile, "room": hostile, "silent": [hostile], "at": 1,
            "findings": [{"weight": hostile, "text": hostile, "at": 1, "node": hostile}],
        });
        page.script(&format!("document.querySelector('#result').replaceChildren(explained({of}))")).await;
        let incident = json!({"at": 1, "kind": hostile, "user": hostile, "room": hostile, "code": hostile, "reason": hostile});
        // Read in the same script, as the page writes its own kinds there with its next report.
        let written = format!(
            "table(document.querySelector('#kinds'), 'x', INCIDENTS, [incident({incident})], '');
             return ['#result', '#kinds'].map(css => document.querySelector(css).textContent)"
        );
        for text in page.script(&written).await.as_array().unwrap() {
            let text = text.as_str().unwrap();
            assert!(text.contains("<img src=x onerror=alert(1)>[U+0007]<script>") && text.contains("[U+202E]"), "{text}");
            assert!(!text.contains('\u{202e}'));
        }
        let made = "return document.querySelectorAll('main img, main script, #result b').length";
        assert_eq!(page.script(made).await, json!(0));
        assert_eq!(page.script("return hurt").await, json!(0));
        // The policy holds, too: nothing makes HTML of a text.
        let tried = "try { document.querySelector('#result').innerHTML = '<b>x</b>'; return 'made' } catch (error) { return error.name }";
        assert_eq!(page.script(tried).await, json!("TypeError"));
        assert_eq!(page.script("return document.documentElement.scrollWidth <= innerWidth").await, json!(true), "nothing sticks out");
    })
    .await;
}

#[tokio::test]
async fn the_longest_ids_are_shown_whole_and_stick_out_nowhere() {
    let (rooms, url) = of_this_process().await;
    let (user, id) = ("w".repeat(200), "W".repeat(200));
    let room = format!("post:{id}").parse().unwrap();
    let (sink, _unread) = mpsc::unbounded::<Message>();
    let mut connection = rooms.with_sink().connect(Identity::new(&*user).unwrap(), sink).unwrap();
    connection.join(&room).await.unwrap();
    Browser::run(Device::Phone, async |browser: Browser| {
        let page = browser.first(&url).await;
        page.until("return document.querySelectorAll('#largest tbody tr').length === 1").await;
        assert!(page.text("#largest").await.contains(&id));
        let wider = "return document.documentElement.scrollWidth > innerWidth";
        assert_eq!(page.script(wider).await, json!(false), "the largest rooms");
        for (question, said) in [
            (json!({"room": room}), "The room is on 1 of 1 node."),
            (json!({"user": user}), "1 connection of this user on 1 node."),
        ] {
            page.script(&format!("look({question})")).await;
            page.says("#status", said).await;
            let result = page.text("#result").await;
            assert!(result.contains(&id) || result.contains(&user), "{result}");
            assert_eq!(page.script(wider).await, json!(false), "{question}");
        }
        page.script(&format!("look({}, true)", json!({"user": user, "room": room}))).await;
        page.shows("#status", |text| text.contains("problem")).await;
        assert_eq!(page.script(wider).await, json!(false), "why");
    })
    .await;
}

#[tokio::test]
async fn it_is_read_on_a_phone_and_in_the_dark() {
    let program = start("chat", None).await;
    let mut tabs = Vec::new();
    for name in ["ann", "bob", "carol"] {
        let mut tab = User::login(&program, name).await.tab().await;
        for room in ["channel:general", "channel:random", "channel:no-such", "other:1"] {
            tab.send(&json!({"type": "join", "room": room})).await;
        }
        tab.until_pong().await;
        tabs.push(tab);
    }
    Browser::run(Device::DarkPhone, async |browser: Browser| {
        let page = open(&browser, &program).await;
        assert_eq!(page.script("return matchMedia('(prefers-color-scheme: dark)').matches").await, json!(true));
        page.until("return document.querySelectorAll('#largest tbody tr').length >= 2").await;
        page.script("look({ user: 'ann', room: 'other:1' }, true)").await;
        page.shows("#status", |text| text.contains("problem")).await;
        page.picture("inspector_phone_dark").await;
        assert_eq!(page.script("return document.documentElement.scrollWidth <= innerWidth").await, json!(true), "nothing sticks out");
        page.script("look({ user: 'ann' })").await;
        page.shows("#status", |text| text.contains("connection")).await;
        page.script("document.querySelector('#result').scrollIntoView()").await;
        page.picture("inspector_phone_user").await;
        assert_eq!(page.script("return document.documentElement.scrollWidth <= innerWidth").await, json!(true), "nothing sticks out");
        // Text and what is behind it differ enough (WCAG 2.2, 1.4.3): 4.5 to 1.
        let contrast = "const bright = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(part => part / 255).map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
            const card = bright(getComputedStyle(document.querySelector('.card')).backgroundColor);
            return Math.min(...['.hint', 'th', '.link', '.harm', 'h2', '#state'].map(css => document.querySelector(css)).filter(it => it).map(it => bright(getComputedStyle(it).color))
                .map(text => (Math.max(text, card) + .05) / (Math.min(text, card) + .05)))";
        let least = page.script(contrast).await.as_f64().unwrap();
        assert!(least >= 4.5, "{least}");
    })
    .await;
}
