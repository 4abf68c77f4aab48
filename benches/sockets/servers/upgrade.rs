//! An upgrade by Axum and hyper, and nothing else: what a connection costs before there is a room.

use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response, routing::get};
use hyper_util::rt::TokioIo;
use rooms::Message;
use serde_json::json;
use tokio::{
    io::{AsyncWriteExt as _, copy, sink},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::announce;
use crate::Result;

pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    announce(listener.local_addr()?, listener.local_addr()?);
    let app = Router::new().route("/posts/{post}/live", get(live));
    Ok(axum::serve(listener, app).await?)
}

async fn live(mut request: Request) -> Response {
    let key = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (Ok(upgraded), Ok(joined)) = (upgrade.await, Message::json(&json!({"type": "room_joined"}))) else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        if write.write_all(joined.frame()).await.is_ok() {
            _ = copy(&mut read, &mut sink()).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    if let Some(key) = key.and_then(|key| key.try_into().ok()) {
        headers.insert("sec-websocket-accept", key);
    }
    response
}
