//! The clause about payloads that are bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Serve, Suite,
    client::{BINARY, PING, TEXT, part},
    events::Events,
};
use crate::room_key::RoomKey;

/// Bytes go out and come in as they are, in binary messages, on every sort of connection and in order with text; an event
/// stream has them as base64.
pub async fn binary(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let room = RoomKey::new("draft", 1).expect("a room");
    let mut bare = stage.connect("/rooms/draft/1?token=user-5").await;
    assert_eq!(bare.json().await["type"], "room_joined");
    let mut placed = stage.connect("/rooms/draft/1?since=&token=user-5").await;
    assert_eq!(placed.json().await["type"], "room_joined");
    let mut many = stage.connect("/socket?token=user-5").await;
    assert_eq!(many.json().await["room"], "user:5");
    assert_eq!(many.ask(&json!({"type": "join", "room": "draft:1"})).await["type"], "room_joined");
    let mut events = stage.events("/events/draft/1?token=user-5", &[]).await;
    assert_eq!(events.data().await["type"], "room_joined");
    // Nobody is told of another viewer any more.
    for client in [&mut bare, &mut placed, &mut many] {
        while client.json().await["viewers"] != 4 {}
    }

    let all_bytes: Vec<u8> = (0..=255).collect();
    let long = vec![7; 60_000];
    for bytes in [&b""[..], &all_bytes, &long] {
        let sent = stage.rooms.to(&room).binary(bytes.to_vec()).await.expect("a broadcast");
        stage.rooms.broadcast(&room, &json!({"after": bytes.len()})).await.expect("a broadcast");
        let position = sent.position.expect("a history").to_string();
        let head = [&b"\x01\x07draft:1"[..], &[position.len() as u8], position.as_bytes()].concat();
        assert_eq!(bare.frame().await, (BINARY, bytes.to_vec()));
        assert_eq!(bare.json().await["after"], bytes.len());
        for client in [&mut placed, &mut many] {
            assert_eq!(client.frame().await, (BINARY, [&head, bytes].concat()));
            assert_eq!(client.json().await["data"]["after"], bytes.len());
        }
        let base64 = STANDARD.encode(bytes);
        let event = json!({"type": "binary", "room": "draft:1", "offset": position, "base64": base64});
        assert_eq!(payload(&mut events).await, event);
        assert_eq!(payload(&mut events).await["data"]["after"], bytes.len());
    }

    // In pieces, with a `ref`; then without one, and then bare.
    let message = b"\x01\x07draft:1\x017\0\xff";
    let (one, two) = message.split_at(5);
    many.write(&[part(BINARY, one), part(0x80, two)].concat()).await;
    let (mut published, mut received) = (None, Vec::new());
    while published.is_none() || received.is_empty() {
        match many.frame().await {
            (BINARY, payload) => received.push(payload),
            (TEXT, text) => published = Some(serde_json::from_slice::<Value>(&text).expect("JSON")),
            (opcode, payload) => assert_eq!(opcode, PING, "{payload:?}"),
        }
    }
    let published = published.unwrap_or_default();
    let position = published["position"].as_str().expect("a position").to_owned();
    assert_eq!(published, json!({"type": "published", "room": "draft:1", "position": position, "ref": 7}));
    let head = [&b"\x01\x07draft:1"[..], &[position.len() as u8], position.as_bytes()].concat();
    assert_eq!(received, [[&head[..], b"\0\xff"].concat()]);
    assert_eq!(placed.frame().await, (BINARY, [&head[..], b"\0\xff"].concat()));
    assert_eq!(bare.frame().await, (BINARY, b"\0\xff".to_vec()));
    assert_eq!(payload(&mut events).await["base64"], "AP8=");
    placed.send(BINARY, b"\x01\x07draft:1\0placed").await;
    assert_eq!(bare.frame().await, (BINARY, b"placed".to_vec()));
    bare.send(BINARY, b"bare").await;
    assert_eq!(bare.frame().await, (BINARY, b"bare".to_vec()));
}

/// The next event that is not about who is there.
async fn payload(events: &mut Events) -> Value {
    loop {
        let event = events.data().await;
        if event["type"] != "viewer_joined" {
            return event;
        }
    }
}
