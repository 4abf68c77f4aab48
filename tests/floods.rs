//! Clients that connect, say and ask for as much as they can, over bare TCP behind both adapters: a neighbour in the room loses
//! nothing, and is told all of its messages while the flood goes on. The numbers of a second are those of `rates` and
//! `addresses` of `rooms-core`, whose clock stands still.
//!
//! `ROOMS_LONG_TESTS=1` has the floods as long as they were measured, and looks at how long the neighbour waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/neighbour.rs"]
mod neighbour;
#[path = "support/served.rs"]
mod served;
#[path = "support/stranger.rs"]
mod stranger;
#[path = "support/tokens.rs"]
mod tokens;

use std::{collections::VecDeque, time::Duration};

use rooms::{Limits, Proxies};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use neighbour::{Neighbour, is_long};
use served::{BOTH, PATIENCE, Served};
use stranger::{
    Answer::{Closed, Joined, Refused},
    Stranger, frame,
};
use tokens::token;

/// The `ref` of the last command of a flood.
const LAST: &str = "999999";

fn text(command: &serde_json::Value) -> Vec<u8> {
    frame(0x81, command.to_string().as_bytes())
}

/// What one connection says at once, by what it is: each is more than it may say while the neighbour is told something.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let many = |count: usize, command: &dyn Fn(usize) -> Vec<u8>| (0..count).flat_map(command).collect::<Vec<_>>();
    let room = |n: usize| format!("post:{}", n / 2);
    let refresh = token("flood");
    let mut fragments = frame(0x01, b"");
    (0..998).for_each(|_| fragments.extend(frame(0x00, b"")));
    fragments.extend(frame(0x80, b""));
    vec![
        ("joins", many(5_000, &|n| text(&json!({"type": if n % 2 == 0 { "join" } else { "leave" }, "room": room(n)})))),
        ("refreshes", many(5_000, &|_| text(&json!({"type": "refresh", "token": refresh})))),
        (
            "publishes",
            many(5_000, &|n| text(&json!({"type": "publish", "room": "post:42", "data": "x".repeat(1024), "ref": n}))),
        ),
        ("pings", many(60_000, &|_| frame(0x89, &[b'x'; 125]))),
        ("empty fragments", fragments.repeat(2_000)),
        ("what is no JSON", many(5_000, &|_| frame(0x81, b"{"))),
        ("what is no command", many(5_000, &|n| text(&json!({"type": "dance", "room": "post:42", "ref": n})))),
    ]
}

