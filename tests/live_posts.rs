//! The `live_posts` program, over HTTP and WebSocket: its answers, who is told what, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/program.rs"]
mod program;

use futures::{SinkExt as _, StreamExt as _};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use program::{PATIENCE, Program};

/// One user of the program.
struct User<'a> {
    program: &'a Program,
    http: Client,
    token: String,
}

impl<'a> User<'a> {
    async fn login(program: &'a Program, name: &str) -> Self {
        let mut user = User { program, http: Client::new(), token: String::new() };
        let (status, answer) = user.post("/login", &json!({"user": name})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        user.token = answer["token"].as_str().unwrap().to_owned();
        user
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.request(Method::POST, path, body.to_string()).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.request(Method::GET, path, String::new()).await
    }

    async fn request(&self, method: Method, path: &str, body: String) -> (StatusCode, Value) {
        let mut request = self.http.request(method, self.program.url(path));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        (answer.status(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// Opens a post, and takes the `room_joined`.
    async fn watch(&self, post: u64) -> (Live, Value) {
        let url = self.program.url(&format!("/ws/posts/{post}/live?token={}", self.token)).replace("http", "ws");
        let mut live = Live(connect_async(url).await.unwrap().0);
        let joined = live.event().await;
        (live, joined)
    }
}

struct Live(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Live {
    async fn message(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.expect("a message in time").expect("a message").unwrap()
    }

    async fn event(&mut self) -> Value {
        serde_json::from_str(self.message().await.to_text().unwrap()).unwrap()
    }

    /// All events up to the answer to a ping, which comes after whatever was sent before it.
    async fn until_pong(&mut self) -> Vec<Value> {
        self.0.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            if event == json!({"type": "pong"}) {
                return events;
            }
            events.push(event);
        }
    }

    async fn close_code(&mut self) -> CloseCode {
        loop {
            if let Message::Close(close) = self.message().await {
                return close.unwrap().code;
            }
        }
    }
}

#[tokio::test]
async fn a_comment_and_a_like_reach_those_who_watch_that_post_and_nobody_else() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (mut one, joined) = user.watch(42).await;
    assert_eq!(joined, json!({"type": "room_joined", "post_id": 42, "room": "post:42", "viewers": 1}));
    let (mut two, joined) = user.watch(42).await;
    assert_eq!(joined["viewers"], 2);
    let (mut elsewhere, joined) = user.watch(1).await;
    assert_eq!(joined["viewers"], 1);

    let (status, comment) = user.post("/posts/42/comments", &json!({"text": " so it is "})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&comment["author"], &comment["text"], &comment["post_id"]),
        (&json!("5"), &json!("so it is"), &json!(42))
    );
    assert!(comment["id"].is_u64() && comment["created_at"].is_string(), "{comment}");
    let (status, like) = user.post("/posts/42/likes", &json!({})).await;
    assert_eq!((status, &like["post_id"]), (StatusCode::CREATED, &json!(42)));

    let told = [
        json!({"type": "new_comment", "comment": comment}),
        json!({"type": "like_count", "post_id": 42, "likes": like["likes"]}),
    ];
    for live in [&mut one, &mut two] {
        let mut events = live.until_pong().await;
        events.retain(|event| event["type"] != "viewer_joined");
        assert_eq!(events, told);
    }
    assert_eq!(elsewhere.until_pong().await, [] as [Value; 0]);
    let (_, comments) = user.get("/posts/42/comments").await;
    assert!(comments.as_array().unwrap().contains(&comment));
}

#[tokio::test]
async fn a_bad_request_is_refused_with_words_and_nobody_is_told() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (mut live, _) = user.watch(42).await;
    let stranger = User { token: String::new(), http: Client::new(), program: &program };
    let forged = User { token: format!("{}x", user.token), http: Client::new(), program: &program };

    let cases = [
        (&stranger, "/posts/42/comments", json!({"text": "hi"}), 401),
        (&forged, "/posts/42/comments", json!({"text": "hi"}), 401),
        (&stranger, "/posts/42/likes", json!({}), 401),
        (&user, "/posts/9999/comments", json!({"text": "hi"}), 404),
        (&user, "/posts/9999/likes", json!({}), 404),
        (&user, "/posts/42/comments", json!({"text": ""}), 422),
        (&user, "/posts/42/comments", json!({"text": " \n "}), 422),
        (&user, "/posts/42/comments", json!({"text": "é".repeat(2_001)}), 422),
        (&user, "/posts/42/comments", json!({"text": 5}), 422),
        (&user, "/posts/42/comments", json!({}), 422),
        (&user, "/posts/42/comments", json!({"text": "x".repeat(70_000)}), 413),
        (&user, "/login", json!({"user": "a b"}), 422),
        (&user, "/login", json!([]), 422),
        (&user, "/login", json!({"user": "*"}), 422),
    ];
    for (who, path, body, expected) in cases {
        let (status, answer) = who.post(path, &body).await;
        assert_eq!(status.as_u16(), expected, "{path} {body}");
        assert!(answer["error"].as_str().is_some_and(|text| text.len() > 10), "{path}: {answer}");
    }
    let (status, answer) = user.request(Method::POST, "/posts/42/comments", "{no json".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().is_some_and(|text| text.contains("JSON")), "{answer}");
    assert_eq!(live.until_pong().await, [] as [Value; 0]);

    let (status, _) = user.post("/posts/42/comments", &json!({"text": "é".repeat(2_000)})).await;
    assert_eq!(status, StatusCode::CREATED, "2,000 characters are allowed, however many bytes they are");
}

#[tokio::test]
async fn a_signal_closes_the_members_with_1012_and_the_program_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let program = Program::start().await;
        let user = User::login(&program, "5").await;
        let (mut live, _) = user.watch(42).await;
        let (status, health) = user.get("/healthz").await;
        assert_eq!((status, health), (StatusCode::OK, json!({"status": "ok", "connections": 1, "rooms": 1})));

        program.signal(signal);
        assert_eq!(live.close_code().await, CloseCode::Restart, "after SIG{signal}");
        drop(live);
        drop(user);
        let (status, log) = program.ended().await;
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {log}");
    }
}

#[tokio::test]
async fn a_token_is_not_in_the_log() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (live, _) = user.watch(42).await;
    let forged = User { token: format!("{}x", user.token), http: Client::new(), program: &program };
    let url = program.url(&format!("/ws/posts/42/live?token={}", forged.token)).replace("http", "ws");
    let mut refused = Live(connect_async(url).await.unwrap().0);
    assert_eq!(refused.close_code().await, CloseCode::Policy);
    let token = user.token.clone();
    drop((live, refused));
    program.signal("TERM");
    let (_, log) = program.ended().await;
    assert!(log.contains("shutting down") && !log.contains(&token), "{log}");
}
