//! Memory that a map keeps after its entries are gone.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Below this a map may be as empty as it likes: some KiB, and a node has a few hundred maps.
const KEPT: usize = 64;

/// Gives back what a map has kept from a time when it was eight times as full. To be called after a removal: what it
/// costs is spread over those that made the map so empty.
pub(crate) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if is_too_large(map.len(), map.capacity()) {
        map.shrink_to(2 * map.len());
    }
}

/// [`shrink`], for a set.
pub(crate) fn shrink_set<K: Eq + Hash>(set: &mut HashSet<K>) {
    if is_too_large(set.len(), set.capacity()) {
        set.shrink_to(2 * set.len());
    }
}

const fn is_too_large(len: usize, capacity: usize) -> bool {
    capacity > KEPT && len < capacity / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_was_full_once_is_small_again() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|n| (n, n)).collect();
        for n in 0..100_000 {
            map.remove(&n);
            shrink(&mut map);
            assert!(map.capacity() <= KEPT.max(16 * map.len()), "{} for {}", map.capacity(), map.len());
        }
        assert!(map.capacity() <= KEPT, "{}", map.capacity());
    }
}
