//! The limits on who may connect: by address, by node, and before anybody is authenticated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/visitor.rs"]
mod visitor;

use std::{collections::VecDeque, time::Duration};

use http::{StatusCode, header::RETRY_AFTER};
use rooms_core::{Kind, Proxies, RoomManager, adapter::Refusal};
use serde_json::json;
use tokio::time::{Instant, sleep};

use visitor::{Visitor, admit, builder, builder_with};

/// The status of a refusal, and after how many seconds to come back.
fn told(refused: &Refusal) -> (StatusCode, u64) {
    let response = refused.response();
    let seconds = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    (response.status(), seconds)
}

/// Whether somebody from there is let in.
async fn lets_in(rooms: &RoomManager, peer: &str, more: &[(&'static str, &str)]) -> Result<(), (StatusCode, u64)> {
    admit(rooms, peer, "/?token=5", more).await.map(drop).map_err(|refused| told(&refused))
}

async fn connections(rooms: &RoomManager, count: usize) {
    while rooms.stats().connections != count {
        sleep(Duration::from_millis(1)).await;
    }
}

const TOO_MANY: Result<(), (StatusCode, u64)> = Err((StatusCode::TOO_MANY_REQUESTS, 1));

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_of_an_address_is_told_429_until_another_has_gone() {
    let rooms = builder().limits(|limits| limits.max_connections_per_ip = 2).build().unwrap();
    for (first, same, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.9", "::ffff:192.0.2.9", "192.0.2.8"),
        ("2001:db8:0:1::1", "2001:db8:0:1:8000::2", "2001:db8:0:2::1"),
    ] {
        let one = Visitor::joined(&rooms, first, "a").await;
        let two = Visitor::joined(&rooms, same, "b").await;
        assert_eq!(lets_in(&rooms, same, &[]).await, TOO_MANY);
        assert_eq!(lets_in(&rooms, other, &[]).await, Ok(()));
        drop(one);
        connections(&rooms, 1).await;
        assert_eq!(lets_in(&rooms, first, &[]).await, Ok(()));
        drop(two);
        connections(&rooms, 0).await;
    }
    assert_eq!(rooms.stats().limited, 3);
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_at_the_same_time_as_the_last_one_is_closed_with_4430() {
    let rooms = builder().limits(|limits| limits.max_connections_per_ip = 1).build().unwrap();
    let (one, other) =
        (admit(&rooms, "192.0.2.1", "/?token=a", &[]).await, admit(&rooms, "192.0.2.1", "/?token=b", &[]).await);
    let mut one = Visitor::watching(one.unwrap());
    assert_eq!(one.event().await.unwrap()["type"], "room_joined");
    assert_eq!(Visitor::watching(other.unwrap()).event().await, Err(4430));
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_of_a_node_is_told_503() {
    let rooms = builder().limits(|limits| limits.max_connections = 2).build().unwrap();
    let _one = Visitor::joined(&rooms, "192.0.2.1", "a").await;
    let (two, late) =
        (admit(&rooms, "192.0.2.2", "/?token=b", &[]).await, admit(&rooms, "192.0.2.3", "/?token=c", &[]).await);
    let two = Visitor::watching(two.unwrap());
    connections(&rooms, 2).await;
    assert_eq!(lets_in(&rooms, "192.0.2.3", &[]).await, Err((StatusCode::SERVICE_UNAVAILABLE, 1)));
    assert_eq!(Visitor::watching(late.unwrap()).event().await, Err(1013), "it was let in before");
    drop(two);
    connections(&rooms, 1).await;
    assert_eq!(lets_in(&rooms, "192.0.2.3", &[]).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn upgrades_of_one_address_come_at_a_rate() {
    let rooms = builder()
        .limits(|limits| (limits.connects_per_second_per_ip, limits.connect_burst_per_ip) = (2, 10))
        .build()
        .unwrap();
    let come = async |uri| {
        let mut let_in = 0;
        while let_in < 100 && admit(&rooms, "192.0.2.1", uri, &[]).await.is_ok() {
            let_in += 1;
        }
        let_in
    };
    assert_eq!(come("/?token=bad").await, 10, "bad ones count, too");
    assert_eq!(lets_in(&rooms, "192.0.2.1", &[]).await, TOO_MANY);
    assert_eq!(lets_in(&rooms, "192.0.2.2", &[]).await, Ok(()));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(come("/?token=5").await, 4);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(come("/?token=5").await, 10);
}

#[tokio::test(start_paused = true)]
async fn three_hundred_connects_a_second_of_one_address_are_cut_to_the_rate_and_a_member_loses_nothing() {
    // A room that names its members: each who comes or goes is told to all of them, with 200 bytes.
    let rooms = builder_with(Kind::authenticated().list_members()).build().unwrap();
    let mut neighbour = Visitor::joined(&rooms, "192.0.2.1", "neighbour").await;
    let name = "n".repeat(198);
    let (mut come, mut refused, mut there) = (0, 0, VecDeque::new());
    for second in 0..10 {
        for n in 0..300 {
            if n % 3 == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            match admit(&rooms, "198.51.100.1", &format!("/?token={name}{}", n % 100), &[]).await {
                Ok(admission) => {
                    // Each stays for a sixth of a second.
                    there.push_back(Visitor::watching(admission));
                    if there.len() > 50 {
                        there.pop_front();
                    }
                    come += 1;
                }
                Err(refusal) => {
                    assert_eq!(told(&refusal).0, StatusCode::TOO_MANY_REQUESTS);
                    refused += 1;
                }
            }
        }
        rooms.broadcast(&"post:42".parse().unwrap(), &json!({"n": second})).await.unwrap();
        assert_eq!(neighbour.payload().await, json!({"n": second}));
    }
    assert!((1_490..=1_510).contains(&come), "a thousand, and fifty a second: {come}, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_forged_header_gives_nobody_another_address() {
    let limits = |limits: &mut rooms_core::Limits| limits.max_connections_per_ip = 1;
    let nobody = builder().limits(limits).build().unwrap();
    let named = Proxies::x_forwarded_for(["10.0.0.0/8"]).unwrap();
    let named = builder().limits(limits).proxies(named).build().unwrap();
    for (rooms, peer) in [(&nobody, "192.0.2.1"), (&nobody, "127.0.0.1"), (&named, "192.0.2.1")] {
        let _one = Visitor::joined(rooms, peer, "a").await;
        for forged in
            [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7"), ("x-real-ip", "203.0.113.7")]
        {
            assert_eq!(lets_in(rooms, peer, &[forged]).await, TOO_MANY, "{peer} {forged:?}");
        }
        // And nobody can take another's places.
        assert_eq!(lets_in(rooms, "203.0.113.7", &[("x-forwarded-for", peer)]).await, Ok(()));
    }
    connections(&named, 0).await;
    // Through a proxy that is named, what the client wrote stands left of what the proxy did.
    let through = |forwarded| [("x-forwarded-for", forwarded)];
    let one = admit(&named, "10.0.0.1", "/?token=a", &through("198.51.100.1")).await.unwrap();
    let _one = Visitor::watching(one);
    connections(&named, 1).await;
    assert_eq!(lets_in(&named, "10.0.0.2", &through("203.0.113.7, 198.51.100.1, 10.0.0.3")).await, TOO_MANY);
    assert_eq!(
        lets_in(&named, "10.0.0.1", &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "198.51.100.1")]).await,
        TOO_MANY
    );
    assert_eq!(lets_in(&named, "10.0.0.1", &through("198.51.100.1, 203.0.113.7")).await, Ok(()));
    assert_eq!(
        lets_in(&named, "10.0.0.1", &[("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "198.51.100.1")]).await,
        TOO_MANY
    );
}

#[tokio::test(start_paused = true)]
async fn two_thousand_sockets_that_say_nothing_keep_out_nobody_who_has_a_token_and_are_closed_in_time() {
    let rooms = builder().build().unwrap();
    let mut neighbour = Visitor::joined(&rooms, "192.0.2.1", "neighbour").await;
    let start = Instant::now();
    let (mut silent, mut refused) = (Vec::new(), Vec::new());
    for n in 0..2_000 {
        match admit(&rooms, &format!("198.51.100.{}", n % 16), "/", &[]).await {
            Ok(admission) => silent.push(Visitor::watching(admission)),
            Err(refusal) => refused.push(told(&refusal)),
        }
    }
    assert_eq!((silent.len(), refused.len()), (1_000, 1_000));
    assert!(refused.contains(&(StatusCode::SERVICE_UNAVAILABLE, 1)), "the node's places");
    assert_eq!(lets_in(&rooms, "192.0.2.7", &[]).await, Ok(()), "one with a token");
    for n in 0..100 {
        rooms.broadcast(&"post:42".parse().unwrap(), &json!({"n": n})).await.unwrap();
        assert_eq!(neighbour.payload().await, json!({"n": n}));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    for mut visitor in silent {
        assert_eq!(visitor.event().await, Err(4408));
    }
    assert_eq!(start.elapsed(), rooms.limits().first_message_timeout);
    sleep(Duration::from_secs(30)).await;
    assert!(admit(&rooms, "198.51.100.1", "/", &[]).await.is_ok(), "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_sockets_that_are_not_authenticated() {
    let rooms = builder().limits(|limits| limits.max_unauthenticated_per_ip = 3).build().unwrap();
    let mut silent = Vec::new();
    for uri in ["/", "/?token=bad", "/?token=bad"] {
        // Who has a bad token and does not answer the close frame has its place until it is given up.
        silent.push(Visitor::watching(admit(&rooms, "192.0.2.1", uri, &[]).await.unwrap()));
    }
    assert_eq!(lets_in(&rooms, "192.0.2.1", &[]).await, TOO_MANY);
    assert_eq!(lets_in(&rooms, "192.0.2.2", &[]).await, Ok(()));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(lets_in(&rooms, "192.0.2.1", &[]).await, Ok(()));
    // Who is authenticated is none of them.
    for n in 0..5 {
        silent.push(Visitor::joined(&rooms, "192.0.2.1", &format!("u{n}")).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_told_over_http_where_too_many_are_told_by_a_close_frame() {
    let rooms = builder().limits(|limits| limits.max_unauthenticated = 2).build().unwrap();
    let bad = async || admit(&rooms, "192.0.2.1", "/?token=bad", &[]).await;
    let told = [Visitor::watching(bad().await.unwrap()), Visitor::watching(bad().await.unwrap())];
    assert_eq!(bad().await.unwrap_err(), Refusal::Token);
    assert!(admit(&rooms, "192.0.2.1", "/", &[]).await.is_ok(), "they take no place of one who may have a good one");
    for mut visitor in told {
        assert_eq!(visitor.event().await, Err(1008));
    }
    sleep(Duration::from_secs(60)).await;
    assert!(bad().await.is_ok());
}
