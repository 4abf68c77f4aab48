//! What a client says on the multi-room endpoint, and rooms to say it in.

#![allow(dead_code, reason = "each test file uses its part")]

use rooms_core::{Kind, Limits, RoomManager};
use serde_json::{Value, json};

use crate::{rig::Rooms, talk::Talk};

/// Channels where everybody may talk, posts where nobody but `editor` may, and a room for each user.
pub(crate) fn rooms() -> Rooms {
    limited(|_| {})
}

pub(crate) fn limited(limits: impl FnOnce(&mut Limits)) -> Rooms {
    let channel = Kind::authenticated().allow_publish();
    let post = Kind::new()
        .join_rule(|_, room| async move { room.id() != "13" })
        .publish_rule(|who, _| async move { who.user() == "editor" });
    RoomManager::build_for()
        .kind("channel", channel)
        .kind("post", post)
        .kind("silent", Kind::authenticated())
        .limits(limits)
        .build()
        .unwrap()
}

pub(crate) fn command(kind: &str, room: &str, reference: impl Into<Value>) -> String {
    json!({"type": kind, "room": room, "ref": reference.into()}).to_string()
}

pub(crate) fn publish(room: &str, data: impl Into<Value>) -> String {
    json!({"type": "publish", "room": room, "data": data.into(), "ref": "p"}).to_string()
}

pub(crate) async fn join(talk: &mut Talk, room: &str) {
    let answer = talk.ask(command("join", room, "j")).await;
    assert_eq!((&answer["type"], &answer["room"], &answer["ref"]), (&json!("room_joined"), &json!(room), &json!("j")));
}

pub(crate) async fn error(talk: &mut Talk, text: impl Into<String>) -> Value {
    let mut answer = talk.ask(text).await;
    assert_eq!(answer["type"], "error", "{answer}");
    assert!(answer["message"].is_string());
    let fields = answer.as_object_mut().unwrap();
    fields.remove("type");
    fields.remove("message");
    answer
}
