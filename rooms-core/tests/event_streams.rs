//! Who is at the other end of an event stream: the same limits, rules and ends as of a connection over a WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/visitor.rs"]
mod visitor;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Uri};
use rooms_core::{
    Attempt, AuthError, Authenticator, Close, CloseCode, Decision, Endpoint, Identity, Kind, Revocation, RoomKey,
    RoomManager, RoomManagerBuilder, WallClock,
    adapter::{Admission, EventBody, Opening, Refusal},
    bus::Retention,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const START: u64 = 1_800_000_000;

/// A wall clock that goes with tokio's, and so stands still with it.
#[derive(Debug)]
struct Paused(Instant);

impl WallClock for Paused {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START) + self.0.elapsed()
    }
}

/// The token is a user and the seconds that it is good for.
#[derive(Debug)]
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let (user, seconds) = attempt.token().and_then(|token| token.split_once('.')).ok_or(AuthError::Missing)?;
        let end = UNIX_EPOCH + Duration::from_secs(START + seconds.parse::<u64>().map_err(|_| AuthError::Claims)?);
        let claims = json!({"sub": user, "iat": START, "jti": "of the token"}).to_string();
        Ok(Identity::new(user).map_err(|_| AuthError::Subject)?.with_claims(claims).expiring_at(end))
    }
}

fn builder() -> RoomManagerBuilder {
    let staff = |who: Arc<Identity>, _| async move { who.claim("staff").ok().flatten() == Some(true) };
    RoomManager::builder()
        .authenticator(Tokens)
        .endpoint(Endpoint::new().query_token("token").first_message_token())
        .clock(Arc::new(Paused(Instant::now())))
        .kind("post", Kind::authenticated())
        .kind("staff", Kind::new().join_rule(staff))
}

async fn admit(rooms: &RoomManager, endpoint: &Endpoint, uri: &str) -> Result<Admission, Refusal> {
    let peer = "192.0.2.1:5000".parse().ok();
    let opening = Opening::EventStream(&Method::GET);
    rooms.admit(endpoint, opening, &uri.parse::<Uri>().unwrap(), &HeaderMap::new(), peer).await
}

/// A stream of rooms, and the events that were taken out of it together.
struct Stream {
    body: EventBody,
    events: VecDeque<String>,
}

impl Stream {
    fn of(admission: Admission, rooms: &[&str]) -> Self {
        let body = admission.events(rooms.iter().map(|room| room.parse().unwrap())).unwrap();
        Self { body, events: VecDeque::new() }
    }

    /// Opens one, and takes what it begins with.
    async fn open(rooms: &RoomManager, token: &str, of: &[&str]) -> Self {
        let admission = admit(rooms, rooms.endpoint(), &format!("/?token={token}")).await.unwrap();
        let mut stream = Self::of(admission, of);
        for _ in of {
            assert_eq!(stream.event().await.unwrap()["type"], "room_joined");
        }
        stream
    }

