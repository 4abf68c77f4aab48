//! Pages that come and go while Redis and the network fail in any order: nothing is missing without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "../../rooms-core/tests/support/page.rs"]
mod page;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "../../rooms-core/tests/support/rig.rs"]
mod rig;
#[path = "../../rooms-core/tests/support/talk.rs"]
mod talk;

use std::time::Duration;

use rooms_core::{BroadcastError, bus::BusError};
use tokio::time::{Instant, sleep};

use dice::Dice;
use faults::{Stored, fault};
use fleet::{Node, key, quick};
use page::{Page, Truth};
use proxy::{Link, Proxy};
use redis_server::{PATIENCE, RedisServer, size};

const ROOM: &str = "log:42";

/// Faults in one run, and looks of each page between two of them.
const FAULTS: usize = 12;
const LOOKS: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_a_page_misses_nothing_without_a_word() {
    for seed in 0..size(2, 50) {
        println!("run {seed}");
        run(Dice(seed)).await;
    }
}

async fn run(mut dice: Dice) {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Proxy::before(redis.port).await;
    let nodes = [Node::start(quick(proxy.url())).await, Node::start(quick(redis.url())).await];
    let mut pages: Vec<Page> = (0..6).map(|_| Page::default()).collect();
    let (mut truth, mut number) = (Truth { epochs_follow: true, ..Truth::default() }, 0);
    for _ in 0..FAULTS {
        fault(&mut dice, &mut redis, std::slice::from_ref(&proxy), 1_200, Stored::MayGo).await;
        for _ in 0..LOOKS {
            for _ in 0..dice.below(4) {
                number += 1;
                match dice.of(&nodes).rooms.broadcast(&key(ROOM), &number).await {
                    Ok(receipt) => _ = truth.published.insert(receipt.position.unwrap(), number),
                    Err(BroadcastError::Bus { source: BusError::Unknown(_), .. }) => _ = truth.perhaps.insert(number),
                    Err(_) => {}
                }
            }
            let page = dice.below(pages.len() as u64) as usize;
            match pages[page].talk {
                None => pages[page].join(&dice.of(&nodes).rooms, ROOM, dice.below(3) as usize),
                Some(_) if dice.below(3) == 0 => pages[page].go(),
                Some(_) => {}
            }
            sleep(dice.millis(30)).await;
            pages.iter_mut().for_each(|page| page.look(&truth));
        }
    }
    proxy.set(Link::Open);
    let deadline = Instant::now() + PATIENCE;
    while !nodes.iter().all(|node| node.bus.health().connected) {
        assert!(Instant::now() < deadline, "the storm does not end");
        sleep(Duration::from_millis(20)).await;
    }
    // One that is told to fetch is not given what was published before.
    while number == 0 || !pages.iter().all(|page| page.last == Some(number)) {
        assert!(Instant::now() < deadline + PATIENCE, "some page lacks the last message");
        number += 1;
        let last = nodes[1].rooms.broadcast(&key(ROOM), &number).await.unwrap();
        truth.published.insert(last.position.unwrap(), number);
        for page in pages.iter_mut().filter(|page| page.talk.is_none()) {
            page.join(&dice.of(&nodes).rooms, ROOM, 1);
        }
        sleep(Duration::from_millis(200)).await;
        pages.iter_mut().for_each(|page| page.look(&truth));
    }
}
