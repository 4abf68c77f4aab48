//! A user of an example, over HTTP and WebSocket.

#![allow(dead_code, reason = "each test file uses its part")]

use futures::{SinkExt as _, StreamExt as _};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use crate::{lines::PATIENCE, program::Program};

/// One user of the program.
pub(crate) struct User<'a> {
    pub(crate) program: &'a Program,
    pub(crate) http: Client,
    pub(crate) token: String,
}

impl<'a> User<'a> {
    pub(crate) async fn login(program: &'a Program, name: &str) -> Self {
        let mut user = User { program, http: Client::new(), token: String::new() };
        let (status, answer) = user.post("/login", &json!({"user": name})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        user.token = answer["token"].as_str().unwrap().to_owned();
        user
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.request(Method::POST, path, body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.request(Method::GET, path, String::new()).await
    }

    pub(crate) async fn request(&self, method: Method, path: &str, body: String) -> (StatusCode, Value) {
        let mut request = self.http.request(method, self.program.url(path));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        (answer.status(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// Opens a post, and takes the `room_joined`.
    pub(crate) async fn watch(&self, post: u64) -> (Live, Value) {
        self.open(&format!("/ws/posts/{post}/live")).await
    }

    /// Opens a tab of the chat, and takes the `room_joined` of the user's own room.
    pub(crate) async fn tab(&self) -> Live {
        let (live, joined) = self.open("/ws").await;
        assert!(joined["type"] == "room_joined" && joined["room"].as_str().unwrap().starts_with("user:"), "{joined}");
        live
    }

    async fn open(&self, path: &str) -> (Live, Value) {
        let url = self.program.url(&format!("{path}?token={}", self.token)).replace("http", "ws");
        let mut live = Live(connect_async(url).await.unwrap().0);
        let joined = live.event().await;
        (live, joined)
    }
}

pub(crate) struct Live(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Live {
    pub(crate) async fn message(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.expect("a message in time").expect("a message").unwrap()
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message that is no ping, as JSON.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Ping(_) => {}
                message => return serde_json::from_str(message.to_text().unwrap()).unwrap(),
            }
        }
    }

    /// All events up to the answer to a ping, which comes after whatever was sent before it.
    pub(crate) async fn until_pong(&mut self) -> Vec<Value> {
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

    /// The close frame's code, after whatever came before it.
    pub(crate) async fn close_code(&mut self) -> CloseCode {
        let closed = async {
            loop {
                if let Message::Close(close) = self.message().await {
                    return close.unwrap().code;
                }
            }
        };
        // As a whole: pings go on coming from a server that does not close.
        timeout(PATIENCE, closed).await.expect("a close in time")
    }
}
