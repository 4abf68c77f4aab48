//! Rules that are asked again about those who are in a room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rooms_core::{Decision, Identity, Kind, RoomManager, ws::Incoming};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use rig::{Rooms, key};
use talk::Talk;

const MINUTE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(600);

/// What the application's database says, and when it was asked.
#[derive(Debug, Clone, Default)]
struct Table(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    denied: HashSet<String>,
    is_away: bool,
    at: Vec<(String, Instant)>,
}

impl Table {
    fn ask(&self, who: &Identity) -> Decision {
        let mut asked = self.0.lock().unwrap();
        asked.at.push((who.user().to_owned(), Instant::now()));
        if asked.is_away { Decision::Unavailable } else { (!asked.denied.contains(who.user())).into() }
    }

    fn rule(&self) -> impl Fn(Arc<Identity>, rooms_core::RoomKey) -> std::future::Ready<Decision> + use<> {
        let table = self.clone();
        move |who, _| std::future::ready(table.ask(&who))
    }

    fn deny(&self, user: &str) {
        self.0.lock().unwrap().denied.insert(user.to_owned());
    }

    fn allow(&self, user: &str) {
        self.0.lock().unwrap().denied.remove(user);
    }

    fn be_away(&self, is_away: bool) {
        self.0.lock().unwrap().is_away = is_away;
    }

    /// When a user was asked about since the last time.
    fn times(&self, user: &str) -> Vec<Instant> {
        let mut asked = self.0.lock().unwrap();
        let (mine, others) = std::mem::take(&mut asked.at).into_iter().partition(|(who, _)| who == user);
        asked.at = others;
        mine.into_iter().map(|(_, at)| at).collect()
    }
}

fn rooms(kind: Kind) -> Rooms {
    RoomManager::build_for()
        .kind("team", kind)
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = usize::MAX)
        .build()
        .unwrap()
}

