//! Who is to be woken when, in the order of the times.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::Moment;
use crate::outbox::Recipient;

/// Places in one chunk, and one more before it is divided: so a chunk has at most 1 KiB.
const CHUNK: usize = 63;
/// A chunk that has become so small is put together with a neighbour that has space for it.
const FEW: usize = CHUNK / 4;

/// Places in their order, in chunks of a sorted tree.
///
/// Most connections ask for the same time from now, so most places come last. A chunk is full then, and a place takes 18
/// bytes; a `BTreeSet` divides its nodes, which are small, in the middle, and takes 34.
#[derive(Default)]
pub(super) struct Places {
    /// By the least key that each may have. None is empty.
    chunks: BTreeMap<Key, Vec<Place>>,
}

/// A recipient has one place at most.
pub(super) struct Place {
    pub(super) at: Moment,
    pub(super) recipient: Arc<Recipient>,
}

/// The time and the address of the recipient, which tells it from others of the same time.
type Key = (Moment, usize);

impl Place {
    fn key(&self) -> Key {
        key(self.at, &self.recipient)
    }
}

fn key(at: Moment, recipient: &Arc<Recipient>) -> Key {
    (at, Arc::as_ptr(recipient).addr())
}

impl Places {
    pub(super) fn first(&self) -> Option<Moment> {
        self.chunks.values().next()?.first().map(|place| place.at)
    }

    pub(super) fn insert(&mut self, place: Place) {
        let key = place.key();
        if self.chunks.first_key_value().is_none_or(|(least, _)| key < *least) {
            let first = self.chunks.pop_first().map(|(_, chunk)| chunk).unwrap_or_default();
            self.chunks.insert(key, first);
        }
        let Some((_, chunk)) = self.chunks.range_mut(..=key).next_back() else { return };
        let at = chunk.partition_point(|other| other.key() < key);
        chunk.insert(at, place);
        if chunk.len() > CHUNK {
            let rest = chunk.split_off(if at == CHUNK { CHUNK } else { CHUNK / 2 });
            if let Some(least) = rest.first().map(Place::key) {
                self.chunks.insert(least, rest);
            }
        }
    }

    pub(super) fn remove(&mut self, at: Moment, recipient: &Arc<Recipient>) {
        let key = key(at, recipient);
        let Some((least, chunk)) = self.chunks.range_mut(..=key).next_back() else { return };
        let Ok(at) = chunk.binary_search_by_key(&key, Place::key) else { return };
        chunk.remove(at);
        if chunk.len() < FEW {
            let least = *least;
            self.put_together(least);
        }
    }

    /// Takes out those whose time has come.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Place> {
        let mut due = Vec::new();
        while let Some(mut first) = self.chunks.first_entry() {
            let count = first.get().partition_point(|place| place.at <= now);
            due.extend(first.get_mut().drain(..count));
            if !first.get().is_empty() {
                break;
            }
            first.remove();
        }
        due
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Place> {
        self.chunks.into_values().flatten()
    }

    /// Puts a small chunk together with one of its neighbours, where both are half a chunk at most.
    fn put_together(&mut self, small: Key) {
        let before = self.chunks.range(..small).next_back().map(|(before, _)| (*before, small));
        let after =
            self.chunks.range((Bound::Excluded(small), Bound::Unbounded)).next().map(|(after, _)| (small, *after));
        let len = |chunk: &Key| self.chunks.get(chunk).map_or(0, Vec::len);
        let fits = |(first, second): &(Key, Key)| len(first) + len(second) <= CHUNK / 2;
        match before.filter(fits).or(after.filter(fits)) {
            Some((first, second)) => {
                let rest = self.chunks.remove(&second).unwrap_or_default();
                self.chunks.entry(first).or_default().extend(rest);
            }
            None if len(&small) == 0 => _ = self.chunks.remove(&small),
            None => {}
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chunks.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::timers::tests::recipient;

    fn recipients(count: u64) -> Vec<Arc<Recipient>> {
        (0..count).map(|number| recipient(number).0).collect()
    }

    fn at(second: u64) -> Moment {
        Moment::START.after(Duration::from_secs(second))
    }

    fn bytes(places: &Places) -> usize {
        // A node of the map has eleven keys and values at most, and half of them at least; beside a chunk are 16 bytes.
        let map = size_of::<(Key, Vec<Place>)>() * 2;
        places.chunks.values().map(|chunk| chunk.capacity() * size_of::<Place>() + 16 + map).sum()
    }

    #[test]
    fn places_that_come_in_order_take_18_bytes_each() {
        let mut places = Places::default();
        for (second, recipient) in (0..).zip(recipients(10_000)) {
            places.insert(Place { at: at(second), recipient });
        }
        assert_eq!((size_of::<Place>(), places.len()), (16, 10_000));
        assert!(bytes(&places) <= 10_000 * 18, "{}", bytes(&places));
    }

    #[test]
    fn memory_is_given_back_whoever_leaves_and_in_which_order() {
        let all = recipients(10_000);
        let orders: [fn(u64) -> u64; 3] = [|n| n, |n| 9_999 - n, |n| n * 7_919 % 10_000];
        for order in orders {
            let mut places = Places::default();
            for (second, recipient) in (0..).zip(&all) {
                places.insert(Place { at: at(second), recipient: Arc::clone(recipient) });
            }
            // One of a hundred stays.
            for number in (0..10_000).map(order).filter(|number| number % 100 != 0) {
                places.remove(at(number), &all[number as usize]);
            }
            assert_eq!(places.len(), 100);
            assert!(bytes(&places) <= 100 * 100, "{}", bytes(&places));
        }
    }

    proptest! {
        #[test]
        fn they_are_a_sorted_set(steps in prop::collection::vec((0..8_u8, 0..200_u64, 0..100_u64), 1..2_000)) {
            let all = recipients(200);
            let (mut places, mut set, mut of) = (Places::default(), BTreeSet::new(), vec![None; 200]);
            for (step, number, second) in steps {
                let recipient = &all[number as usize];
                match step {
                    0 => {
                        let due = places.take_due(at(second)).iter().map(Place::key).collect::<Vec<_>>();
                        let later = set.split_off(&(at(second + 1), 0));
                        prop_assert_eq!(due, std::mem::replace(&mut set, later).into_iter().collect::<Vec<_>>());
                        of.iter_mut().for_each(|of| *of = of.filter(|of| *of > at(second)));
                    }
                    _ => {
                        if let Some(before) = of[number as usize].take() {
                            places.remove(before, recipient);
                            set.remove(&key(before, recipient));
                        }
                        if step > 2 {
                            places.insert(Place { at: at(second), recipient: Arc::clone(recipient) });
                            set.insert(key(at(second), recipient));
                            of[number as usize] = Some(at(second));
                        }
                    }
                }
                prop_assert_eq!(places.first(), set.first().map(|(at, _)| *at));
                prop_assert_eq!(places.len(), set.len());
                prop_assert!(places.chunks.values().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            }
            let left: Vec<_> = places.into_all().map(|place| place.key()).collect();
            prop_assert_eq!(left, set.into_iter().collect::<Vec<_>>());
        }
    }
}
