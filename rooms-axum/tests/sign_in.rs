//! Every way a token travels, through Axum and real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Extension, Router, extract::State, response::Response, routing::get};
use futures::{SinkExt as _, StreamExt as _};
use rooms_axum::RoomUpgrade;
use rooms_core::{Attempt, AuthError, Authenticator, Close, Endpoint, Identity, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Takes one token, and notes where it came from.
#[derive(Debug)]
struct One(&'static str, Arc<Mutex<Vec<Option<SocketAddr>>>>);

#[async_trait::async_trait]
impl Authenticator for One {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        self.1.lock().unwrap().push(attempt.peer());
        if attempt.token() != Some(self.0) {
            return Err(AuthError::Refused("another token"));
        }
        Identity::new(self.0).map_err(|_| AuthError::Subject)
    }
}

#[derive(Clone)]
struct App(RoomManager, mpsc::UnboundedSender<Close>);

impl axum::extract::FromRef<App> for RoomManager {
    fn from_ref(app: &App) -> Self {
        app.0.clone()
    }
}

async fn live(State(App(_, ended)): State<App>, upgrade: RoomUpgrade) -> Response {
    let who = upgrade.identity().map_or("nobody yet", Identity::user).to_owned();
    let told = move |close| drop(ended.send(close));
    upgrade.with_claims([("seen_as", json!(who))]).on_close(told).room("post", 42)
}

struct Service {
    address: SocketAddr,
    peers: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    ended: mpsc::UnboundedReceiver<Close>,
}

/// Browsers come to `/live` and services to `/service`, into the same room.
async fn service() -> Service {
    let peers = Arc::default();
    let browsers = Endpoint::new()
        .without_header_token()
        .cookie_token("session")
        .protocol_token("app.v1")
        .first_message_token()
        .origins(["https://app.example"])
        .unwrap();
    let services = Endpoint::new().authenticator(One("service", Arc::clone(&peers)));
    let post = Kind::authenticated().on_join(|member| async move {
        let mut claims: Value = member.identity().claims().map_err(|_| Close::INTERNAL)?;
        claims["user"] = json!(member.identity().user());
        Ok(claims)
    });
    let rooms = RoomManager::builder()
        .authenticator(One("browser", Arc::clone(&peers)))
        .endpoint(browsers)
        .kind("post", post)
        .build()
        .unwrap();
    let (ends, ended) = mpsc::unbounded_channel();
    let app = Router::new()
        .route("/live", get(live))
        .route("/service", get(live).layer(Extension(services)))
        .with_state(App(rooms, ends));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async { axum::serve(listener, app).await });
    Service { address, peers, ended }
}

impl Service {
    async fn open(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<(Socket, Option<String>), u16> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((socket, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                Ok((socket, protocol.map(|value| value.to_str().unwrap().to_owned())))
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn joined(socket: &mut Socket) -> Value {
    let event = timeout(Duration::from_secs(30), socket.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(event.to_text().unwrap()).unwrap()
}

const APP: (&str, &str) = ("origin", "https://app.example");

#[tokio::test]
async fn browsers_and_services_come_each_in_their_own_way_into_one_room() {
    let service = service().await;
    let cookie = ("cookie", "theme=dark; session=browser");
    let (mut by_cookie, _) = service.open("/live", &[APP, cookie]).await.unwrap();
    let welcome = joined(&mut by_cookie).await;
    assert_eq!((&welcome["user"], &welcome["viewers"]), (&json!("browser"), &json!(1)));
    let offer = ("sec-websocket-protocol", "app.v1, bearer, browser");
    let (mut by_protocol, answered) = service.open("/live", &[APP, offer]).await.unwrap();
    assert_eq!(answered.as_deref(), Some("app.v1"));
    assert_eq!(joined(&mut by_protocol).await["viewers"], 2);
    let (mut by_message, _) = service.open("/live", &[APP]).await.unwrap();
    by_message.send(Message::text(r#"{"type":"auth","token":"browser"}"#)).await.unwrap();
    let welcome = joined(&mut by_message).await;
    assert_eq!((&welcome["viewers"], &welcome["seen_as"]), (&json!(3), &json!("nobody yet")));
    let (mut by_header, _) = service.open("/service", &[("authorization", "Bearer service")]).await.unwrap();
    let welcome = joined(&mut by_header).await;
    assert_eq!((&welcome["viewers"], &welcome["seen_as"]), (&json!(4), &json!("service")));
    assert!(service.peers.lock().unwrap().iter().all(|peer| peer.unwrap().ip().is_loopback()));
}

#[tokio::test]
async fn what_may_not_come_that_way_does_not() {
    let service = service().await;
    let (mut neighbour, _) = service.open("/live", &[APP, ("cookie", "session=browser")]).await.unwrap();
    joined(&mut neighbour).await;
    let offer = ("sec-websocket-protocol", "app.v1, bearer, browser");
    let cookie = ("cookie", "session=browser");
    for (what, path, headers, status) in [
        ("a foreign page's cookie", "/live", vec![("origin", "https://evil.example"), cookie], 403),
        ("a cookie of no page", "/live", vec![cookie], 403),
        ("a hidden page's cookie", "/live", vec![("origin", "null"), cookie], 403),
        ("two tokens", "/live", vec![APP, cookie, offer], 400),
        ("a cookie twice", "/live", vec![APP, ("cookie", "session=browser; session=browser")], 400),
    ] {
        assert_eq!(service.open(path, &headers).await.err(), Some(status), "{what}");
    }
    for (what, path, headers) in [
        ("the other endpoint's token", "/service", vec![("authorization", "Bearer browser")]),
        ("a cookie where none is taken", "/service", vec![cookie]),
        ("a bad cookie", "/live", vec![APP, ("cookie", "session=service")]),
    ] {
        let (mut socket, _) = service.open(path, &headers).await.unwrap();
        let close = timeout(Duration::from_secs(30), socket.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(&close, Message::Close(Some(frame)) if u16::from(frame.code) == 1008), "{what}: {close}");
    }
    // The neighbour has lost nothing.
    neighbour.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    assert_eq!(joined(&mut neighbour).await["type"], "pong");
}

#[tokio::test]
async fn a_handler_is_told_when_its_connection_ends() {
    let mut service = service().await;
    let (mut socket, _) = service.open("/live", &[APP, ("cookie", "session=browser")]).await.unwrap();
    joined(&mut socket).await;
    assert!(service.ended.try_recv().is_err());
    socket.close(None).await.unwrap();
    let close = timeout(Duration::from_secs(30), service.ended.recv()).await.unwrap().unwrap();
    assert_eq!(close.code().get(), 1000);
}