async fn join(rooms: &Rooms, user: &str, more: &str) -> Talk {
    let mut talk = Talk::multi(rooms, user);
    let joined = talk.ask(format!(r#"{{"type":"join","room":"team:1"{more}}}"#)).await;
    assert_eq!(joined["type"], "room_joined", "{joined}");
    talk
}

/// What it was told besides pings, which these connections answer.
async fn told(talk: &mut Talk) -> Vec<Value> {
    sleep(Duration::from_millis(1)).await;
    let mut all = Vec::new();
    while let Ok(message) = talk.inbox.0.try_recv() {
        if let Some(text) = message.as_text() {
            all.push(serde_json::from_str(text).unwrap());
        }
    }
    all
}

/// Lets time pass, in which these clients live.
async fn pass(time: Duration, talks: &mut [&mut Talk]) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_secs(5).min(end - Instant::now())).await;
        for talk in &mut *talks {
            // One whose connection has ended says nothing.
            _ = talk.send.unbounded_send(Ok(Incoming::Text(r#"{"type":"ping"}"#.to_owned())));
        }
    }
}

fn besides_pongs(events: Vec<Value>) -> Vec<Value> {
    events.into_iter().filter(|event| event["type"] != "pong").collect()
}

#[tokio::test(start_paused = true)]
async fn who_may_no_longer_be_there_leaves_within_the_time_with_an_event() {
    let table = Table::default();
    let rooms = rooms(Kind::new().join_rule(table.rule()).ask_again_every(EVERY));
    let (mut ann, mut bob) = (join(&rooms, "ann", "").await, join(&rooms, "bob", "").await);
    table.deny("bob");
    pass(EVERY, &mut [&mut ann, &mut bob]).await;
    let out = json!({"type": "room_left", "room": "team:1", "reason": "not_allowed"});
    assert_eq!(besides_pongs(told(&mut bob).await), [out]);
    let events = besides_pongs(told(&mut ann).await);
    assert_eq!(events.last().unwrap(), &json!({"type": "viewer_left", "viewers": 1, "room": "team:1"}));
    // The connection goes on, and nobody is asked about who is not there.
    table.times("bob");
    pass(EVERY * 3, &mut [&mut ann, &mut bob]).await;
    assert_eq!(table.times("bob").len(), 0);
    bob.say(r#"{"type":"join","room":"team:1"}"#);
    let refused = besides_pongs(told(&mut bob).await);
    assert_eq!(refused[0]["code"], "not_allowed");

    table.times("ann");
    pass(EVERY * 10, &mut [&mut ann]).await;
    let times = table.times("ann");
    assert!((10..=20).contains(&times.len()), "{} in ten times the time", times.len());
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| (EVERY / 2..=EVERY).contains(&gap)), "{:?}", gaps.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_one_room_is_closed() {
    let table = Table::default();
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::new().join_rule(table.rule()).ask_again_every(EVERY))
        .build()
        .unwrap();
    let mut ann = Talk::joined(&rooms, "ann").await;
    table.deny("ann");
    pass(EVERY, &mut [&mut ann]).await;
    assert_eq!(ann.ended.await.unwrap().code().get(), 4403);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_cannot_decide_keeps_the_member_and_is_asked_again_sooner() {
    let table = Table::default();
    let rooms = rooms(Kind::new().join_rule(table.rule()).ask_again_every(EVERY));
    let mut ann = join(&rooms, "ann", "").await;
    table.be_away(true);
    pass(EVERY, &mut [&mut ann]).await;
    table.times("ann");
    pass(EVERY, &mut [&mut ann]).await;
    assert_eq!(besides_pongs(told(&mut ann).await), [] as [Value; 0], "nobody is put out");
    let times = table.times("ann");
    assert!((10..=20).contains(&times.len()), "{} in ten minutes", times.len());
    table.deny("ann");
    table.be_away(false);
    pass(MINUTE, &mut [&mut ann]).await;
    assert_eq!(besides_pongs(told(&mut ann).await)[0]["reason"], "not_allowed");
}

#[tokio::test(start_paused = true)]
async fn connections_that_came_together_are_asked_about_apart() {
    let table = Table::default();
    let rooms = rooms(Kind::new().join_rule(table.rule()).ask_again_every(EVERY));
    let mut all = Vec::new();
    for _ in 0..300 {
        all.push(join(&rooms, "ann", "").await);
    }
    let start = Instant::now();
    table.times("ann");
    pass(EVERY, &mut all.iter_mut().collect::<Vec<_>>()).await;
    let mut seconds = BTreeMap::<u64, usize>::new();
    for at in table.times("ann") {
        *seconds.entry((at - start).as_secs()).or_default() += 1;
    }
    assert!(seconds.values().sum::<usize>() >= 300, "each of them");
    assert!(*seconds.keys().next().unwrap() >= 299, "{seconds:?}");
    // One a second on average.
    assert!(seconds.values().max().unwrap() <= &10, "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn so_many_rules_are_asked_at_once_and_no_more() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (here, peak) = (Arc::clone(&now), Arc::clone(&most));
    let kind = Kind::new().join_rule(move |_, _| {
        let (here, peak) = (Arc::clone(&here), Arc::clone(&peak));
        async move {
            peak.fetch_max(here.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_secs(4)).await;
            here.fetch_sub(1, Ordering::Relaxed);
            true
        }
    });
    let rooms = rooms(kind.ask_again_every(Duration::from_secs(1)));
    let all: Vec<_> = (0..200).map(|_| Talk::multi(&rooms, "ann")).collect();
    all.iter().for_each(|talk| talk.say(r#"{"type":"join","room":"team:1"}"#));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(most.swap(0, Ordering::Relaxed), 200, "joins are each connection's own");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(most.load(Ordering::Relaxed), 64);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_said_with_its_join_is_said_again() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&keys);
    let kind = Kind::new().join_rule_with(move |_, _, with| {
        said.lock().unwrap().push(with.map(|with| with.as_str().to_owned()));
        async { true }
    });
    let rooms = rooms(kind.ask_again_every(EVERY));
    let mut ann = join(&rooms, "ann", r#","with":{"key":7}"#).await;
    pass(EVERY, &mut [&mut ann]).await;
    let keys = keys.lock().unwrap();
    assert!(keys.len() >= 2 && keys.iter().all(|key| key.as_deref() == Some(r#"{"key":7}"#)), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn who_may_see_the_members_is_asked_again_and_told_how_things_stand() {
    let table = Table::default();
    let rooms = rooms(Kind::authenticated().members_rule(table.rule()).ask_again_every(EVERY));
    let (mut ann, mut bob) = (join(&rooms, "ann", "").await, join(&rooms, "bob", "").await);
    pass(MINUTE, &mut [&mut ann, &mut bob]).await;
    told(&mut bob).await;
    table.deny("bob");
    pass(EVERY, &mut [&mut ann, &mut bob]).await;
    let stands = json!({"type": "room_joined", "room": "team:1", "viewers": 2});
    assert_eq!(besides_pongs(told(&mut bob).await), [stands], "once, and without names");
    let mut cy = join(&rooms, "cy", "").await;
    sleep(Duration::from_secs(1)).await;
    let number = json!({"type": "viewer_joined", "viewers": 3, "room": "team:1"});
    assert_eq!(besides_pongs(told(&mut bob).await), [number]);
    table.allow("bob");
    pass(EVERY, &mut [&mut ann, &mut bob, &mut cy]).await;
    let stands = besides_pongs(told(&mut bob).await);
    assert_eq!((stands.len(), &stands[0]["users"]), (1, &json!(3)), "{stands:?}");
    drop(cy);
    sleep(Duration::from_secs(1)).await;
    let named = json!({"type": "viewer_left", "viewers": 2, "users": [{"user": "cy"}], "room": "team:1"});
    assert_eq!(besides_pongs(told(&mut bob).await), [named]);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_about_who_has_left_puts_nobody_out_who_has_joined_again() {
    // The second answer, which is no, takes a second; the others are yes, and there at once.
    let count = AtomicUsize::new(0);
    let kind = Kind::new().join_rule(move |_, _| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            if number == 1 {
                sleep(Duration::from_secs(1)).await;
            }
            number != 1
        }
    });
    let rooms = rooms(kind);
    let mut ann = join(&rooms, "ann", "").await;
    rooms.recheck(&key("team:1")).await.unwrap();
    told(&mut ann).await;
    assert_eq!(ann.ask(r#"{"type":"leave","room":"team:1"}"#).await["type"], "room_left");
    assert_eq!(ann.ask(r#"{"type":"join","room":"team:1"}"#).await["type"], "room_joined");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(told(&mut ann).await, [] as [Value; 0]);
    assert_eq!(rooms.local_viewers(&key("team:1")), 1);
    // The next time it is asked about like everybody.
    rooms.recheck(&key("team:1")).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rooms.local_viewers(&key("team:1")), 1);
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_asked_about_by_its_own_rule_and_leaves_unseen() {
    let table = Table::default();
    let kind = Kind::authenticated().list_members().observe_rule(table.rule()).ask_again_every(EVERY);
    let rooms = rooms(kind);
    let mut ann = join(&rooms, "ann", "").await;
    let (mut watcher, mut other) =
        (join(&rooms, "mod", r#","observe":true"#).await, join(&rooms, "other", r#","observe":true"#).await);
    table.deny("mod");
    pass(EVERY, &mut [&mut ann, &mut watcher, &mut other]).await;
    assert_eq!(besides_pongs(told(&mut watcher).await)[0]["reason"], "not_allowed");
    rooms.kick(&key("team:1"), "other", "").await.unwrap();
    assert_eq!(besides_pongs(told(&mut other).await)[0]["reason"], "kicked");
    assert_eq!(besides_pongs(told(&mut ann).await), [] as [Value; 0]);
    assert_eq!(rooms.viewers(&key("team:1")).await.viewers, 1);
    let mut bob = join(&rooms, "bob", "").await;
    assert_eq!(bob.ask(r#"{"type":"join","room":"team:1"}"#).await["viewers"], 2);
    drop((ann, bob, watcher, other));
    sleep(MINUTE).await;
    assert_eq!(rooms.stats().rooms, 0);
}