/// Reads until the flood has its last answer, or is closed.
fn ends(mut stranger: Stranger, said: Vec<u8>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (mut reads, mut writes) = stranger.stream.split();
        let reading = async {
            let (mut read, mut buffer) = (Vec::<u8>::new(), vec![0; 64 * 1024]);
            while let Ok(length @ 1..) = reads.read(&mut buffer).await {
                // With the end of what came before, where the last answer may begin.
                read.drain(..read.len().saturating_sub(LAST.len()));
                read.extend(&buffer[..length]);
                if read.windows(LAST.len()).any(|text| text == LAST.as_bytes()) {
                    return;
                }
            }
        };
        tokio::join!(reading, async { _ = writes.write_all(&said).await });
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_one_connection_is_read_no_faster_than_it_may_and_the_neighbour_is_told_everything_meanwhile() {
    for adapter in BOTH {
        let service = Served::start(adapter, Vec::new(), |builder| builder).await;
        for (what, mut said) in floods() {
            let limited = service.rooms.stats().limited;
            let mut neighbour = Neighbour::join(&service).await;
            let mut stranger =
                Stranger::asks(service.address, 2, &format!("/posts/all?token={}", token("flood")), "").await;
            assert_eq!(stranger.upgraded().await, 101);
            stranger.says(&text(&json!({"type": "join", "room": "post:42"}))).await;
            stranger.reads("room_joined", 1).await;
            said.extend(text(&json!({"type": "dance", "room": "post:42", "ref": 999_999})));
            let flood = ends(stranger, said);
            for _ in 0..if is_long() { 1_000 } else { 50 } {
                neighbour.is_told(what).await;
            }
            // It is told that it says too much, and begins to wait.
            let told = async {
                while service.rooms.stats().limited == limited {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{adapter:?}: {what} are not too many"));
            // All of that came before the flood had its last answer.
            assert!(!flood.is_finished(), "{adapter:?}: {what} are all answered");
            flood.abort();
            neighbour.leaves(&format!("{adapter:?}, {what}"));
            service.connections(0).await;
            // Until the user may publish again.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_sockets_that_never_say_who_they_are_keep_out_nobody_who_does() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    for adapter in BOTH {
        // None is closed while the others come.
        let patient = |limits: &mut Limits| limits.first_message_timeout = 10 * PATIENCE;
        let service = Served::start(adapter, Vec::new(), move |builder| builder.limits(patient)).await;
        let mut neighbour = Neighbour::join(&service).await;
        let (mut silent, mut refused) = (Vec::new(), 0);
        for n in 0..2_000 {
            let mut stranger = Stranger::asks(service.address, 10 + (n % 16) as u8, "/posts/42", "").await;
            match stranger.upgraded().await {
                101 => silent.push(stranger),
                429 | 503 => refused += 1,
                other => panic!("{adapter:?}: {other}"),
            }
            if n % 50 == 0 {
                neighbour.is_told("sockets that say nothing").await;
            }
        }
        assert_eq!((silent.len(), refused), (1_000, 1_000), "{adapter:?}");
        let newcomer = format!("/posts/42?token={}", token("newcomer"));
        assert_eq!(Stranger::asks(service.address, 3, &newcomer, "").await.answer().await, Joined);
        neighbour.leaves(&format!("{adapter:?}, silent sockets"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_gives_nobody_another_address_and_costs_a_neighbour_nothing() {
    for adapter in BOTH {
        let one = |limits: &mut Limits| limits.max_connections_per_ip = 1;
        let service = Served::start(adapter, Vec::new(), move |builder| {
            builder.limits(one).proxies(Proxies::x_forwarded_for(["127.0.0.9"]).unwrap())
        })
        .await;
        let mut neighbour = Neighbour::join(&service).await;
        let target = format!("/posts/42?token={}", token("5"));
        let forwarded = |chain: &str| format!("X-Forwarded-For: {chain}\r\n");
        // In each pair the first takes the only place of an address.
        for (what, (from, headers), (again, forged)) in [
            ("nobody's proxy", (2, String::new()), (2, forwarded("203.0.113.7"))),
            ("in the other form", (2, String::new()), (2, "Forwarded: for=203.0.113.7\r\n".to_owned())),
            ("and another", (2, String::new()), (2, "X-Real-IP: 203.0.113.7\r\n".to_owned())),
            ("left of the proxy's", (9, forwarded("198.51.100.1")), (9, forwarded("203.0.113.7, 198.51.100.1"))),
            (
                "in a line of its own",
                (9, forwarded("198.51.100.1")),
                (9, forwarded("203.0.113.7") + &forwarded("198.51.100.1")),
            ),
            (
                "in the form that the proxy does not write",
                (9, forwarded("198.51.100.1")),
                (9, format!("Forwarded: for=203.0.113.7\r\n{}", forwarded("198.51.100.1"))),
            ),
        ] {
            let mut first = Stranger::asks(service.address, from, &target, &headers).await;
            assert_eq!(first.answer().await, Joined, "{adapter:?}, {what}");
            neighbour.is_told(what).await;
            let mut forger = Stranger::asks(service.address, again, &target, &forged).await;
            neighbour.is_told(what).await;
            assert_eq!(forger.answer().await, Refused(429), "{adapter:?}, {what}");
            assert!(forger.reads("\r\n\r\n", 1).await.to_lowercase().contains("\r\nretry-after: 1\r\n"));
            // Nor can it take the place of another.
            let taken = forwarded("127.0.0.4");
            let mut other = Stranger::asks(service.address, 5, &target, &taken).await;
            assert_eq!(other.answer().await, Joined, "{adapter:?}, {what}");
            let mut owner = Stranger::asks(service.address, 4, &target, "").await;
            assert_eq!(owner.answer().await, Joined, "{adapter:?}, {what}");
            drop((first, other, owner));
            service.connections(1).await;
            neighbour.is_told(what).await;
        }
        neighbour.leaves(&format!("{adapter:?}, forged headers"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_connects_a_second_with_long_names_cost_a_neighbour_nothing() {
    for adapter in BOTH {
        let service = Served::start(adapter, Vec::new(), |builder| builder).await;
        let mut neighbour = Neighbour::join(&service).await;
        let targets: Vec<_> = (0..100).map(|n| format!("/posts/42?token={}", token(&format!("{n:n>200}")))).collect();
        let mut tick = interval(Duration::from_secs(1) / 300);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut there, mut refused, begun) = (VecDeque::new(), 0, Instant::now());
        let count = if is_long() { 3_000 } else { 1_200 };
        for n in 0..count {
            if is_long() {
                tick.tick().await;
            }
            let mut stranger = Stranger::asks(service.address, 2, &targets[n % 100], "").await;
            if n % 10 == 0 {
                neighbour.is_told("connects").await;
            }
            match stranger.answer().await {
                Joined => there.push_back(stranger),
                answer => {
                    assert_eq!(answer, Refused(429));
                    refused += 1;
                }
            }
            // Each stays for a sixth of a second.
            if there.len() > 50 {
                there.pop_front();
            }
        }
        // A thousand at once, and fifty a second.
        let let_in = count - refused;
        let most = 1_000 + 50 * (1 + begun.elapsed().as_secs() as usize);
        assert!((1_000..=most).contains(&let_in), "{adapter:?}: {let_in} in {:?}", begun.elapsed());
        neighbour.leaves(&format!("{adapter:?}, {count} connects in {:?}, {refused} of them refused", begun.elapsed()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_six_hundred_new_rooms_a_second_by_one_client_cost_a_neighbour_nothing() {
    const CONNECTIONS: usize = 100;
    const EACH: usize = 36;
    for adapter in BOTH {
        let service = Served::start(adapter, Vec::new(), |builder| builder).await;
        let mut neighbour = Neighbour::join(&service).await;
        let target = format!("/posts/all?token={}", token("flood"));
        let mut flood = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stranger = Stranger::asks(service.address, 2, &target, "").await;
            assert_eq!(stranger.upgraded().await, 101);
            flood.push(stranger);
        }
        let mut tick = interval(Duration::from_secs(1));
        let (seconds, begun) = (if is_long() { 3 } else { 1 }, Instant::now());
        for second in 0..seconds {
            tick.tick().await;
            for (connection, stranger) in flood.iter_mut().enumerate() {
                let join = |n| json!({"type": "join", "room": format!("post:{second}-{connection}-{n}"), "ref": n});
                stranger.says(&(0..EACH).flat_map(|n| text(&join(n))).collect::<Vec<_>>()).await;
                if connection % 2 == 0 {
                    neighbour.is_told("new rooms").await;
                }
            }
            // Each has its answer.
            for stranger in &mut flood {
                stranger.reads(r#""ref":"#, EACH * (second + 1)).await;
                neighbour.is_told("new rooms").await;
            }
        }
        let (rooms, most) = (service.rooms.stats().rooms, 1 + 512 + 20 * (1 + begun.elapsed().as_secs() as usize));
        assert!((513..=most).contains(&rooms), "{adapter:?}: {rooms} rooms in {:?}", begun.elapsed());
        let tried = CONNECTIONS * EACH * seconds;
        neighbour.leaves(&format!("{adapter:?}, {tried} new rooms in {:?}", begun.elapsed()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_with_bad_tokens_keeps_no_good_one_out() {
    for adapter in BOTH {
        let service = Served::start(adapter, Vec::new(), |builder| builder).await;
        let mut neighbour = Neighbour::join(&service).await;
        // They do not read their close frames.
        let mut crowd = Vec::new();
        for n in 0..200 {
            let mut stranger = Stranger::asks(service.address, 2, "/posts/42?token=bad", "").await;
            match stranger.answer().await {
                Closed(1008) => crowd.push(stranger),
                answer => assert_eq!(answer, Refused(429), "{adapter:?}"),
            }
            if n % 10 == 0 {
                neighbour.is_told("bad tokens").await;
            }
        }
        assert!(crowd.len() >= 100, "{adapter:?}: {}", crowd.len());
        let good = format!("/posts/42?token={}", token("newcomer"));
        let newcomer = timeout(PATIENCE, async { Stranger::asks(service.address, 3, &good, "").await.answer().await });
        assert_eq!(newcomer.await.unwrap(), Joined);
        neighbour.leaves(&format!("{adapter:?}, bad tokens"));
    }
}
