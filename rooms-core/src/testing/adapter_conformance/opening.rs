//! The clauses about the opening handshake.

use std::time::Duration;

use super::{Client, Serve, Suite, bad_token};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

/// What is no request for a WebSocket is answered over HTTP, with what is wrong.
pub async fn refusals(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let version = "Sec-WebSocket-Version: 13\r\n";
    for path in ["/rooms/post/42?token=user-5", "/socket?token=user-5"] {
        for (what, method, headers, status, header) in [
            ("an ordinary request", "GET", String::new(), 426, Some(("upgrade", "websocket"))),
            ("a post", "POST", "Content-Length: 0\r\n".to_owned(), 405, None),
            ("another version", "GET", format!("{UPGRADE}{KEY}Sec-WebSocket-Version: 8\r\n"), 426, None),
            ("no version", "GET", format!("{UPGRADE}{KEY}"), 426, Some(("sec-websocket-version", "13"))),
            ("no key", "GET", format!("{UPGRADE}{version}"), 400, None),
            ("a bad key", "GET", format!("{UPGRADE}{version}Sec-WebSocket-Key: c2hvcnQ=\r\n"), 400, None),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", stage.address);
            let (_, head) = Client::request(stage.address, request.as_bytes(), stage.patience).await;
            assert_eq!(head.status(), status, "{what}: {head:?}");
            if let Some((name, value)) = header {
                assert_eq!(head.header(name), Some(value), "{what}: {head:?}");
            }
        }
    }
    for id in ["a%20b", "%2A", "%00", "%7Bx%7D", "a%0Ab", "%2541", "5%", "%zz", "%FF", &"x".repeat(201)] {
        assert_eq!(stage.status(&format!("/rooms/post/{id}?token=user-5"), &[]).await, 400, "{id}");
    }
    assert_eq!(stage.rooms.stats().rooms, 0, "no room was made");
    // Some clients send always the key of RFC 6455 section 4.1, whose last bits are not zero.
    let fixed = format!("{UPGRADE}{version}Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n");
    let request = format!("GET /socket?token=user-5 HTTP/1.1\r\nHost: {}\r\n{fixed}\r\n", stage.address);
    let (mut client, head) = Client::request(stage.address, request.as_bytes(), stage.patience).await;
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.header("sec-websocket-accept"), Some("OfS0wDaT5NoxF2gqm7Zj2YtetzM="), "{head:?}");
    assert_eq!(client.json().await["room"], "user:5");
}

/// A page of another origin is refused with 403; one of the same host, and what is no page, is not.
pub async fn origins(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let same = format!("http://{}", stage.address);
    for path in ["/rooms/post/42?token=user-5", "/strict/post/42?token=user-5", "/socket?token=user-5"] {
        for origin in ["https://evil.example", "null", "file://", "http://127.0.0.1:1"] {
            assert_eq!(stage.status(path, &[("Origin", origin)]).await, 403, "{origin}");
        }
        assert_eq!(stage.status(path, &[("Origin", &same), ("Origin", &same)]).await, 403, "two of them");
        assert_eq!(stage.status(path, &[("Origin", &same)]).await, 101);
        assert_eq!(stage.status(path, &[]).await, 101);
    }
}

/// Every bad token gets the same answer: a close frame, or where the endpoint says so 401. One that nobody could check is
/// no bad token.
pub async fn bad_tokens(suite: &Suite<impl Serve>) {
    // One of them is never answered.
    let stage = suite.stage_with(|limits| limits.handshake_timeout = Duration::from_millis(500)).await;
    let long = "a".repeat(9_000);
    let long = format!("?token={long}");
    for query in [
        "",
        "?token=",
        "?token=garbage",
        "?token=user-",
        "?token=user-*",
        "?token=user-5%",
        "?token=user-%zz",
        "?token=user-%FF",
        "?token=user-%2541",
        "?other=user-5",
        &long,
    ] {
        for path in ["/rooms/post/42", "/socket"] {
            let mut client = stage.connect(&format!("{path}{query}")).await;
            assert_eq!(client.closed().await, bad_token(), "{path}{query:.40}");
        }
        assert_eq!(stage.status(&format!("/strict/post/42{query}"), &[]).await, 401, "{query:.40}");
    }
    for token in ["hang", "panic"] {
        let mut client = stage.connect(&format!("/socket?token={token}")).await;
        assert_eq!(client.closed().await.0, 1013, "{token}");
        assert_eq!(stage.status(&format!("/strict/post/42?token={token}"), &[]).await, 503, "{token}");
    }
    assert_eq!(stage.status("/strict/post/42?token=user-5", &[]).await, 101);
    stage.empty().await;
    assert_eq!(stage.rooms.local_viewers(&super::room()), 0);
}

/// Escaped text in a URL is decoded, in the token, in its parameter's name and in the room, and a `+` stays one.
pub async fn escapes(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    for (target, room) in [
        ("/socket?token=user-a%7Cb%2Fc", "user:a|b/c"),
        ("/socket?token=user%2Da%2Bb+c", "user:a+b+c"),
        ("/socket?%74oken=user-5", "user:5"),
        ("/rooms/post/a%7Cb?token=user-5", "post:a|b"),
        ("/rooms/post/a%2Fb%3Ac?token=user-5", "post:a/b:c"),
        ("/rooms/post/a+b%2bc?token=user-5", "post:a+b+c"),
        ("/rooms/p%6Fst/%34%32?token=user-5", "post:42"),
    ] {
        let mut client = stage.connect(target).await;
        assert_eq!(client.json().await["room"], room, "{target}");
    }
}

/// The token is in the `Authorization` header or in the query, and not in both; where the header is switched off, it is not
/// looked at.
pub async fn token_places(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let bearer = ("Authorization", "Bearer user-5");
    for path in ["/rooms/post/42", "/socket"] {
        let mut client = stage.connect_with(path, &[bearer]).await.expect("an upgrade");
        assert_eq!(client.json().await["type"], "room_joined", "{path}");
        assert_eq!(stage.status(&format!("{path}?token=user-5"), &[bearer]).await, 400);
        assert_eq!(stage.status(&format!("{path}?token=user-5&token=user-5"), &[]).await, 400);
        let mut client = stage.connect(&format!("{path}?a=b&token=user-5&c=d")).await;
        assert_eq!(client.json().await["type"], "room_joined", "{path}");
    }
    let strict = "/strict/post/42";
    let mut client = stage.connect_with(&format!("{strict}?token=user-6"), &[bearer]).await.expect("an upgrade");
    assert_eq!(client.json().await["type"], "room_joined");
    assert_eq!(stage.status(strict, &[bearer]).await, 401, "only in the header");
}
