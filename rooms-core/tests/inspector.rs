//! The inspector over HTTP, without a framework.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use http::{HeaderMap, Method, StatusCode};
use rooms_core::{Inspector, Kind, RoomManager};
use serde_json::{Value, json};

use rig::{Client, Rooms, idle, key};

fn rooms() -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap()
}

async fn ask(inspector: &Inspector, method: Method, query: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let uri = format!("/anywhere?{query}").parse().unwrap();
    let answer = inspector.respond(&method, &uri, &headers).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn each_view_is_json_and_what_is_wrong_is_said() {
    let rooms = rooms();
    let _ann = Client::join(&rooms, "ann", "post:1").await;
    let inspector = Inspector::new(&rooms).section("Build", || json!({"version": 3}));
    for (query, status, pointer, expected) in [
        ("view=node", 200, "/connections", json!(1)),
        ("view=node", 200, "/sections/Build/version", json!(3)),
        ("view=node", 200, "/actions", json!(false)),
        ("view=nodes", 200, "/nodes/0/connections", json!(1)),
        ("view=room&room=post%3A1", 200, "/nodes/0/members/0/user", json!("ann")),
        ("view=user&user=ann", 200, "/nodes/0/connections/0/rooms/0/room", json!("post:1")),
        ("view=why&user=ann", 200, "/findings/0/weight", json!("fine")),
        ("view=why&user=ann&room=post:1", 200, "/room", json!("post:1")),
        ("view=room", 400, "/error", json!("`room` is to name a room, such as `post:42`")),
        ("view=room&room=<script>", 400, "/error", json!("`room` is not the key of a room, `kind:id`")),
        ("view=why&user=ann&room=post", 400, "/error", json!("`room` is not the key of a room, `kind:id`")),
        ("view=user&user=%E2%80%AE", 400, "/nodes", Value::Null),
        ("view=user&user=%zz", 400, "/error", json!("the query is not percent-encoded UTF-8")),
        ("view=all", 404, "/error", json!("there is no such view")),
    ] {
        // `<` can't stand in a URI.
        let (is, answer) = ask(&inspector, Method::GET, &query.replace('<', "%3C").replace('>', "%3E"), &[]).await;
        assert_eq!(is, status, "{query}: {answer}");
        assert_eq!(answer.pointer(pointer).cloned().unwrap_or_default(), expected, "{query}: {answer}");
    }
    assert_eq!(ask(&inspector, Method::GET, &format!("view=user&user={}", "a".repeat(5000)), &[]).await.0, 400);
    assert_eq!(ask(&inspector, Method::DELETE, "", &[]).await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn the_page_is_one_file_under_a_strict_policy() {
    let answer = Inspector::new(&rooms()).respond(&Method::GET, &"/".parse().unwrap(), &HeaderMap::new()).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-type").starts_with("text/html"));
    let policy = header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    assert_eq!((header("x-frame-options"), header("referrer-policy")), ("DENY".into(), "no-referrer".into()));
}

#[tokio::test(start_paused = true)]
async fn actions_are_taken_where_they_are_allowed_and_from_the_page_alone() {
    let own = [("host", "rooms.example"), ("origin", "https://rooms.example"), ("x-rooms-inspector", "1")];
    let rooms = rooms();
    let mut ann = Client::join(&rooms, "ann", "post:1").await;
    let (shows, acts) = (Inspector::new(&rooms), Inspector::new(&rooms).allow_actions());
    let kick = "do=kick&user=ann&room=post:1&reason=spam";
    assert_eq!(ask(&shows, Method::POST, kick, &own).await.0, StatusCode::FORBIDDEN);
    for other in [
        &own[..2],
        &[own[0], own[2]],
        &[own[0], ("origin", "https://evil.example"), own[2]],
        &[own[0], ("origin", "null"), own[2]],
        &[own[1], own[2]],
    ] {
        assert_eq!(ask(&acts, Method::POST, kick, other).await.0, StatusCode::FORBIDDEN, "{other:?}");
    }
    idle().await;
    assert_eq!(rooms.local_viewers(&key("post:1")), 1, "nobody was kicked");
    for (query, status) in [
        ("do=kick&user=ann", 400),
        ("do=kick&room=post:1", 400),
        ("do=disconnect&connection=7", 400),
        ("do=disconnect&user=a%20b", 400),
        ("do=shutdown", 404),
        ("", 404),
    ] {
        assert_eq!(ask(&acts, Method::POST, query, &own).await.0, status, "{query}");
    }
    assert_eq!(ask(&acts, Method::POST, kick, &own).await, (StatusCode::OK, json!({"reach": "all_nodes"})));
    assert_eq!(ann.inbox.close().await.to_string(), "4403 spam");

    let mut bob = Client::join(&rooms, "bob", "post:1").await;
    let gone = format!("do=disconnect&connection={}", bob.connection.id());
    assert_eq!(ask(&acts, Method::POST, &gone, &own).await.0, StatusCode::OK);
    assert_eq!(bob.inbox.close().await.code().get(), 1001);
    drop(bob);
    idle().await;
    assert_eq!(ask(&acts, Method::POST, &gone, &own).await.0, StatusCode::NOT_FOUND);
}
