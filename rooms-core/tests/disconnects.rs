//! Connections that are ended on all nodes: a user's, those of a session, and one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/board.rs"]
mod board;
#[path = "support/log.rs"]
#[allow(dead_code, reason = "this file uses a part of it")]
mod log;
#[path = "support/rig.rs"]
mod rig;

use std::time::{Duration, SystemTime};

use futures::{FutureExt as _, channel::mpsc};
use rooms_core::{Close, CloseCode, ConnectionId, Kind, OrderError, Reach, Revocation, testing::fleet::Fleet};
use serde_json::{Value, json};
use tokio::time::sleep;

use board::{App, Nodes, Talk, claims, id_of, settle};
use rig::{Inbox, idle, key, who};

#[tokio::test(start_paused = true)]
async fn a_user_is_disconnected_on_all_nodes_after_what_was_said_before() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let mut talks: Vec<_> = (0..3).map(|node| Talk::multi(&nodes, node, who("b"))).collect();
    let mut other = Talk::multi(&nodes, 1, who("bb"));
    for talk in talks.iter_mut().chain([&mut other]) {
        talk.join("board:7").await;
    }
    settle().await;
    let close = Close::new(CloseCode::new(4000).unwrap(), "bye");
    assert_eq!(nodes.node(2).disconnect_user("b", close.clone()).await.unwrap(), Reach::AllNodes);
    for talk in &mut talks {
        assert_eq!(talk.inbox.close().await, close);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 1, "without the grace");
    assert!(!other.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_one_session_are_found_by_a_claim() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let session = |node, user, sid: Value| Talk::multi(&nodes, node, claims(user, &json!({"sid": sid})));
    let mut ended = [session(0, "a", json!("x")), session(1, "a", json!("x")), session(1, "b", json!("x"))];
    let stay = [session(0, "a", json!("y")), session(1, "a", json!(["x"])), Talk::multi(&nodes, 1, who("a"))];
    settle().await;
    nodes.node(0).disconnect_where("sid", "x", Close::NOT_ALLOWED).await.unwrap();
    for talk in &mut ended {
        assert_eq!(talk.inbox.close().await, Close::NOT_ALLOWED);
    }
    settle().await;
    assert!(stay.iter().all(|talk| !talk.ended.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_sent_to_and_ended_from_any_node() {
    let app = App::default();
    let nodes: Nodes = Fleet::new(3, |_, node| {
        let me = Kind::authenticated().on_join(|member| async move { Ok(json!({"me": member.connection()})) });
        app.kinds(node).kind("me", me)
    });
    settle().await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    let mut other = Talk::multi(&nodes, 0, who("b"));
    let id = id_of(&mut talk).await;
    for from in 0..3 {
        assert_eq!(nodes.node(from).send_to(id, &json!({"n": from})).await.unwrap(), Reach::AllNodes);
        assert_eq!(talk.inbox.next().await, json!({"type": "message", "data": {"n": from}}));
    }
    let ((_send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
    _ = tokio::spawn(nodes.node(1).serve_room(stream, sink, who("c"), key("me:1")));
    let mut single = Inbox(receiver);
    let single_id: ConnectionId = single.next().await["me"].as_str().unwrap().parse().unwrap();
    nodes.node(2).send_to(single_id, &json!({"type": "bare"})).await.unwrap();
    assert_eq!(single.next().await["type"], "bare");

    nodes.node(2).disconnect(id, Close::NORMAL).await.unwrap();
    assert_eq!(talk.inbox.close().await, Close::NORMAL);
    talk.ended.await.unwrap();
    idle().await;
    let gone = nodes.node(0).send_to(id, &1).await;
    assert!(matches!(gone, Err(OrderError::NoConnection { connection }) if connection == id), "this node knows");
    assert!(matches!(nodes.node(0).disconnect(id, Close::NORMAL).await, Err(OrderError::NoConnection { .. })));
    assert_eq!(nodes.node(1).send_to(id, &1).await.unwrap(), Reach::AllNodes, "another one can't know");
    assert!(other.others().await.is_empty());
}

/// Calls of `disconnect_where` that wait, as none of the node's tasks has run since.
fn fill(nodes: &Nodes, node: usize) {
    for sid in 0..1_024 {
        let call = nodes.node(node).disconnect_where("sid", sid, Close::NOT_ALLOWED);
        assert_eq!(call.now_or_never().unwrap().unwrap(), Reach::AllNodes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_does_not_wait_for_the_searches_that_wait() {
    for revocation in [
        Revocation::Jti("x".into()),
        Revocation::IssuedBefore { time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000), user: None },
    ] {
        let nodes = App::default().nodes(1).await;
        let of = |user, all: Value| Talk::multi(&nodes, 0, claims(user, &all));
        let mut revoked = of("a", json!({"jti": "x", "iat": 1}));
        let mut second = of("b", json!({"sid": 1, "iat": 2_000}));
        settle().await;
        fill(&nodes, 0);
        assert_eq!(nodes.node(0).revoke(revocation).now_or_never().unwrap().unwrap(), Reach::AllNodes);
        assert_eq!(revoked.inbox.close().await, Close::REVOKED);
        assert!(second.inbox.0.try_recv().is_err(), "the first of those searches has not ended");
        assert_eq!(second.inbox.close().await, Close::NOT_ALLOWED);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_where_that_finds_no_place_is_an_error_and_a_line_on_another_node() {
    let nodes = App::default().nodes(2).await;
    let mut talk = Talk::multi(&nodes, 1, claims("a", &json!({"sid": "x"})));
    settle().await;
    let log = log::Log::start();
    // The other node does not hear of these.
    nodes.faults(0).cut();
    fill(&nodes, 1);
    nodes.faults(0).mend();
    let call = |node: usize| nodes.node(node).disconnect_where("sid", "x", Close::NORMAL);
    let error = call(1).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "1024 calls of `disconnect_where` wait on this node, and no more may");
    // What waits already is no further one.
    let again = nodes.node(1).disconnect_where("sid", 7, Close::NOT_ALLOWED);
    assert_eq!(again.now_or_never().unwrap().unwrap(), Reach::AllNodes);
    assert_eq!(log.lines(), [] as [String; 0]);
    for _ in 0..3 {
        assert_eq!(call(0).now_or_never().unwrap().unwrap(), Reach::AllNodes);
    }
    assert!(log.line().contains("`disconnect_where` did nothing on this node: too many wait limit=1024"));

    settle().await;
    assert!(!talk.ended.is_finished(), "nothing was done");
    call(0).await.unwrap();
    assert_eq!(talk.inbox.close().await, Close::NORMAL);
}