    /// The next event, or the code with which it is closed.
    async fn event(&mut self) -> Result<Value, u64> {
        loop {
            while let Some(event) = self.events.pop_front() {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let Some(data) = data.map(|data| serde_json::from_str::<Value>(data).unwrap()) else { continue };
                return if event.starts_with("event: close") { Err(data["code"].as_u64().unwrap()) } else { Ok(data) };
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let bytes = self.body.next().await.expect("more before the end").unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.events.extend(text.split_terminator("\n\n").map(ToOwned::to_owned));
    }

    /// The `id` of the next event that has one.
    async fn id(&mut self) -> String {
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    return id.to_owned();
                }
            }
            self.more().await;
        }
    }

    /// The code with which it is closed, after whatever is said before that, and nothing behind it.
    async fn end(mut self) -> u64 {
        loop {
            if let Err(code) = self.event().await {
                assert!(self.events.is_empty() && self.body.next().await.is_none(), "more behind the close");
                return code;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_come_as_base64_in_order_with_text() {
    let rooms = builder().build().unwrap();
    let mut stream = Stream::open(&rooms, "u1.1000000", &["post:42"]).await;
    let room = "post:42".parse().unwrap();
    rooms.to(&room).binary(&b"\0\xff\n\n"[..]).await.unwrap();
    rooms.broadcast(&room, &1).await.unwrap();
    rooms.to(&room).binary(Vec::new()).await.unwrap();
    let bytes = |base64: &str| json!({"type": "binary", "room": "post:42", "base64": base64});
    assert_eq!(stream.event().await, Ok(bytes("AP8KCg==")));
    assert_eq!(stream.event().await.unwrap()["data"], 1);
    assert_eq!(stream.event().await, Ok(bytes("")));
}

async fn empty(rooms: &RoomManager) {
    while rooms.stats().connections > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rooms.local_viewers(&"post:42".parse().unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_stream_ends_it_at_once_and_gives_its_place_back_once() {
    let rooms = builder()
        .limits(|limits| (limits.max_connections_per_ip, limits.max_connections_per_user) = (2, 2))
        .build()
        .unwrap();
    // By each way, so often that a place that is lost or given back twice would be noticed.
    for n in 0..8_u64 {
        let token = |m: u64| format!("u{n}.{}", 1_000_000 + m);
        let one = Stream::open(&rooms, &token(0), &["post:42"]).await;
        let mut other = Stream::open(&rooms, &token(1), &["post:42", "post:43"]).await;
        let third = admit(&rooms, rooms.endpoint(), &format!("/?token={}", token(2))).await;
        assert!(matches!(third, Err(Refusal::TooManyFromAddress { .. })), "{third:?}");
        let user = format!("u{n}");
        let start = Instant::now();
        let code = match n % 4 {
            0 => rooms.revoke(Revocation::User(user.clone())).await.map(|_| 4410).unwrap(),
            1 => {
                let time = UNIX_EPOCH + Duration::from_secs(START + 1);
                let before = Revocation::IssuedBefore { time, user: Some(user.clone()) };
                rooms.revoke(before).await.map(|_| 4410).unwrap()
            }
            2 => rooms.disconnect_user(&user, Close::new(CloseCode::POLICY, "bye")).await.map(|_| 1008).unwrap(),
            _ => rooms.kick(&"post:42".parse().unwrap(), &user, "enough").await.map(|_| 4403).unwrap(),
        };
        assert_eq!(one.end().await, code, "{n}");
        if code == 4403 {
            let put_out = json!({"type": "room_left", "room": "post:42", "reason": "kicked", "message": "enough"});
            while other.event().await != Ok(put_out.clone()) {}
            drop(other);
        } else {
            assert_eq!(other.end().await, code, "{n}");
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        empty(&rooms).await;
    }
    let revoked = admit(&rooms, rooms.endpoint(), "/?token=u0.1000000").await;
    assert_eq!(revoked.unwrap_err(), Refusal::Token);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_put_out_of_its_last_room_ends_and_one_that_is_to_leave_it_may_enter_another() {
    let is_open = Arc::new(AtomicBool::new(true));
    let rule = Arc::clone(&is_open);
    let club = Kind::new().join_rule(move |_, _| std::future::ready(rule.load(Ordering::Relaxed)));
    let rooms = builder().kind("club", club).build().unwrap();
    let (club, post): (RoomKey, RoomKey) = ("club:1".parse().unwrap(), "post:42".parse().unwrap());
    let left = |room: &RoomKey, reason: &str| json!({"type": "room_left", "room": room.as_str(), "reason": reason});

    let mut kicked = Stream::open(&rooms, "5.9000", &["post:42", "club:1"]).await;
    rooms.kick(&club, "5", "").await.unwrap();
    while kicked.event().await != Ok(left(&club, "kicked")) {}
    rooms.broadcast(&post, &json!("still here")).await.unwrap();
    while kicked.event().await.unwrap()["data"] != "still here" {}
    // Of a room that it is not in.
    rooms.kick(&club, "5", "").await.unwrap();
    rooms.kick(&post, "5", "").await.unwrap();
    assert_eq!(kicked.event().await, Ok(left(&post, "kicked")));
    assert_eq!(kicked.end().await, 4403);

    let mut denied = Stream::open(&rooms, "5.9000", &["club:1", "club:2"]).await;
    is_open.store(false, Ordering::Relaxed);
    rooms.recheck_user("5").await.unwrap();
    while denied.event().await != Ok(left(&"club:2".parse().unwrap(), "not_allowed")) {}
    assert_eq!(denied.end().await, 4403);

    let mut moved = Stream::open(&rooms, "5.9000", &["post:42", "post:43"]).await;
    for room in ["post:42", "post:43"] {
        rooms.leave("5", &room.parse().unwrap()).await.unwrap();
    }
    while moved.event().await != Ok(left(&"post:43".parse().unwrap(), "left")) {}
    rooms.enter("5", &post).await.unwrap();
    assert_eq!(moved.event().await.unwrap()["type"], "room_joined");
    drop(moved);
    empty(&rooms).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_put_out_while_it_still_joins_ends_once_that_is_refused() {
    let seconds = |_, room: RoomKey| async move {
        sleep(Duration::from_secs(room.id().parse().unwrap())).await;
        room.id() == "3"
    };
    let rooms = builder().kind("slow", Kind::new().join_rule(seconds)).build().unwrap();
    let (post, slow): (RoomKey, RoomKey) = ("post:42".parse().unwrap(), "slow:5".parse().unwrap());
    let open = async |names: &[&str]| {
        let admission = admit(&rooms, rooms.endpoint(), "/?token=5.9000").await.unwrap();
        let mut stream = Stream::of(admission, names);
        assert_eq!(stream.event().await.unwrap()["type"], "room_joined");
        sleep(Duration::from_millis(1)).await;
        stream
    };
    let start = Instant::now();
    let refused = open(&["post:42", "slow:1", "slow:2"]).await;
    rooms.kick(&post, "5", "").await.unwrap();
    assert_eq!((refused.end().await, start.elapsed().as_secs()), (4403, 3));

    // Out of a room that it is joining.
    let joining = open(&["post:42", "slow:5"]).await;
    rooms.kick(&post, "5", "").await.unwrap();
    rooms.kick(&slow, "5", "").await.unwrap();
    assert_eq!((joining.end().await, start.elapsed().as_secs()), (4403, 3));

    // It gets into another one, of those that it asked for or that the application has it enter.
    let mut joined = open(&["post:42", "slow:3"]).await;
    rooms.kick(&post, "5", "").await.unwrap();
    while joined.event().await.unwrap()["type"] != "room_joined" {}
    rooms.leave("5", &"slow:3".parse().unwrap()).await.unwrap();
    while joined.event().await.unwrap()["reason"] != "left" {}
    rooms.enter("5", &post).await.unwrap();
    while joined.event().await.unwrap()["type"] != "room_joined" {}
    rooms.enter("5", &"post:44".parse().unwrap()).await.unwrap();
    rooms.kick(&post, "5", "").await.unwrap();
    while joined.event().await.unwrap()["room"] != "post:44" {}
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let rooms = builder().build().unwrap();
    let start = Instant::now();
    let (one, many) = (
        Stream::open(&rooms, "5.300", &["post:42"]).await,
        Stream::open(&rooms, "5.300", &["post:42", "post:43"]).await,
    );
    // Both are read, as a client that takes no pings is gone.
    assert_eq!(tokio::join!(one.end(), many.end()), (4401, 4401));
    assert_eq!(start.elapsed().as_secs(), 300);
    empty(&rooms).await;
}

#[tokio::test(start_paused = true)]
async fn claims_of_the_application_are_those_of_the_stream_for_rules_and_revocations() {
    let rooms = builder().build().unwrap();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let open = async |session: &str| {
        let noted = Arc::clone(&closed);
        let admission = admit(&rooms, rooms.endpoint(), "/?token=5.9000").await.unwrap();
        let admission = admission.with_claims([("staff", json!(true)), ("jti", json!(session))]);
        let admission = admission.on_close(move |close| noted.lock().unwrap().push(close.code().get()));
        let mut stream = Stream::of(admission, &["staff:1"]);
        assert_eq!(stream.event().await.unwrap()["type"], "room_joined");
        stream
    };
    let (one, two) = (open("one").await, open("two").await);
    rooms.recheck(&"staff:1".parse().unwrap()).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(rooms.local_viewers(&"staff:1".parse().unwrap()), 2, "the rule is given the same claims");
    rooms.revoke(Revocation::Jti("one".into())).await.unwrap();
    assert_eq!(one.end().await, 4410);
    assert_eq!(rooms.local_viewers(&"staff:1".parse().unwrap()), 1);
    rooms.disconnect_where("jti", "two", Close::NORMAL).await.unwrap();
    assert_eq!(two.end().await, 1000);
    empty(&rooms).await;
    assert_eq!(*closed.lock().unwrap(), [4410, 1000]);
    let without = admit(&rooms, rooms.endpoint(), "/?token=5.9000").await.unwrap();
    assert_eq!(Stream::of(without, &["staff:1"]).end().await, 4403);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_has_an_authenticator_of_its_own_and_no_token_comes_later() {
    let rooms = builder().build().unwrap();
    let own = Endpoint::new().query_token("token").authenticator(visitor::Names).first_message_token();
    assert_eq!(admit(&rooms, &own, "/?token=bad").await.unwrap_err(), Refusal::Token);
    assert_eq!(admit(&rooms, &own, "/").await.unwrap_err(), Refusal::Token);
    assert_eq!(admit(&rooms, rooms.endpoint(), "/?token=name").await.unwrap_err(), Refusal::Token);
    let admission = admit(&rooms, &own, "/?token=name").await.unwrap();
    assert_eq!(admission.identity().unwrap().map(Identity::user), Some("name"));
    assert_eq!(Stream::of(admission, &["post:42"]).event().await.unwrap()["type"], "room_joined");
}

#[tokio::test(start_paused = true)]
async fn limits_apply_as_to_a_socket() {
    let rooms = builder()
        .limits(|limits| {
            limits.max_connections_per_user = 2;
            (limits.connects_per_second_per_ip, limits.connect_burst_per_ip) = (1, 5);
        })
        .build()
        .unwrap();
    let _one = Stream::open(&rooms, "5.9000", &["post:42"]).await;
    let _two = Stream::open(&rooms, "5.9000", &["post:42"]).await;
    let third = admit(&rooms, rooms.endpoint(), "/?token=5.9000").await.unwrap();
    assert_eq!(Stream::of(third, &["post:42"]).end().await, 4430);
    for _ in 0..2 {
        assert_eq!(admit(&rooms, rooms.endpoint(), "/?token=bad").await.unwrap_err(), Refusal::Token);
    }
    let refused = admit(&rooms, rooms.endpoint(), "/?token=6.9000").await;
    assert!(matches!(refused, Err(Refusal::TooManyFromAddress { .. })), "{refused:?}");
}

/// The answer to a page that comes back with the `id` of its last event; an empty one is not sent.
async fn asked_for(rooms: &RoomManager, uri: &str, last_id: &str) -> Stream {
    let mut headers = HeaderMap::new();
    if !last_id.is_empty() {
        headers.insert("last-event-id", last_id.parse().unwrap());
    }
    let opening = Opening::EventStream(&Method::GET);
    let admission = rooms.admit(rooms.endpoint(), opening, &uri.parse::<Uri>().unwrap(), &headers, None).await.unwrap();
    Stream { body: admission.events_asked_for().unwrap(), events: VecDeque::new() }
}

#[tokio::test(start_paused = true)]
async fn one_room_that_the_url_names_is_resumed_by_the_id_of_it_alone_and_by_that_of_several() {
    let rooms = builder().kind("log", Kind::authenticated().history(Retention::messages(10))).build().unwrap();
    let (one, two): (RoomKey, RoomKey) = ("log:1".parse().unwrap(), "log:2".parse().unwrap());
    let mut stream = asked_for(&rooms, "/?token=5.9000&room=log:1&room=log:2", "").await;
    for _ in 0..2 {
        assert_eq!(stream.event().await.unwrap()["type"], "room_joined");
    }
    for room in [&one, &two] {
        rooms.broadcast(room, &json!("had")).await.unwrap();
    }
    let mut had = Vec::new();
    while had.len() < 2 {
        let event = stream.event().await.unwrap();
        if event["data"] == "had" {
            had.push(format!("{}={}", event["room"].as_str().unwrap(), event["offset"].as_str().unwrap()));
        }
    }
    drop(stream);
    rooms.broadcast(&one, &json!("missed")).await.unwrap();
    had.sort();
    let alone = had[0].split_once('=').unwrap().1;
    for last_id in [&had.join(","), &had[0], alone] {
        let mut back = asked_for(&rooms, "/?token=5.9000&room=log:1", last_id).await;
        assert_eq!(back.event().await.unwrap()["recovered"], true, "{last_id}");
        assert_eq!(back.event().await.unwrap()["data"], "missed", "{last_id}");
        // Where the handler names it.
        let uri = format!("/?token=5.9000&since={last_id}");
        let admission = admit(&rooms, rooms.endpoint(), &uri).await.unwrap();
        let mut back = Stream::of(admission, &["log:1"]);
        assert_eq!(back.event().await.unwrap()["recovered"], true, "{last_id}");
    }
    for unknown in [&had[1], "none", "="] {
        let mut lost = asked_for(&rooms, "/?token=5.9000&room=log:1", unknown).await;
        assert_eq!(lost.event().await.unwrap()["recovered"], false, "{unknown}");
    }
    for rooms_and_since in ["room=log:1&since=%ff", "room=log:1&room=log:2&since=%ff"] {
        let mut lost = asked_for(&rooms, &format!("/?token=5.9000&{rooms_and_since}"), "").await;
        assert_eq!(lost.event().await.unwrap()["recovered"], false, "a position of no log: {rooms_and_since}");
        assert_eq!(lost.event().await.unwrap()["reason"], "epoch", "{rooms_and_since}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_of_the_applications_own_is_no_id_and_spoils_none() {
    let here = |_| async { Ok(json!({"position": "lobby,log:1=x"})) };
    let rooms = builder()
        .kind("log", Kind::authenticated().history(Retention::messages(10)))
        .kind("lobby", Kind::authenticated().on_join(here))
        .build()
        .unwrap();
    let admission = admit(&rooms, rooms.endpoint(), "/?token=5.9000").await.unwrap();
    let mut one = Stream::of(admission, &["lobby:1"]);
    one.more().await;
    assert!(!one.events[0].contains("id: "), "{}", one.events[0]);
    assert_eq!(one.event().await.unwrap()["position"], "lobby,log:1=x", "which is left to the application");

    let mut many = asked_for(&rooms, "/?token=5.9000&room=lobby:1&room=log:1", "").await;
    let id = many.id().await;
    assert!(id.starts_with("log:1=") && !id.contains("lobby"), "{id}");
    drop(many);
    let mut back = asked_for(&rooms, "/?token=5.9000&room=log:1", &id).await;
    assert_eq!(back.event().await.unwrap()["recovered"], true, "{id}");
}

#[tokio::test(start_paused = true)]
async fn an_id_keeps_what_was_given_of_rooms_that_are_not_joined_yet_or_can_not_be_now() {
    let rule = |_, room: RoomKey| async move { if room.id() == "2" { Decision::Unavailable } else { Decision::Allow } };
    let rooms = builder().kind("log", Kind::new().join_rule(rule).history(Retention::messages(10))).build().unwrap();
    let uri = "/?token=5.9000&room=log:1&room=log:2&room=log:3";
    let mut stream = asked_for(&rooms, uri, "log:1=2a.7,log:2=2a.8,post:1=2a.9,log:3=2a.10").await;
    let id = stream.id().await;
    assert!(id.starts_with("log:1=") && !id.starts_with("log:1=2a.7,"), "the position in the log that there is: {id}");
    assert!(id.ends_with(",log:2=2a.8,log:3=2a.10"), "{id}");
    assert_eq!(stream.id().await, id, "of the `resync`");
    let id = stream.id().await;
    assert!(id.contains(",log:2=2a.8,log:3=") && !id.contains("2a.10"), "{id}");

    // What a URL gives is not written as it came.
    let mut split = asked_for(&rooms, &format!("{uri}&since=log:2=2a.8%0Adata:%201,log:3=2a.8%0A%0A"), "").await;
    assert!(split.id().await.split(',').all(|entry| entry.starts_with("log:1=")));
}

#[tokio::test(start_paused = true)]
async fn one_room_that_the_url_names_is_refused_by_an_error_and_the_stream_goes_on() {
    let rooms = builder().build().unwrap();
    let mut stream = asked_for(&rooms, "/?token=5.9000&room=staff:1", "").await;
    let refused = stream.event().await.unwrap();
    assert_eq!(
        (&refused["type"], &refused["room"], &refused["code"]),
        (&json!("error"), &json!("staff:1"), &json!("not_allowed"))
    );
    rooms.enter("5", &"post:42".parse().unwrap()).await.unwrap();
    assert_eq!(stream.event().await.unwrap()["type"], "room_joined");
}

#[tokio::test(start_paused = true)]
async fn who_asks_to_observe_several_rooms_is_counted_in_none_of_them() {
    let rooms = builder().kind("watched", Kind::authenticated().observe_rule(|_, _| async { true })).build().unwrap();
    for (uri, observed) in [
        ("/?token=5.9000&room=watched:1&observe=true", &["watched:1"][..]),
        ("/?token=5.9000&room=watched:1&room=watched:2&observe=true", &["watched:1", "watched:2"]),
        ("/?token=5.9000&room=watched:1&observed=watched:2", &["watched:2"]),
        ("/?token=5.9000&observed=watched:1", &["watched:1"]),
    ] {
        let mut stream = asked_for(&rooms, uri, "").await;
        for _ in 0..uri.matches("=watched").count() {
            let joined = stream.event().await.unwrap();
            let is_observed = observed.contains(&joined["room"].as_str().unwrap());
            assert_eq!(
                (joined["observer"] == true, joined["viewers"] == 0),
                (is_observed, is_observed),
                "{uri}: {joined}"
            );
        }
    }
}
