//! How many there are of each client.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

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
        match lock(&self.0).entry(network) {
            Entry::Occupied(there) if *there.get() as usize >= most => false,
            Entry::Occupied(mut there) => {
                *there.get_mut() += 1;
                true
            }
            Entry::Vacant(_) if most == 0 => false,
            Entry::Vacant(none) => {
                none.insert(1);
                true
            }
        }
    }

    /// Counts one less.
    pub(crate) fn leave(&self, network: Network) {
        let mut counts = lock(&self.0);
        let Entry::Occupied(mut there) = counts.entry(network) else { return };
        *there.get_mut() -= 1;
        if *there.get() == 0 {
            there.remove();
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
