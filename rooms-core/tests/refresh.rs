//! A token that ends, and a new one on the same connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use rooms_core::{
    Attempt, AuthError, Authenticator, Close, CloseCode, Decision, Identity, Kind, RoomManager, WallClock, ws::Incoming,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use rig::{Rooms, idle, key};
use talk::Talk;

const START: u64 = 1_800_000_000;

/// A wall clock that goes with tokio's, and so stands still with it.
#[derive(Debug)]
struct Paused(Instant);

impl WallClock for Paused {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START) + self.0.elapsed()
    }
}

/// A token is `user seconds claims`, and is looked at as long as the test says.
#[derive(Debug, Default)]
struct Tokens {
    takes: Mutex<Duration>,
    asked: AtomicUsize,
}

fn identity(token: &str) -> Result<Identity, AuthError> {
    let mut parts = token.splitn(3, ' ');
    let mut part = || parts.next().ok_or(AuthError::Malformed);
    let (user, seconds, claims) = (part()?, part()?, part()?);
    let end = UNIX_EPOCH + Duration::from_secs(START + seconds.parse::<u64>().map_err(|_| AuthError::Claims)?);
    Ok(Identity::new(user).map_err(|_| AuthError::Subject)?.with_claims(claims).expiring_at(end))
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
        identity(attempt.token().ok_or(AuthError::Missing)?)
    }
}

struct Bed {
    rooms: Rooms,
    tokens: Arc<Tokens>,
    left: Arc<Mutex<Vec<String>>>,
    answers: Arc<AtomicBool>,
}

/// Rooms of the kind `team` are for whoever's token names them; the answer about a `slow` one takes a second.
fn bed() -> Bed {
    let tokens = Arc::new(Tokens::default());
    let left: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&left);
    let on_leave = move |member: rooms_core::Member| {
        let role: Option<String> = member.identity().claim("role").unwrap();
        noted.lock().unwrap().push(format!("{} as {}", member.room(), role.unwrap_or_default()));
        async {}
    };
    let on_message = |member: rooms_core::Member, _| async move {
        member.send(&json!({"role": member.identity().claim::<String>("role").unwrap()}));
        Ok(())
    };
    let answers = Arc::new(AtomicBool::new(true));
    let can_answer = Arc::clone(&answers);
    let slow = Kind::new().join_rule(move |who, _| {
        let can_answer = can_answer.load(Ordering::Relaxed);
        async move {
            sleep(Duration::from_secs(1)).await;
            let is_editor = who.claim::<String>("role").unwrap().as_deref() == Some("editor");
            if can_answer { is_editor.into() } else { Decision::Unavailable }
        }
    });
    let said =
        Kind::new().join_rule_with(|_, _, with| async move { with.is_some_and(|with| with.as_str() == "\"key\"") });
    let rooms = RoomManager::build_for()
        .authenticator(Arc::clone(&tokens))
        .kind("post", Kind::authenticated().allow_publish())
        .kind("team", Kind::new().join_claim("rooms").on_leave(on_leave).on_message(on_message))
        .kind("slow", slow)
        .kind("said", said)
        .clock(Arc::new(Paused(Instant::now())))
        .limits(|limits| limits.ping_interval = Duration::from_secs(1_000_000))
        .build()
        .unwrap();
    Bed { rooms, tokens, left, answers }
}

fn multi(rooms: &Rooms, token: &str) -> Talk {
    let (send, stream) = futures::channel::mpsc::unbounded();
    let (sink, receiver) = futures::channel::mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, identity(token).unwrap()));
    Talk { send, inbox: rig::Inbox(receiver), ended }
}

fn refresh(token: &str) -> String {
    json!({"type": "refresh", "token": token, "ref": 7}).to_string()
}

