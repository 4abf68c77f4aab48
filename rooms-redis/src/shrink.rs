//! Memory that a collection keeps after what was in it is gone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

/// Below this a collection may be as empty as it likes: some KiB.
const KEPT: usize = 64;

/// What keeps the memory of its fullest time.
pub(crate) trait Shrink {
    fn room(&self) -> usize;
    fn used(&self) -> usize;
    fn shrink(&mut self, room: usize);

    /// Gives back what is kept from a time when it was eight times as full. To be called after a removal: what it costs is
    /// spread over those that made the collection so empty.
    fn shrink_to_use(&mut self) {
        if self.room() > KEPT && self.used() < self.room() / 8 {
            self.shrink(2 * self.used());
        }
    }
}

impl<K: Eq + Hash, V> Shrink for HashMap<K, V> {
    fn room(&self) -> usize {
        self.capacity()
    }

    fn used(&self) -> usize {
        self.len()
    }

    fn shrink(&mut self, room: usize) {
        self.shrink_to(room);
    }
}

impl<T: Eq + Hash> Shrink for HashSet<T> {
    fn room(&self) -> usize {
        self.capacity()
    }

    fn used(&self) -> usize {
        self.len()
    }

    fn shrink(&mut self, room: usize) {
        self.shrink_to(room);
    }
}

impl<T> Shrink for VecDeque<T> {
    fn room(&self) -> usize {
        self.capacity()
    }

    fn used(&self) -> usize {
        self.len()
    }

    fn shrink(&mut self, room: usize) {
        self.shrink_to(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_small<T: Shrink>(all: &T) -> bool {
        all.room() <= KEPT.max(16 * all.used())
    }

    #[test]
    fn a_collection_that_was_full_once_is_small_again() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|n| (n, n)).collect();
        let mut set: HashSet<usize> = (0..100_000).collect();
        let mut queue: VecDeque<usize> = (0..100_000).collect();
        for n in 0..100_000 {
            map.remove(&n);
            set.remove(&n);
            queue.pop_front();
            map.shrink_to_use();
            set.shrink_to_use();
            queue.shrink_to_use();
            assert!(is_small(&map) && is_small(&set) && is_small(&queue), "with {} left", map.len());
        }
    }
}
