//! How many there are of each client.

use std::{collections::HashMap, sync::Arc};

use crate::{
    lock::{Mutex, lock},
    network::Network,
    shrink::shrink,
};

/// A number for each client that has one above zero, so there are never more entries than connections. It changes when a
/// connection comes or goes, never when a message does, so one lock serves all.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<HashMap<Network, u32>>);

/// One that is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    counts: Arc<Counts>,
    network: Network,
}

impl Counts {
    /// Counts one more; `false` where there are as many as are allowed.
    pub(crate) fn enter(&self, network: Network, most: usize) -> bool {
        let mut counts = lock(&self.0);
        let there = counts.get(&network).copied().unwrap_or(0);
        let free = (there as usize) < most;
        if free {
            counts.insert(network, there.saturating_add(1));
        }
        free
    }

    /// Counts one less.
    pub(crate) fn leave(&self, network: Network) {
        let mut counts = lock(&self.0);
        let Some(there) = counts.get_mut(&network) else { return };
        *there -= 1;
        if *there == 0 {
            counts.remove(&network);
            shrink(&mut counts);
        }
    }

    /// [`enter`](Self::enter), and [`leave`](Self::leave) when the seat is dropped.
    pub(crate) fn seat(self: &Arc<Self>, network: Network, most: usize) -> Option<Seat> {
        self.enter(network, most).then(|| Seat { counts: Arc::clone(self), network })
    }

    pub(crate) fn count(&self, network: Network) -> usize {
        lock(&self.0).get(&network).map_or(0, |there| *there as usize)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counts.leave(self.network);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn nothing_is_left_of_a_million_addresses() {
        let counts = Arc::new(Counts::default());
        let network = |n: u32| Network::of(IpAddr::V4(Ipv4Addr::from(n)));
        let seats: Vec<_> = (0..1_000_000).map(|n| counts.seat(network(n), 1).expect("a seat")).collect();
        assert!(counts.seat(network(7), 1).is_none());
        assert_eq!(counts.count(network(7)), 1);
        drop(seats);
        let counts = lock(&counts.0);
        assert_eq!(counts.len(), 0);
        assert!(counts.capacity() <= 128, "{}", counts.capacity());
    }
}
