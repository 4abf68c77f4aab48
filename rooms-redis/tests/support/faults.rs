//! Faults of Redis and of the network, as dice choose them.

use tokio::time::sleep;

use crate::{
    dice::Dice,
    proxy::{Link, Proxy},
    redis_server::RedisServer,
};

/// Whether somebody deletes what Redis has stored, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test file uses its part")]
pub(crate) enum Stored {
    Stays,
    MayGo,
}

/// One fault, of up to so many milliseconds, from its beginning to its end.
pub(crate) async fn fault(dice: &mut Dice, redis: &mut RedisServer, proxies: &[Proxy], most: u64, stored: Stored) {
    let long = dice.millis(most);
    match dice.below(if stored == Stored::MayGo { 9 } else { 7 }) {
        0 => {
            redis.kill();
            sleep(long / 2).await;
            redis.restart().await;
        }
        1 => {
            redis.freeze();
            sleep(long).await;
            redis.thaw();
        }
        2 => _ = redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
        3 => _ = redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await,
        4 => dice.of(proxies).cut(),
        7 => _ = redis.cli(&["FLUSHALL"]).await,
        8 => _ = redis.cli(&["SCRIPT", "FLUSH"]).await,
        _ => {
            let link = *dice.of(&[Link::Stalled, Link::Mute, Link::HidesTheEnd, Link::HalfClosed]);
            let proxy = dice.of(proxies);
            // Also for the connections that are made meanwhile, or only for those that there are.
            if dice.below(2) == 0 {
                proxy.set(link)
            } else {
                proxy.set_present(link)
            }
            sleep(long).await;
            if dice.below(2) == 0 {
                // Behind the back of who was left in the dark.
                _ = redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
            proxy.set(Link::Open);
        }
    }
}
