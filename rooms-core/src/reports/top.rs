//! The greatest of many.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// Keeps so many of the greatest that it is shown, in a heap of that size.
pub(crate) struct Top<W, T> {
    most: usize,
    heap: BinaryHeap<Reverse<Weighed<W, T>>>,
}

struct Weighed<W, T>(W, T);

impl<W: Ord, T> Top<W, T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::with_capacity(most) }
    }

    /// Shows it one; `make` is called where that is among the greatest so far.
    pub(crate) fn add(&mut self, weight: W, make: impl FnOnce() -> T) {
        if self.heap.len() == self.most {
            if self.heap.peek().is_none_or(|Reverse(Weighed(least, _))| weight <= *least) {
                return;
            }
            self.heap.pop();
        }
        self.heap.push(Reverse(Weighed(weight, make())));
    }

    /// What is left, the greatest first.
    pub(crate) fn into_vec(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(Weighed(_, value))| value).collect()
    }
}

impl<W: Ord, T> Ord for Weighed<W, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<W: Ord, T> PartialOrd for Weighed<W, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W: Ord, T> PartialEq for Weighed<W, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<W: Ord, T> Eq for Weighed<W, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_in_order_and_only_they_are_made() {
        let (mut top, mut made) = (Top::new(3), 0);
        for weight in [5, 1, 9, 2, 7, 7, 3] {
            top.add(weight, || {
                made += 1;
                weight
            });
        }
        assert_eq!((top.into_vec(), made), (vec![9, 7, 7], 6));
        let mut none: Top<u8, u8> = Top::new(0);
        none.add(1, || 1);
        assert!(none.into_vec().is_empty());
    }
}
