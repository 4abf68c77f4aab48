//! Maps in shards, and the memory that a map keeps after its entries are gone.

use std::{collections::HashMap, hash::Hash};

use hashbrown::HashTable;

/// Below this a map may be as empty as it likes: some KiB, and a node has a few hundred maps.
const KEPT: usize = 64;

/// Gives back what a map has kept from a time when it was eight times as full. To be called after a removal: what it
/// costs is spread over those that made the map so empty.
pub(crate) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if is_too_large(map.len(), map.capacity()) {
        map.shrink_to(2 * map.len());
    }
}

/// [`shrink`], for a table whose entries are found by this hash of theirs.
pub(crate) fn shrink_table<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if is_too_large(table.len(), table.capacity()) {
        table.shrink_to(2 * table.len(), hash);
    }
}

/// In which of so many shards an entry is that is found there by the same hash. By bits from the middle: a table goes by the
/// lowest and the highest ones, and entries that all have the same of these would lie in each other's way.
pub(crate) const fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize % shards
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
