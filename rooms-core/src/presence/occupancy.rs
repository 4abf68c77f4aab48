//! What the application is told about a room as a whole: it is occupied, it is empty.

use super::viewers::Counts;

/// What happened to a room as a whole, for [`Kind::on_occupancy`](crate::Kind::on_occupancy).
///
/// *Here* is about the members on this node, and exact. *Anywhere* and *everywhere* are about all nodes, best effort:
/// each node goes by what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Occupancy {
    /// The room has its first member on this node.
    OccupiedHere,
    /// The room has its first member of all nodes. Told on the node of that member, as far as it knows: where two
    /// members join on two nodes at once, both nodes tell it.
    OccupiedAnywhere,
    /// The last member on this node left. Another may have joined since.
    EmptyHere,
    /// The last member of all nodes left. Told on every node that had a member within `Limits::linger`, as far as each
    /// knows. Told nowhere if the node that had the only members was killed and no other node had any.
    EmptyEverywhere,
}

/// What the application was told.
#[derive(Debug, Default)]
pub(super) struct ToldOccupancy {
    here: bool,
    anywhere: bool,
    /// The first member on all nodes came here, and that is yet to be told: no other node tells it.
    first: bool,
    /// A task is telling.
    running: bool,
}

impl ToldOccupancy {
    /// Notes the numbers; whether a task is to begin telling.
    pub(super) fn note(&mut self, counts: Counts) -> bool {
        if counts.all == counts.here {
            self.first = counts.here > 0 && !self.anywhere;
        } else if !self.first {
            // Another node had the first member, and told of it.
            self.anywhere = true;
        }
        let begin = !self.running && Self::now(counts) != (self.here, self.anywhere);
        self.running |= begin;
        begin
    }

    /// What is to be told now; `None` ends the telling.
    pub(super) fn next(&mut self, counts: Counts) -> Option<Vec<Occupancy>> {
        let (here, anywhere) = Self::now(counts);
        let news: Vec<_> = [
            (self.here != here && here).then_some(Occupancy::OccupiedHere),
            (self.anywhere != anywhere && anywhere).then_some(Occupancy::OccupiedAnywhere),
            (self.here != here && !here).then_some(Occupancy::EmptyHere),
            (self.anywhere != anywhere && !anywhere).then_some(Occupancy::EmptyEverywhere),
        ]
        .into_iter()
        .flatten()
        .collect();
        *self = Self { here, anywhere, first: false, running: !news.is_empty() };
        self.running.then_some(news)
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running
    }

    /// Nothing is told any more.
    pub(super) const fn end(&mut self) {
        self.running = true;
    }

    const fn now(counts: Counts) -> (bool, bool) {
        (counts.here > 0, counts.all > 0)
    }
}
