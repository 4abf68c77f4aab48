//! The chat, as a process: over HTTP and WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;
#[path = "support/user.rs"]
mod user;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use program::Program;
use redis_server::RedisServer;
use user::{Live, User};

/// Joins a room, and gives the answer; what comes before it is let go.
async fn join(tab: &mut Live, room: &str) -> Value {
    tab.send(&json!({"type": "join", "room": room, "ref": "join"})).await;
    loop {
        let event = tab.event().await;
        if event["ref"] == "join" {
            return event;
        }
    }
}

/// The next message in a tab; who comes and goes is let go.
async fn heard(tab: &mut Live) -> Value {
    loop {
        let event = tab.event().await;
        if event["type"] == "message" {
            return event;
        }
    }
}

/// What was said to a tab so far, without who came and went.
async fn told(tab: &mut Live) -> Vec<Value> {
    let events = tab.until_pong().await;
    events.into_iter().filter(|event| event["type"] == "message").collect()
}

#[tokio::test]
async fn a_bad_request_is_refused_with_words() {
    let program = Program::start_chat_at(0).await;
    let ann = User::login(&program, "ann").await;
    let stranger = User { token: String::new(), http: Client::new(), program: &program };
    let forged = User { token: format!("{}x", ann.token), http: Client::new(), program: &program };
    let hello = json!({"text": "hello"});

    let cases = [
        (&ann, "/login", json!({"user": "a b"}), 422),
        (&ann, "/login", json!({"user": ""}), 422),
        (&ann, "/login", json!({"user": "a\n"}), 422),
        (&ann, "/login", json!({"user": "x".repeat(201)}), 422),
        (&ann, "/login", json!({"user": 5}), 422),
        (&ann, "/login", json!({}), 422),
        (&ann, "/login", json!([]), 422),
        (&ann, "/login", json!({"user": "x".repeat(70_000)}), 413),
        (&stranger, "/messages/bob", hello.clone(), 401),
        (&forged, "/messages/bob", hello.clone(), 401),
        (&ann, "/messages/a%20b", hello.clone(), 422),
        (&ann, "/messages/%FF", hello.clone(), 422),
        (&ann, "/messages/", hello.clone(), 404),
        (&ann, "/messages/bob", json!({"text": " \n "}), 422),
        (&ann, "/messages/bob", json!({"text": "é".repeat(501)}), 422),
        (&ann, "/messages/bob", json!({"text": null}), 422),
    ];
    for (who, path, body, expected) in cases {
        let (status, answer) = who.post(path, &body).await;
        assert_eq!(status.as_u16(), expected, "{path} {body}");
        assert!(answer["error"].as_str().is_some_and(|text| text.len() > 10), "{path}: {answer}");
    }
    let (status, _) = ann.request(Method::POST, "/login", "{no json".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = ann.get("/login").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (status, _) = ann.post("/messages/bob", &json!({"text": "é".repeat(500)})).await;
    assert_eq!(status, StatusCode::CREATED, "500 characters are allowed, however many bytes they are");
}

#[tokio::test]
async fn two_processes_over_redis_are_one_chat_and_one_that_is_killed_takes_its_members_with_it() {
    let redis = RedisServer::start().await;
    let first = Program::start_chat_over(&redis.url()).await;
    let mut second = Program::start_chat_over(&redis.url()).await;
    let (ann, bob) = (User::login(&first, "ann").await, User::login(&second, "bob").await);
    let (mut of_ann, mut of_bob) = (ann.tab().await, bob.tab().await);
    join(&mut of_ann, "channel:general").await;
    join(&mut of_bob, "channel:general").await;
    let users = |event: &Value| event["users"].as_array().into_iter().flatten().cloned().collect::<Vec<_>>();
    let mut named = Vec::new();
    while !named.contains(&json!({"user": "bob"})) {
        named.extend(users(&of_ann.event().await));
    }

    of_bob.send(&json!({"type": "publish", "room": "channel:general", "data": {"text": "hello"}})).await;
    let (status, _) = ann.post("/messages/bob", &json!({"text": "for you"})).await;
    assert_eq!(status, StatusCode::CREATED);
    for (tab, room, text) in [(&mut of_ann, "channel:general", "hello"), (&mut of_bob, "user:bob", "for you")] {
        loop {
            let event = tab.event().await;
            if event["type"] == "message" && event["room"] == room {
                break assert_eq!(event["data"]["text"], text);
            }
        }
    }

    second.kill();
    loop {
        let event = of_ann.event().await;
        if event["type"] == "viewer_left" {
            break assert_eq!(users(&event), [json!({"user": "bob"})]);
        }
    }
}

#[tokio::test]
async fn nobody_is_told_that_somebody_left_whose_process_is_restarted() {
    let redis = RedisServer::start().await;
    let first = Program::start_chat_over(&redis.url()).await;
    let second = Program::start_chat_over(&redis.url()).await;
    let (ann, bob) = (User::login(&first, "ann").await, User::login(&second, "bob").await);
    let (mut of_ann, mut of_bob) = (ann.tab().await, bob.tab().await);
    join(&mut of_ann, "channel:general").await;
    join(&mut of_bob, "channel:general").await;
    // Both processes know of both.
    while join(&mut of_bob, "channel:general").await["users"] != 2 {}

    let token = ann.token.clone();
    first.signal("TERM");
    let in_ms = loop {
        let event = of_ann.event().await;
        if event["type"] == "reconnect" {
            break event["in_ms"].as_u64().unwrap();
        }
    };
    assert_eq!(of_ann.close_code().await, CloseCode::Restart);
    drop((of_ann, ann));
    tokio::time::sleep(std::time::Duration::from_millis(in_ms)).await;
    let ann = User { token, http: Client::new(), program: &second };
    let mut of_ann = ann.tab().await;
    join(&mut of_ann, "channel:general").await;
    let (status, log) = first.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let told = of_bob.until_pong().await;
    assert!(told.iter().all(|event| event["type"] != "viewer_left" || event["users"].is_null()), "{told:?}");
    assert_eq!(join(&mut of_bob, "channel:general").await["users"], 2);
}

#[tokio::test]
async fn a_direct_message_reaches_every_tab_of_both_and_nobody_else() {
    let program = Program::start_chat_at(0).await;
    // A user's id that has to be escaped in a path.
    let (ann, bob, eve) = (
        User::login(&program, "auth0|ann/1").await,
        User::login(&program, "bob").await,
        User::login(&program, "eve").await,
    );
    let (mut one, mut two) = (ann.tab().await, ann.tab().await);
    let (mut senders, mut other, mut eves) = (bob.tab().await, bob.tab().await, eve.tab().await);

    let (status, answer) = bob.post("/messages/auth0%7Cann%2F1", &json!({"text": " psst ", "from": "eve"})).await;
    assert_eq!((status, &answer["tabs"]), (StatusCode::CREATED, &json!(2)));
    let message = &answer["message"];
    assert_eq!(
        (&message["type"], &message["from"], &message["to"], &message["text"]),
        (&json!("direct"), &json!("bob"), &json!("auth0|ann/1"), &json!("psst"))
    );
    for (tab, room) in [
        (&mut one, "user:auth0|ann/1"),
        (&mut two, "user:auth0|ann/1"),
        (&mut senders, "user:bob"),
        (&mut other, "user:bob"),
    ] {
        assert_eq!(heard(tab).await, json!({"type": "message", "room": room, "data": message}));
        assert_eq!(told(tab).await, [] as [Value; 0]);
    }
    assert_eq!(told(&mut eves).await, [] as [Value; 0]);
    assert_eq!(join(&mut eves, "user:bob").await["code"], "not_allowed");

    let (_, answer) = bob.post("/messages/nobody", &json!({"text": "?"})).await;
    assert_eq!(answer["tabs"], 0, "the sender is told that nobody was there");
}

#[tokio::test]
async fn what_is_said_carries_the_name_of_who_said_it() {
    let program = Program::start_chat_at(0).await;
    let (ann, bob) = (User::login(&program, "ann").await, User::login(&program, "bob").await);
    let (mut anns, mut bobs) = (ann.tab().await, bob.tab().await);
    assert_eq!(join(&mut anns, "channel:general").await["viewers"], 1);
    join(&mut anns, "typing:general").await;
    for room in ["channel:general", "typing:general"] {
        assert_eq!(join(&mut bobs, room).await["type"], "room_joined");
    }

    let said = json!({"type": "said", "from": "ann", "text": " hello "});
    bobs.send(&json!({"type": "publish", "room": "channel:general", "data": said})).await;
    bobs.send(&json!({"type": "publish", "room": "typing:general", "data": {"from": "ann", "long": "x".repeat(999)}}))
        .await;
    let mut heard = [heard(&mut anns).await, heard(&mut anns).await];
    // Rooms have an order each, and none between them.
    heard.sort_by_key(|message| message["room"].to_string());
    let data = &heard[0]["data"];
    assert_eq!((&data["type"], &data["from"], &data["text"]), (&json!("said"), &json!("bob"), &json!("hello")));
    assert!(data["id"].is_string() && data["at"].is_string(), "{data}");
    assert_eq!(heard[1]["data"], json!({"type": "typing", "from": "bob"}));
}

#[tokio::test]
async fn a_text_that_no_page_sends_is_refused_with_words_and_nobody_hears_it() {
    let program = Program::start_chat_at(0).await;
    let ann = User::login(&program, "ann").await;
    let (mut tab, mut other) = (ann.tab().await, ann.tab().await);
    join(&mut other, "channel:general").await;
    join(&mut tab, "channel:general").await;
    for (data, length) in
        [(json!({"text": "é".repeat(501)}), 501), (json!({"text": " "}), 0), (json!({"text": 5}), 0), (json!([]), 0)]
    {
        tab.send(&json!({"type": "publish", "room": "channel:general", "data": data, "ref": 5})).await;
        let words = format!("text: 1 to 500 characters, and there are {length}");
        let refused =
            json!({"type": "error", "code": "refused", "message": words, "room": "channel:general", "ref": 5});
        assert_eq!(tab.event().await, refused);
    }
    assert_eq!(told(&mut other).await, [] as [Value; 0]);
}

#[tokio::test]
async fn all_who_are_in_a_channel_are_listed_also_where_it_is_too_many_to_be_named_on_joining() {
    let program = Program::start_chat_at(0).await;
    let mut tabs = Vec::new();
    for n in 0..105 {
        let mut tab = User::login(&program, &format!("u{n:03}")).await.tab().await;
        join(&mut tab, "channel:general").await;
        tabs.push(tab);
    }
    let ann = User::login(&program, "ann").await;
    let mut tab = ann.tab().await;
    let joined = join(&mut tab, "channel:general").await;
    assert_eq!((&joined["viewers"], &joined["members"][0]["user"]), (&json!(106), &json!("ann")));
    // The last ones are told of together, a moment later.
    let mut told = joined["users"].as_u64().unwrap();
    while told < 106 {
        let event = tab.event().await;
        let others = event["users"].as_array().into_iter().flatten().filter(|user| user["user"] != "ann");
        told += others.count() as u64;
    }
    let again = join(&mut tab, "channel:general").await;
    assert_eq!((again["members"].as_array().unwrap().len(), &again["users"]), (100, &json!(106)));
    let (status, all) = ann.get("/channels/general/members").await;
    assert_eq!((status, all["users"].as_array().unwrap().len(), &all["unnamed"]), (StatusCode::OK, 106, &json!(0)));
    assert!(all["users"].as_array().unwrap().iter().any(|user| user["user"] == "u104"), "{all}");

    assert_eq!(ann.get("/channels/a%20b/members").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let stranger = User { token: String::new(), http: Client::new(), program: &program };
    assert_eq!(stranger.get("/channels/general/members").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_hostile_room_is_refused_and_the_connection_goes_on() {
    let program = Program::start_chat_at(0).await;
    let mut tab = User::login(&program, "ann").await.tab().await;
    for id in ["", "*", "{a}", "a b", "a\nb", "\u{0}", "наш", &"x".repeat(201), &"x".repeat(10_000)] {
        let room = format!("channel:{id}");
        let answer = join(&mut tab, &room).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("bad_room")), "{id:?}");
    }
    assert_eq!(join(&mut tab, "secret:general").await["code"], "not_allowed");
    assert_eq!(join(&mut tab, "channel:general").await["viewers"], 1);
}

#[tokio::test]
async fn a_signal_closes_the_members_with_1012_and_the_program_ends_with_0() {
    let program = Program::start_chat_at(0).await;
    let ann = User::login(&program, "ann").await;
    let mut tab = ann.tab().await;
    let (status, health) = ann.get("/healthz").await;
    assert_eq!((status, health), (StatusCode::OK, json!({"status": "ok", "connections": 1, "rooms": 1, "bus": null})));

    let token = ann.token.clone();
    program.signal("TERM");
    let event = tab.event().await;
    assert!(event["type"] == "reconnect" && event["in_ms"].is_u64(), "{event}");
    let Message::Close(Some(close)) = tab.message().await else { panic!("a close frame with a code") };
    assert_eq!(close.code, CloseCode::Restart);
    drop((tab, ann));
    let (status, log) = program.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("shutting down") && !log.contains(&token), "{log}");
}
