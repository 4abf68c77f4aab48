//! Kinds that declare the types of their events, and of what members publish.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use rooms_core::{
    BroadcastError, BuildError, Kind, RoomKey, RoomManager, RoomManagerBuilder, Sent, TypedError, TypedMember,
    testing::kit::RoomsTest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ChatEvent {
    Said { from: String, text: String },
    Cleared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Other;

fn chat() -> Kind {
    Kind::authenticated().allow_publish().events::<ChatEvent>()
}

fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let channel = chat().publishes(|member, line: Line| async move {
        Ok(ChatEvent::Said { from: member.identity().user().to_owned(), text: line.text })
    });
    let hooked = chat().on_publish(|_, said| async move { Ok(said) });
    rooms.kind("channel", channel).kind("bare", chat()).kind("hooked", hooked).kind("post", Kind::authenticated())
}

fn room(name: &str) -> RoomKey {
    name.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_of_another_type_is_an_error_that_names_both() {
    let test = RoomsTest::new(kinds);
    let rooms = test.rooms();
    let error = rooms.broadcast(&room("channel:1"), &json!({"type": "cleared"})).await.unwrap_err();
    let BroadcastError::OtherType { room: named, declared, came } = &error else { panic!("{error:?}") };
    assert_eq!((named.as_str(), *came), ("channel:1", "serde_json::value::Value"));
    assert!(declared.ends_with("::ChatEvent"), "{declared}");
    for outcome in [
        rooms.to(&room("channel:1")).json("text").await,
        rooms.broadcast(&room("channel:1"), &&ChatEvent::Cleared).await,
    ] {
        assert!(matches!(outcome, Err(BroadcastError::OtherType { .. })), "{outcome:?}");
    }
    rooms.broadcast(&room("channel:1"), &ChatEvent::Cleared).await.unwrap();
    rooms.broadcast(&room("post:1"), &json!({"any": "thing"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_typed_handle_reaches_the_members_and_leaves_one_out() {
    let test = RoomsTest::with_nodes(2, kinds);
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect("bob").await;
    ada.join("channel:1").await;
    bob.join("channel:1").await;
    let channels = test.node(1).typed::<ChatEvent>("channel").unwrap();
    channels.clone().room(1).unwrap().broadcast(&ChatEvent::Cleared).await.unwrap();
    ada.expect_event("cleared").await;
    bob.expect_event("cleared").await;
    let keyed = channels.room(1).unwrap().idempotency_key("k").broadcast(&ChatEvent::Cleared).await;
    assert!(matches!(keyed, Err(BroadcastError::NoHistory { .. })), "{keyed:?}");
    assert!(channels.room("no room").is_err());
}

#[tokio::test(start_paused = true)]
async fn there_is_no_handle_for_what_is_not_declared() {
    let test = RoomsTest::new(kinds);
    let typed = |kind| test.rooms().typed::<Other>(kind).unwrap_err();
    assert_eq!(typed("shop"), TypedError::NoKind { kind: "shop".into() });
    assert_eq!(typed("post"), TypedError::NoEvents { kind: "post".into() });
    let other = typed("channel").to_string();
    assert!(other.contains("`channel`") && other.contains("ChatEvent") && other.contains("Other"), "{other}");
}

#[tokio::test(start_paused = true)]
async fn what_a_member_publishes_is_what_the_kind_declares_or_is_refused() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    for name in ["channel:1", "bare:1", "hooked:1"] {
        ada.join(name).await;
    }
    ada.publish("channel:1", &json!({"text": "hi"})).await;
    assert_eq!(ada.expect_event("said").await, json!({"type": "said", "from": "ada", "text": "hi"}));
    for (name, bad) in [
        ("channel:1", json!({"text": 5})),
        ("channel:1", json!({"text": "hi", "from": "bob"})),
        ("channel:1", json!({"type": "cleared"})),
        ("bare:1", json!({"type": "shout", "text": "hi"})),
        ("bare:1", json!({"type": "said", "text": "hi"})),
        ("hooked:1", json!([1])),
    ] {
        let refused = ada.try_publish(name, &bad).await.unwrap_err();
        assert_eq!((&refused["code"], &refused["room"]), (&json!("bad_message"), &json!(name)), "{bad}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|words| words.len() > 10), "{refused}");
    }
    ada.expect_nothing().await;
    for name in ["bare:1", "hooked:1"] {
        ada.publish(name, &json!({"type": "said", "from": "ada", "text": "hi", "viewers": 7})).await;
        let said = ada.expect_event("said").await;
        assert_eq!(
            said,
            json!({"type": "said", "from": "ada", "text": "hi"}),
            "written anew, without what is not declared"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_is_sent_an_event_of_its_kind_and_nothing_else() {
    let told = Kind::authenticated().events::<ChatEvent>().on_message(|member, _| async move {
        assert_eq!(member.send(&json!({"type": "said", "from": "x", "text": "y"})), Sent::OtherType);
        assert_eq!(member.send(&Other), Sent::OtherType);
        assert_eq!(member.send(&ChatEvent::Cleared), Sent::Taken);
        let other = TypedMember::<Other>::new(&member).unwrap_err();
        assert!(matches!(&other, TypedError::OtherType { kind, .. } if kind == "channel"), "{other}");
        let typed = TypedMember::<ChatEvent>::new(&member).unwrap();
        let said = |text: &str| ChatEvent::Said { from: "hook".into(), text: text.into() };
        assert_eq!(typed.send(&said("alone")), Sent::Taken);
        typed.broadcast_to_others(&said("others")).await.unwrap();
        typed.broadcast(&said("all")).await.unwrap();
        Ok(())
    });
    let free = Kind::authenticated().on_message(|member, _| async move {
        assert_eq!(member.send(&json!({"type": "any"})), Sent::Taken);
        Ok(())
    });
    let test = RoomsTest::new(move |rooms| rooms.kind("channel", told.clone()).kind("free", free.clone()));
    let (mut ada, mut bob) = (test.connect("ada").await, test.connect("bob").await);
    for name in ["channel:1", "free:1"] {
        bob.join(name).await;
        ada.join(name).await;
        ada.send(&json!({"type": "go", "room": name}));
    }
    ada.expect_event("cleared").await;
    ada.expect_event("any").await;
    assert_eq!(
        (ada.expect_event("said").await["text"].clone(), ada.expect_event("said").await["text"].clone()),
        (json!("alone"), json!("all"))
    );
    assert_eq!(
        (bob.expect_event("said").await["text"].clone(), bob.expect_event("said").await["text"].clone()),
        (json!("others"), json!("all"))
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Topic {
    title: String,
}

fn boards(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let board = Kind::authenticated().keep_state(Duration::from_secs(60));
    rooms.kind("board", board.clone().state::<Topic>()).kind("free", board).kind("post", Kind::authenticated())
}

#[tokio::test(start_paused = true)]
async fn a_state_of_another_type_is_an_error_that_names_both() {
    let test = RoomsTest::new(boards);
    let (rooms, board) = (test.rooms(), room("board:1"));
    for outcome in [
        rooms.broadcast_state(&board, &json!({"title": "A"})).await,
        rooms.broadcast_state_after(&board, None, &json!({"title": "A"})).await,
    ] {
        let error = outcome.unwrap_err();
        let BroadcastError::OtherState { room: named, declared, came } = &error else { panic!("{error:?}") };
        assert_eq!((named.as_str(), *came), ("board:1", "serde_json::value::Value"));
        assert!(declared.ends_with("::Topic"), "{declared}");
    }
    rooms.broadcast_state(&board, &Topic { title: "A".into() }).await.unwrap();
    rooms.broadcast_state(&room("free:1"), &json!({"any": "thing"})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_typed_handle_sets_and_gets_the_state() {
    let test = RoomsTest::with_nodes(2, boards);
    let mut ada = test.connect("ada").await;
    ada.join("board:1").await;
    let boards = test.node(1).typed_states::<Topic>("board").unwrap();
    let board = boards.clone().room(1).unwrap();
    assert_eq!(board.get().await.unwrap(), None);
    let first = board.set(&Topic { title: "A".into() }).await.unwrap();
    assert_eq!(ada.expect_event("room_state").await["state"], json!({"title": "A"}));
    let state = board.get().await.unwrap().unwrap();
    assert_eq!((state.revision, state.value), (first, Topic { title: "A".into() }));
    let late = board.set_after(None, &Topic { title: "B".into() }).await;
    assert!(matches!(late, Err(BroadcastError::Conflict { .. })), "{late:?}");
    board.set_after(Some(first), &Topic { title: "B".into() }).await.unwrap();
    assert!(boards.room("no room").is_err());

    let typed = |kind| test.rooms().typed_states::<Other>(kind).unwrap_err();
    assert_eq!(typed("shop"), TypedError::NoKind { kind: "shop".into() });
    assert_eq!(typed("free"), TypedError::NoState { kind: "free".into() });
    let other = typed("board").to_string();
    assert!(other.contains("`board`") && other.contains("Topic") && other.contains("Other"), "{other}");
}

#[tokio::test]
async fn a_kind_that_declares_a_state_keeps_one() {
    let built: Result<RoomManager, _> =
        RoomManager::builder().kind("board", Kind::authenticated().state::<Topic>()).build();
    assert_eq!(built.unwrap_err(), BuildError::UnkeptState { kind: "board".into() });
}

#[tokio::test]
async fn what_a_hook_makes_of_a_publication_is_an_event_of_the_kind() {
    let made = chat().publishes(|_, _: Line| async move { Ok(Other) });
    let built: Result<RoomManager, _> = RoomManager::builder().kind("channel", made).build();
    let error = built.unwrap_err();
    assert!(matches!(&error, BuildError::PublishedType { kind, .. } if kind == "channel"), "{error:?}");
    assert!(error.to_string().contains("Other") && error.to_string().contains("ChatEvent"), "{error}");
}

#[cfg(feature = "schema")]
mod schema {
    use rooms_core::Schema;
    use schemars::JsonSchema;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum PostEvent {
        NewComment { comment: Comment },
        Liked { likes: u64 },
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Comment {
        text: String,
        #[serde(default)]
        edited: bool,
    }

    #[derive(Deserialize, JsonSchema)]
    struct NewComment {
        comment: Comment,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Resyncs {
        Resync,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Board {
        title: String,
        #[serde(default)]
        cards: Vec<Comment>,
    }

    fn schema() -> Schema {
        let post = Kind::authenticated().allow_publish().events_with_schema::<PostEvent>();
        let post = post.publishes_with_schema(|_, new: NewComment| async move {
            Ok(PostEvent::NewComment { comment: new.comment })
        });
        let test = RoomsTest::new(move |rooms| {
            rooms
                .kind("post", post.clone())
                .kind("user", Kind::owner_only())
                .kind("free", Kind::public().allow_publish().keep_state(Duration::from_secs(60)))
                .kind("board", Kind::public().keep_state(Duration::from_secs(60)).state_with_schema::<Board>())
        });
        test.rooms().schema("Posts", "1.2.0")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_and_what_is_read_have_schemas_of_their_own_where_they_differ() {
        let schema = schema().json_schema();
        let kinds = &schema["properties"];
        assert_eq!(kinds["post"]["properties"]["events"]["$ref"], "#/definitions/PostEvent");
        assert_eq!(kinds["post"]["properties"]["publish"]["$ref"], "#/definitions/NewComment");
        assert_eq!(kinds["user"]["properties"], json!({"events": true, "publish": false}));
        assert_eq!(kinds["free"]["properties"], json!({"events": true, "publish": true, "state": true}));
        assert_eq!(kinds["board"]["properties"]["state"]["$ref"], "#/definitions/Board");
        assert_eq!(kinds["board"]["required"], json!(["events", "publish", "state"]));
        let definitions = &schema["definitions"];
        assert_eq!(definitions["Comment"]["required"], json!(["text", "edited"]));
        assert_eq!(definitions["Board"]["required"], json!(["title", "cards"]), "as it is written");
        assert_eq!(definitions["CommentInput"]["required"], json!(["text"]));
        let published = &definitions["NewComment"]["properties"]["comment"];
        assert_eq!(published["$ref"], "#/definitions/CommentInput");
        assert!(definitions["RoomsServerEvent"]["oneOf"].as_array().is_some_and(|events| events.len() == 14));
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_a_message_of_its_channel() {
        let document = schema().async_api();
        let channels = &document["channels"];
        assert_eq!(channels["board"]["messages"]["board.send.state"]["$ref"], "#/components/messages/board.send.state");
        let payload = &document["components"]["messages"]["board.send.state"]["payload"];
        assert_eq!(payload["$ref"], "#/components/schemas/Board");
        assert!(channels["post"]["messages"]["post.send.state"].is_null(), "it keeps none");
    }

    #[tokio::test(start_paused = true)]
    async fn every_reference_of_both_documents_leads_somewhere() {
        let schema = schema();
        for document in [schema.json_schema(), schema.async_api()] {
            let mut references = Vec::new();
            collect(&document, &mut references);
            assert!(references.len() > 5, "{references:?}");
            for reference in references {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }

    fn collect(value: &serde_json::Value, references: &mut Vec<String>) {
        if let Some(reference) = value["$ref"].as_str() {
            references.push(reference.to_owned());
        }
        let parts: Vec<_> = match value {
            serde_json::Value::Object(fields) => fields.values().collect(),
            serde_json::Value::Array(items) => items.iter().collect(),
            _ => return,
        };
        parts.into_iter().for_each(|part| collect(part, references));
    }

    #[tokio::test]
    async fn an_event_with_the_type_of_an_event_of_the_servers_is_refused_at_build() {
        let kind = Kind::authenticated().events_with_schema::<Resyncs>();
        let built: Result<RoomManager, _> = RoomManager::builder().kind("post", kind).build();
        assert_eq!(built.unwrap_err(), BuildError::ReservedType { kind: "post".into(), name: "resync".into() });
    }
}
