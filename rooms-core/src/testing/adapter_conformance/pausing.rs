//! The clause about pages that are hidden.

use serde_json::{Value, json};

use super::{Serve, Suite};
use crate::room_key::RoomKey;

/// A page that is paused in a room is counted and hears who comes and goes, and is given no messages. When it goes on it is given
/// what it missed, where there is a history, and is told that it missed something where there is none.
pub async fn paused_rooms(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut client = stage.connect("/socket?token=user-5").await;
    assert_eq!(client.json().await["room"], "user:5");
    let join = |room: &str, paused: bool| json!({"type": "join", "room": room, "paused": paused, "ref": 1});
    for room in ["post:42", "log:1"] {
        assert_eq!(client.ask(&join(room, false)).await["recovered"], Value::Null);
        let paused = client.ask(&join(room, true)).await;
        let expected = (&json!(room), &json!(1), &json!(true), &json!(true));
        assert_eq!(
            (&paused["room"], &paused["viewers"], &paused["paused"], &paused["recovered"]),
            expected,
            "{paused}"
        );
    }
    let log = RoomKey::new("log", 1).expect("a room");
    for n in 1..=3 {
        stage.broadcast(&json!(n)).await;
        stage.rooms.broadcast(&log, &n).await.expect("a broadcast");
    }
    let _other = stage.joined("6").await;
    assert_eq!(client.json().await, json!({"type": "viewer_joined", "viewers": 2, "room": "post:42"}));

    let resumed = client.ask(&join("post:42", false)).await;
    let expected = json!({"type": "room_joined", "room": "post:42", "viewers": 2, "recovered": false, "ref": 1});
    assert_eq!(resumed, expected);
    let resync = json!({"type": "resync", "room": "post:42", "reason": "history_gap"});
    assert_eq!(client.json().await, resync);
    stage.broadcast(&json!(4)).await;
    assert_eq!(client.json().await, json!({"type": "message", "room": "post:42", "data": 4}));

    assert_eq!(client.ask(&join("log:1", false)).await["recovered"], true);
    stage.rooms.broadcast(&log, &4).await.expect("a broadcast");
    for n in 1..=4 {
        assert_eq!(client.json().await["data"], n);
    }
}