fn join(room: &str) -> String {
    json!({"type": "join", "room": room}).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_a_minute_before_its_token_ends_and_goes_on_with_a_new_one() {
    let bed = bed();
    let start = Instant::now();
    let mut talk = multi(&bed.rooms, "a 500 {}");
    assert_eq!(talk.inbox.next().await, json!({"type": "token_expiring", "in_ms": 60_000}));
    assert_eq!(start.elapsed().as_secs(), 440);
    assert_eq!(talk.ask(refresh("a 1000 {}")).await, json!({"type": "refreshed", "in_ms": 560_000, "ref": 7}));
    assert_eq!(talk.inbox.next().await, json!({"type": "token_expiring", "in_ms": 60_000}));
    assert_eq!(start.elapsed().as_secs(), 940);
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
    assert_eq!(start.elapsed().as_secs(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn on_the_endpoint_of_one_room_it_is_the_same() {
    let bed = bed();
    let mut talk = Talk::open(&bed.rooms, identity("a 500 {}").unwrap());
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    assert_eq!(talk.inbox.next().await, json!({"type": "token_expiring", "in_ms": 60_000}));
    assert_eq!(talk.ask(refresh("a 600 {}")).await, json!({"type": "refreshed", "in_ms": 160_000}));
    assert_eq!(talk.ask(refresh("b 1000 {}")).await["code"], "bad_token");
    assert_eq!(talk.inbox.next().await["type"], "token_expiring");
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
}

#[tokio::test(start_paused = true)]
async fn of_a_short_token_half_is_over_when_its_client_is_told() {
    let bed = bed();
    let start = Instant::now();
    let mut talk = multi(&bed.rooms, "a 30 {}");
    assert_eq!(talk.inbox.next().await, json!({"type": "token_expiring", "in_ms": 15_000}));
    assert_eq!(talk.ask(refresh("a 45 {}")).await["type"], "refreshed");
    assert!(talk.inbox.is_silent().await, "not at once again");
    assert_eq!(talk.inbox.next().await, json!({"type": "token_expiring", "in_ms": 15_000}));
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_sooner_ends_the_connection_sooner() {
    let bed = bed();
    let start = Instant::now();
    let mut talk = multi(&bed.rooms, "a 9000 {}");
    assert_eq!(talk.ask(refresh("a 100 {}")).await["type"], "refreshed");
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
    assert_eq!(start.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_changes_nothing() {
    let bed = bed();
    let start = Instant::now();
    let mut talk = multi(&bed.rooms, "a 400 {}");
    for bad in ["b 2000 {}", "a", "", "a x {}", "a\n 1 {}"] {
        let answer = talk.ask(refresh(bad)).await;
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["ref"]),
            (&json!("error"), &json!("bad_token"), &json!(7))
        );
        sleep(Duration::from_secs(10)).await;
    }
    for bad in
        [json!({"type": "refresh"}), json!({"type": "refresh", "token": 5}), json!({"type": "refresh", "token": null})]
    {
        assert_eq!(talk.ask(bad.to_string()).await["code"], "bad_message", "{bad}");
    }
    *bed.tokens.takes.lock().unwrap() = Duration::from_secs(11);
    assert_eq!(talk.ask(refresh("a 2000 {}")).await["code"], "unavailable", "the authenticator took too long");
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
    assert_eq!(start.elapsed().as_secs(), 400);
}

#[tokio::test(start_paused = true)]
async fn while_a_token_is_checked_everything_else_goes_on_and_no_second_one_is() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, "a 900 {}");
    let other = Talk::joined(&bed.rooms, "b").await;
    *bed.tokens.takes.lock().unwrap() = Duration::from_secs(5);
    talk.say(refresh("a 2000 {}"));
    let start = Instant::now();
    assert_eq!(talk.ask(join("post:42")).await["type"], "room_joined");
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    other.say(r#"{"type":"ping"}"#);
    bed.rooms.broadcast(&key("post:42"), &json!("news")).await.unwrap();
    assert_eq!(talk.inbox.next().await["data"], "news");
    let second = talk.ask(refresh("a 3000 {}")).await;
    assert_eq!(
        (&second["code"], &second["message"]),
        (&json!("unavailable"), &json!("another token is being checked"))
    );
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(talk.inbox.next().await["type"], "refreshed");
    assert_eq!((start.elapsed().as_secs(), bed.tokens.asked.load(Ordering::Relaxed)), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn two_tokens_are_checked_at_once_and_then_one_each_five_seconds() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, "a 9000 {}");
    let mut taken = 0;
    for _ in 0..60 {
        let answer = talk.ask(refresh("a 9000 {}")).await;
        taken += usize::from(answer["type"] == "refreshed");
        if answer["type"] == "error" {
            let wait = answer["retry_after_ms"].as_u64().unwrap();
            assert!(answer["code"] == "rate_limited" && (1..=5_000).contains(&wait), "{answer}");
        }
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!((taken, bed.tokens.asked.load(Ordering::Relaxed)), (7, 7), "in 30 seconds");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_is_closed_at_last_and_a_neighbour_loses_nothing() {
    let bed = bed();
    let (mut flood, mut neighbour) = (multi(&bed.rooms, "a 9000 {}"), multi(&bed.rooms, "b 9000 {}"));
    assert_eq!(flood.ask(join("post:42")).await["type"], "room_joined");
    assert_eq!(neighbour.ask(join("post:42")).await["type"], "room_joined");
    neighbour.inbox.all().await;
    let start = Instant::now();
    let mut published = 0;
    while !flood.ended.is_finished() && start.elapsed() < Duration::from_secs(120) {
        // At the rate at which a connection may send anything.
        _ = flood.send.unbounded_send(Ok(Incoming::Text(refresh("a 9000 {}"))));
        bed.rooms.broadcast(&key("post:42"), &json!(published)).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let heard = neighbour.inbox.now();
        assert_eq!(heard.first().map(|event| &event["data"]), Some(&json!(published)), "{heard:?}");
        published += 1;
    }
    let close = loop {
        let message = futures::StreamExt::next(&mut flood.inbox.0).await.unwrap();
        if message.kind() == rooms_core::MessageKind::Close {
            break rig::parse_close(&message);
        }
    };
    assert_eq!(close, Close::TOO_MANY_MESSAGES);
    let asked = bed.tokens.asked.load(Ordering::Relaxed) as u64;
    assert!(asked <= 2 + start.elapsed().as_secs() / 5, "{asked}");
    assert!(!neighbour.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_its_token_is_checked_leaves_nothing() {
    let bed = bed();
    *bed.tokens.takes.lock().unwrap() = Duration::from_secs(5);
    let mut talk = multi(&bed.rooms, "a 900 {}");
    assert_eq!(talk.ask(join("post:42")).await["type"], "room_joined");
    talk.say(refresh("a 2000 {}"));
    idle().await;
    talk.send.unbounded_send(Ok(Incoming::Close(None))).unwrap();
    talk.ended.await.unwrap();
    assert_eq!((bed.rooms.local_viewers(&key("post:42")), bed.rooms.stats().connections), (0, 0));
}

const BOTH: &str = r#"{"rooms":["team:blue","team:red"],"role":"editor"}"#;
const BLUE: &str = r#"{"rooms":["team:blue"],"role":"reader"}"#;

#[tokio::test(start_paused = true)]
async fn rooms_that_the_new_claims_do_not_allow_are_left_and_hooks_see_the_new_ones() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, &format!("a 900 {BOTH}"));
    for room in ["team:blue", "team:red", "post:1", "slow:1"] {
        assert_eq!(talk.ask(join(room)).await["type"], "room_joined");
    }
    assert_eq!(talk.ask(refresh(&format!("a 2000 {BLUE}"))).await["type"], "refreshed");
    let out = |room: &str| json!({"type": "room_left", "room": room, "reason": "not_allowed"});
    assert_eq!(talk.inbox.next().await, out("team:red"));
    assert_eq!(talk.inbox.next().await, out("slow:1"));
    assert_eq!(*bed.left.lock().unwrap(), ["team:red as reader"]);
    let answer = talk.ask(r#"{"type":"x","room":"team:blue"}"#).await;
    assert_eq!(answer["data"], json!({"role": "reader"}));
    assert_eq!(talk.ask(r#"{"type":"x","room":"team:red"}"#).await["code"], "not_joined");
    assert_eq!(talk.ask(join("team:red")).await["code"], "not_allowed");
    assert_eq!(bed.rooms.local_viewers(&key("post:1")), 1);
}

#[tokio::test(start_paused = true)]
async fn on_the_endpoint_of_one_room_the_connection_ends_with_the_right_to_it() {
    let bed = bed();
    let (send, stream) = futures::channel::mpsc::unbounded();
    let (sink, receiver) = futures::channel::mpsc::unbounded();
    let identity = identity(&format!("a 900 {BOTH}")).unwrap();
    let ended = tokio::spawn(bed.rooms.serve_room(stream, sink, identity, key("team:red")));
    let mut talk = Talk { send, inbox: rig::Inbox(receiver), ended };
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    assert_eq!(talk.ask(refresh(&format!("a 2000 {BLUE}"))).await["type"], "refreshed");
    assert_eq!(talk.inbox.close().await, Close::NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_under_way_is_asked_about_again() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, &format!("a 900 {BOTH}"));
    talk.say(join("slow:1"));
    sleep(Duration::from_millis(500)).await;
    // Behind the join, as commands go one after another; the server's own recheck is not.
    bed.rooms.recheck_user("a").await.unwrap();
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    assert!(talk.inbox.is_silent().await);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bed.rooms.local_viewers(&key("slow:1")), 1, "the rule still says yes");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_said_with_its_join_is_said_again() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, "a 900 {}");
    let join = json!({"type": "join", "room": "said:1", "with": "key"});
    assert_eq!(talk.ask(join.to_string()).await["type"], "room_joined");
    assert_eq!(talk.ask(refresh("a 2000 {}")).await["type"], "refreshed");
    sleep(Duration::from_secs(1)).await;
    assert!(talk.inbox.is_silent().await);
    assert_eq!(bed.rooms.local_viewers(&key("said:1")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_can_not_decide_puts_nobody_out() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, &format!("a 900 {BOTH}"));
    assert_eq!(talk.ask(join("slow:1")).await["type"], "room_joined");
    bed.answers.store(false, Ordering::Relaxed);
    bed.rooms.recheck(&key("slow:1")).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(talk.inbox.is_silent().await);
    assert_eq!(bed.rooms.local_viewers(&key("slow:1")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_refreshes_is_told_once() {
    let bed = bed();
    let mut talk = multi(&bed.rooms, "a 7300 {}");
    let mut events: Vec<Value> = Vec::new();
    let close = loop {
        let message = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
        match message.kind() {
            rooms_core::MessageKind::Close => break rig::parse_close(&message),
            _ => events.push(serde_json::from_slice(message.payload()).unwrap()),
        }
    };
    assert_eq!(events, [json!({"type": "token_expiring", "in_ms": 60_000})]);
    assert_eq!(close.code(), CloseCode::TOKEN_EXPIRED);
}
