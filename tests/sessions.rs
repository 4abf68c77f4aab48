//! The `sessions` program: its cookie over HTTP and WebSocket, and its page in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "browser/browser.rs"]
mod browser;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use browser::{Browser, Device, Page};
use program::Program;
use user::Live;

async fn program() -> Program {
    Program::start_with("sessions", &[("PORT", "0")]).await
}

/// One browser of a user, as far as its cookie goes.
struct Session<'a> {
    program: &'a Program,
    cookie: String,
}

impl<'a> Session<'a> {
    async fn of(program: &'a Program, user: &str) -> Self {
        let mut session = Session { program, cookie: String::new() };
        let (status, cookie) =
            session.call(Method::POST, "/login", &json!({"user": user, "password": user.repeat(2)})).await;
        assert_eq!(status, StatusCode::OK);
        session.cookie = cookie.unwrap();
        session
    }

    /// Its status, and the cookie that it sets.
    async fn call(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Option<String>) {
        let request = Client::new().request(method, self.program.url(path)).header("content-type", "application/json");
        let answer = request.header("cookie", &self.cookie).body(body.to_string()).send().await.unwrap();
        let set = answer.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        // One that is taken back needs no attributes.
        if let Some(set) = set.as_ref().filter(|set| !set.starts_with("session=;")) {
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        }
        (answer.status(), set.map(|set| set.split(';').next().unwrap().to_owned()))
    }

