//! The clauses about what is said on an open socket.

use serde_json::{Value, json};

use super::{
    Client, Serve, Suite,
    client::{BINARY, PING, PONG, TEXT, frame, part},
    room,
};
use crate::room_key::RoomKey;

/// A connection for one room: it joins, is told who comes and goes, and gets payloads bare.
pub async fn one_room(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut one = stage.connect("/rooms/post/42?token=user-5").await;
    assert_eq!(one.json().await, json!({"type": "room_joined", "room": "post:42", "viewers": 1}));
    let mut two = stage.connect("/rooms/post/42?token=user-6").await;
    assert_eq!(two.json().await["viewers"], 2);
    assert_eq!(one.json().await, json!({"type": "viewer_joined", "viewers": 2}));
    let comment = json!({"type": "new_comment", "text": "é\u{1f600}"});
    stage.broadcast(&comment).await;
    assert_eq!((one.json().await, two.json().await), (comment.clone(), comment));
    assert_eq!(one.ask(&json!({"type": "ping"})).await, json!({"type": "pong"}));
    assert_eq!(one.ask(&json!({"type": "x"})).await, json!({"type": "echo", "of": {"type": "x"}}));
    two.send(0x8, &1000_u16.to_be_bytes()).await;
    assert_eq!(two.closed().await.0, 1000);
    assert_eq!(one.json().await, json!({"type": "viewer_left", "viewers": 1}));
    let mut forbidden = stage.connect("/rooms/post/13?token=user-5").await;
    let mut unknown = stage.connect("/rooms/nothing/13?token=user-5").await;
    let no = (4403, "not allowed".to_owned());
    assert_eq!((forbidden.closed().await, unknown.closed().await), (no.clone(), no));
}

/// A connection for one room whose URL says where its page stood: it is given what it missed, and the hook is told the rest
/// of the query, but not the token.
pub async fn resumption(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let room = RoomKey::new("log", 1).expect("a room");
    let mut first = stage.connect("/rooms/log/1?since=&token=user-5").await;
    let position = first.json().await["position"].as_str().expect("a position").to_owned();
    for n in 1..=3 {
        stage.rooms.broadcast(&room, &n).await.expect("a broadcast");
    }
    let offset = first.json().await["offset"].as_str().expect("an offset").to_owned();
    let mut again = stage.connect(&format!("/rooms/log/1?token=user-5&since={offset}&tab=a%20b")).await;
    let welcome = again.json().await;
    assert_eq!((&welcome["recovered"], &welcome["position"]), (&json!(true), &json!(offset)), "{welcome}");
    assert_eq!(welcome["said"], json!({"tab": "a b"}));
    assert_eq!((again.json().await["data"].clone(), again.json().await["data"].clone()), (json!(2), json!(3)));
    let mut late = stage.connect("/rooms/log/1?newest=1&since=nonsense&token=user-5").await;
    assert_eq!(late.json().await["recovered"], false);
    assert_eq!((late.json().await["reason"].clone(), late.json().await["data"].clone()), (json!("epoch"), json!(3)));
    let mut bare = stage.connect("/rooms/log/1?token=user-5").await;
    assert_eq!(bare.json().await["said"], Value::Null);
    stage.rooms.broadcast(&room, &json!({"n": 4})).await.expect("a broadcast");
    assert_eq!(bare.json().await, json!({"n": 4}));
    assert_ne!(position, offset);
}

/// A connection for many rooms: the user's own from the start, and others as it says.
pub async fn many_rooms(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut client = stage.connect("/socket?token=user-5").await;
    assert_eq!(client.json().await, json!({"type": "room_joined", "room": "user:5", "viewers": 1}));
    let joined = client.ask(&json!({"type": "join", "room": "post:42", "ref": [1]})).await;
    assert_eq!(joined, json!({"type": "room_joined", "room": "post:42", "viewers": 1, "ref": [1]}));
    let mut single = stage.joined("6").await;
    assert_eq!(client.json().await, json!({"type": "viewer_joined", "viewers": 2, "room": "post:42"}));
    stage.broadcast(&json!({"n": 1})).await;
    assert_eq!(single.json().await, json!({"n": 1}));
    assert_eq!(client.json().await, json!({"type": "message", "room": "post:42", "data": {"n": 1}}));
    client.ask(&json!({"type": "join", "room": "channel:1"})).await;
    let said = client.ask(&json!({"type": "publish", "room": "channel:1", "data": "hi"})).await;
    assert_eq!(said, json!({"type": "message", "room": "channel:1", "data": "hi"}));
    for (command, code) in [
        (json!({"type": "publish", "room": "post:42", "data": 1, "ref": 2}), "not_allowed"),
        (json!({"type": "join", "room": "post:13", "ref": 2}), "not_allowed"),
        (json!({"type": "join", "room": "post:*", "ref": 2}), "bad_room"),
        (json!({"type": "dance", "ref": 2}), "unknown_type"),
    ] {
        let error = client.ask(&command).await;
        assert_eq!((&error["type"], &error["code"], &error["ref"]), (&json!("error"), &json!(code), &json!(2)));
    }
    stage.rooms.send_to_user("5", &json!({"type": "notice"})).await.expect("a notice");
    assert_eq!(client.json().await["room"], "user:5");
    let left = client.ask(&json!({"type": "leave", "room": "post:42", "ref": 3})).await;
    assert_eq!(left, json!({"type": "room_left", "room": "post:42", "ref": 3}));
    assert_eq!(single.json().await, json!({"type": "viewer_left", "viewers": 1}));
}

/// Text of every length and sort goes out as it is and comes in as it is, in order, in pieces and in one; binary is told
/// that it is not taken, a ping is answered with its payload, and what follows the request at once is not lost.
pub async fn fidelity(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let early = frame(TEXT, br#"{"type":"ping"}"#);
    let opened = Client::open(stage.address, "/rooms/post/42?token=user-5", &[], &early, stage.patience).await;
    let mut client = opened.expect("an upgrade");
    assert_eq!(client.json().await["type"], "room_joined");
    assert_eq!(client.json().await, json!({"type": "pong"}), "sent with the request");

    let mut texts: Vec<Value> = [0, 1, 122, 123, 124, 125, 126, 4_096, 60_000].map(|n| "x".repeat(n).into()).into();
    texts.extend([json!("é\u{1f600}\u{0}\n\"\\"), json!(null), json!([1.5, {"a": []}]), json!({})]);
    for text in &texts {
        stage.rooms.broadcast(&room(), text).await.expect("a broadcast");
    }
    for text in &texts {
        assert_eq!(client.json().await, *text);
    }
    for text in &texts {
        let message = json!({"type": "x", "text": text});
        assert_eq!(client.ask(&message).await, json!({"type": "echo", "of": message}));
    }
    let text = r#"{"type":"x","text":"é"}"#.as_bytes();
    let mut pieces = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        let first = if at == 0 { TEXT } else { 0 } | if at + 1 == text.len() { 0x80 } else { 0 };
        pieces.extend(part(first, &[*byte]));
        if at == 10 {
            pieces.extend(frame(PING, b"between"));
        }
    }
    client.write(&pieces).await;
    assert_eq!(client.frame().await, (PONG, b"between".to_vec()));
    assert_eq!(client.json().await, json!({"type": "echo", "of": {"type": "x", "text": "é"}}));
    client.send(BINARY, &[0, 159, 146, 150]).await;
    assert_eq!(client.json().await["code"], "unsupported");
    for n in 0..500 {
        stage.broadcast(&json!({"n": n})).await;
    }
    for n in 0..500 {
        assert_eq!(client.json().await["n"], n);
    }
}
