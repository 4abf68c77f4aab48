//! The clauses about who signs in, and by which way.

use serde_json::json;
use tokio::time::timeout;

use super::{PAGE, Serve, Suite, Theatre, bad_token};

const PAGE_ORIGIN: (&str, &str) = ("Origin", PAGE);
const COOKIE: (&str, &str) = ("Cookie", "theme=dark; session=user-5");
const OFFER: (&str, &str) = ("Sec-WebSocket-Protocol", "app.v1, bearer, user-5");
const OFFERS: (&str, &str) = ("Sec-WebSocket-Protocol", "app.v3, app.v2, app.v1, bearer, user-5");
const BROWSERS: &str = "/browsers/seat/1";
const SERVICES: &str = "/services/seat/1";

/// Browsers and services come each in their own way into one room: by cookie, by protocol, by their first message, and by the
/// header to an endpoint with an authenticator of its own. That is told who the peer is, and a handler who comes. Of the
/// protocols that a client offers, the first that the endpoint speaks is answered, and `on_join` is told of it.
pub async fn ways_in(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut all = Vec::new();
    for (what, path, headers, first, told) in [
        ("by cookie", BROWSERS, vec![PAGE_ORIGIN, COOKIE], None, ("5", "5")),
        ("by protocol", BROWSERS, vec![PAGE_ORIGIN, OFFER], None, ("5", "5")),
        ("by the protocol it likes best", BROWSERS, vec![PAGE_ORIGIN, OFFERS], None, ("5", "5")),
        ("by message", BROWSERS, vec![PAGE_ORIGIN], Some(r#"{"type":"auth","token":"user-5"}"#), ("5", "nobody yet")),
        ("by header", SERVICES, vec![("Authorization", "Bearer service")], None, ("service", "service")),
    ] {
        let mut client = stage.connect_with(path, &headers).await.unwrap_or_else(|status| panic!("{what}: {status}"));
        if let Some(message) = first {
            client.say(&serde_json::from_str(message).expect("JSON")).await;
        }
        let of = |offer, answer| headers.contains(offer).then_some(answer);
        let spoken = of(&OFFER, "app.v1").or(of(&OFFERS, "app.v2"));
        assert_eq!(client.protocol(), spoken, "{what}: the protocol is answered, and never the token");
        let welcome = client.json().await;
        assert_eq!(welcome["speaks"], json!(spoken), "{what}");
        all.push(client);
        let (user, seen_as) = told;
        assert_eq!(
            [&welcome["user"], &welcome["seen_as"], &welcome["viewers"]],
            [&json!(user), &json!(seen_as), &json!(all.len())],
            "{what}"
        );
    }
    let peers = stage.peers.lock().expect("peers").clone();
    assert!(peers.len() == 1 && peers.iter().all(|peer| peer.is_some_and(|peer| peer.ip().is_loopback())), "{peers:?}");
}

/// What may not come that way does not: a cookie of a foreign page or of none, two tokens, another endpoint's token. Nobody
/// who is there notices.
pub async fn closed_ways_in(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut neighbour = stage.connect_with(BROWSERS, &[PAGE_ORIGIN, COOKIE]).await.expect("an upgrade");
    assert_eq!(neighbour.json().await["type"], "room_joined");
    for (what, headers, status) in [
        ("a foreign page's cookie", vec![("Origin", "https://evil.example"), COOKIE], 403),
        ("a cookie of no page", vec![COOKIE], 403),
        ("a hidden page's cookie", vec![("Origin", "null"), COOKIE], 403),
        ("two tokens", vec![PAGE_ORIGIN, COOKIE, OFFER], 400),
        ("a cookie twice", vec![PAGE_ORIGIN, ("Cookie", "session=user-5; session=user-5")], 400),
    ] {
        assert_eq!(stage.status(BROWSERS, &headers).await, status, "{what}");
    }
    for (what, path, headers) in [
        ("the other endpoint's token", SERVICES, vec![("Authorization", "Bearer user-5")]),
        ("a cookie where none is taken", SERVICES, vec![COOKIE]),
        ("a bad cookie", BROWSERS, vec![PAGE_ORIGIN, ("Cookie", "session=service")]),
    ] {
        let mut client = stage.connect_with(path, &headers).await.unwrap_or_else(|status| panic!("{what}: {status}"));
        assert_eq!(client.closed().await, bad_token(), "{what}");
    }
    assert_eq!(neighbour.ask(&json!({"type": "ping"})).await, json!({"type": "pong"}));
}

/// A handler is told once when its connection ends, and why, also where it never began.
pub async fn ends(suite: &Suite<impl Serve>) {
    let mut stage = suite.stage().await;
    let mut client = stage.connect_with(BROWSERS, &[PAGE_ORIGIN, COOKIE]).await.expect("an upgrade");
    assert_eq!(client.json().await["type"], "room_joined");
    assert!(stage.ended.try_recv().is_err(), "it goes on");
    client.answer(1000).await;
    assert_eq!(stage.next_end().await, 1000);
    let mut client = stage.connect_with(BROWSERS, &[PAGE_ORIGIN]).await.expect("an upgrade");
    client.say(&json!({"type": "auth", "token": "garbage"})).await;
    assert_eq!(client.closed().await, bad_token());
    assert_eq!(stage.next_end().await, 1008);
    assert!(stage.ended.try_recv().is_err(), "each once");
}

impl Theatre {
    async fn next_end(&mut self) -> u16 {
        let end = timeout(self.patience, self.ended.recv()).await;
        end.expect("the handler is told in time").expect("a stage").code().get()
    }
}