    async fn open(&self, origin: Option<&str>) -> Result<Live, StatusCode> {
        let mut request = self.program.url("/live").replace("http", "ws").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("cookie", HeaderValue::from_str(&self.cookie).unwrap());
        if let Some(origin) = origin {
            headers.insert("origin", HeaderValue::from_str(origin).unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Live(socket)),
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects from a page of the program's own, and takes the `room_joined`.
    async fn live(&self) -> Live {
        let mut live = self.connect().await;
        assert_eq!(live.event().await["type"], "room_joined");
        live
    }

    async fn connect(&self) -> Live {
        self.open(Some(&self.program.url(""))).await.unwrap()
    }
}

/// The close frame, after whatever comes before it.
async fn closed(live: &mut Live) -> (u16, String) {
    loop {
        if let Message::Close(close) = live.message().await {
            let close = close.unwrap();
            return (close.code.into(), close.reason.to_string());
        }
    }
}

#[tokio::test]
async fn who_signs_out_is_disconnected_with_that_session_and_no_other() {
    let program = program().await;
    let (ann, other, bob) =
        (Session::of(&program, "ann").await, Session::of(&program, "ann").await, Session::of(&program, "bob").await);
    let (mut first, mut second) = (ann.live().await, ann.live().await);
    let (mut elsewhere, mut neighbour) = (other.live().await, bob.live().await);
    let (status, _) = bob.call(Method::POST, "/notes", &json!({"text": "hello"})).await;
    assert_eq!(status, StatusCode::CREATED);
    for live in [&mut first, &mut second, &mut elsewhere, &mut neighbour] {
        while live.event().await != json!({"type": "note", "note": {"by": "bob", "text": "hello"}}) {}
    }

    assert_eq!(ann.call(Method::POST, "/logout", &Value::Null).await.0, StatusCode::NO_CONTENT);
    for live in [&mut first, &mut second] {
        assert_eq!(closed(live).await, (4410, "revoked".to_owned()));
    }
    for live in [&mut elsewhere, &mut neighbour] {
        live.until_pong().await;
    }
    assert_eq!(closed(&mut ann.connect().await).await, (1008, "Invalid token".to_owned()));
    assert_eq!(ann.call(Method::POST, "/notes", &json!({"text": "still"})).await.0, StatusCode::UNAUTHORIZED);
    other.live().await;
}

#[tokio::test]
async fn who_changes_the_password_is_out_everywhere_else_and_goes_on_here_within_the_same_second() {
    let program = program().await;
    let (mut ann, other, bob) =
        (Session::of(&program, "ann").await, Session::of(&program, "ann").await, Session::of(&program, "bob").await);
    let (mut here, mut elsewhere, mut neighbour) = (ann.live().await, other.live().await, bob.live().await);

    let (status, cookie) = ann.call(Method::POST, "/password", &json!({"password": "secret"})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    ann.cookie = cookie.unwrap_or(ann.cookie);
    for live in [&mut here, &mut elsewhere] {
        assert_eq!(closed(live).await, (4410, "revoked".to_owned()));
    }
    neighbour.until_pong().await;
    ann.live().await;
    assert_eq!(closed(&mut other.connect().await).await, (1008, "Invalid token".to_owned()));
    assert_eq!(other.call(Method::POST, "/notes", &json!({"text": "still"})).await.0, StatusCode::UNAUTHORIZED);

    // With the old password nobody gets in, with the new one at once.
    let stranger = Session { program: &program, cookie: String::new() };
    let sign_in =
        async |password| stranger.call(Method::POST, "/login", &json!({"user": "ann", "password": password})).await;
    assert_eq!(sign_in("annann").await.0, StatusCode::UNAUTHORIZED);
    let (status, cookie) = sign_in("secret").await;
    assert_eq!(status, StatusCode::OK);
    Session { program: &program, cookie: cookie.unwrap() }.live().await;
}

#[tokio::test]
async fn who_signs_in_as_somebody_else_is_disconnected_as_who_they_were() {
    let program = program().await;
    let ann = Session::of(&program, "ann").await;
    let mut live = ann.live().await;
    let (status, _) = ann.call(Method::POST, "/login", &json!({"user": "bob", "password": "bobbob"})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(closed(&mut live).await, (4410, "revoked".to_owned()));
}

#[tokio::test]
async fn a_cookie_is_good_for_the_programs_own_pages_and_a_made_up_one_for_nothing() {
    let program = program().await;
    let ann = Session::of(&program, "ann").await;
    let mut neighbour = ann.live().await;
    for origin in [None, Some("https://evil.example"), Some("null")] {
        assert_eq!(ann.open(origin).await.err(), Some(StatusCode::FORBIDDEN), "{origin:?}");
    }
    let wrong = json!({"user": "ann", "password": "guess"});
    assert_eq!(ann.call(Method::POST, "/login", &wrong).await.0, StatusCode::UNAUTHORIZED);
    for cookie in ["session=AAAAAAAAAAAAAAAAAAAAAA", "session=x", "session=", "other=1"] {
        let stranger = Session { program: &program, cookie: cookie.to_owned() };
        assert_eq!(closed(&mut stranger.connect().await).await, (1008, "Invalid token".to_owned()), "{cookie}");
    }
    assert_eq!(neighbour.until_pong().await, [] as [Value; 0]);

    let secret = ann.cookie.split_once('=').unwrap().1.to_owned();
    drop(neighbour);
    program.signal("INT");
    let (status, log) = program.ended().await;
    assert!(status.success() && !log.contains(&secret), "{log}");
}

async fn sign_in(page: &Page, password: &str) {
    page.fill("#user", "ann").await;
    page.fill("#password", password).await;
    page.click("#enter").await;
}

#[tokio::test]
async fn a_new_password_and_signing_out_in_one_tab_sign_out_the_other() {
    let program = program().await;
    Browser::run(Device::Desktop, async |browser: Browser| {
        let one = browser.first(&program.url("/")).await;
        sign_in(&one, "wrong").await;
        one.says("#notice", "Wrong name or password.").await;
        one.script("document.getElementById('login').reset()").await;
        sign_in(&one, "annann").await;
        one.says("#state", "Live").await;

        // The browser has the cookie, so another tab is signed in from the start.
        let two = browser.another(&program.url("/")).await;
        two.says("#state", "Live").await;
        one.says("#viewers", "2").await;
        two.fill("#text", "<b>hello</b>").await;
        two.click("#send").await;
        one.says("#notes li", "ann: <b>hello</b>").await;

        one.fill("#renewed", "secret").await;
        one.click("#renew").await;
        // The cookie is the other tab's, too.
        two.says("#state", "Signed out").await;
        two.open(&program.url("/")).await;
        two.says("#state", "Live").await;
        one.says("#state", "Live").await;

        one.click("#logout").await;
        one.says("#state", "Signed out").await;
        two.says("#state", "Signed out").await;
        two.says("#notice", "Please sign in again.").await;
        two.open(&program.url("/")).await;
        two.says("#state", "Signed out").await;
    })
    .await;
}
