//! Following a cluster: which servers have the slots, again and again.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::{backoff::Backoff, cluster::Nodes, links::Links};

/// The shortest time between two questions about the slots: a slot that moves is heard of many times.
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps the links as the cluster is, for ever.
pub(super) async fn follow(links: Arc<Links>, nodes: Arc<Nodes>) {
    let shared = &links.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        let asked = Instant::now();
        match nodes.ask().await {
            Ok(view) => links.set(&view),
            Err(fault) => shared.status.unmapped(fault),
        }
        let pause = if shared.status.is_up() {
            backoff = Backoff::new(&shared.limits);
            shared.limits.topology_interval
        } else {
            // A link that does not come up is another server's now, perhaps.
            shared.limits.first_backoff + backoff.pause(Duration::ZERO)
        };
        tokio::select! {
            () = nodes.doubted() => sleep_until(asked + PAUSE).await,
            () = sleep(pause) => {}
        }
    }
}
