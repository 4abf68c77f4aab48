//! The queries of other nodes that wait for a reply.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{allowance::Allowance, wire::Space};
use crate::{node::NodeId, room_key::RoomKey};

/// Queries that wait. 128, each for at most 512 rooms: some megabytes of names; whoever gets no reply asks again.
const WAITING: usize = 128;

/// Rooms in a query of a node that is not proven yet. 16: what somebody joins on a node in the moments in which it begins;
/// for more it asks again.
const ROOMS_OF_A_NEWCOMER: usize = 16;

/// Bytes of entries, and of names of rooms, for one query of a node that is not proven yet, and in a second for all of
/// them. Some hundred rooms without names: what is sent to nodes that somebody invents is not worth their invention.
const FOR_A_NEWCOMER: usize = 16 * 1024;
const FOR_NEWCOMERS: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Replies {
    waiting: VecDeque<Asked>,
    newcomers: Allowance,
}

/// A query of another node.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) from: NodeId,
    pub(super) id: u64,
    pub(super) rooms: Vec<RoomKey>,
    pub(super) asker: Asker,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Proven,
    /// Perhaps nobody at all.
    New,
}

impl Default for Replies {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), newcomers: Allowance::new(FOR_NEWCOMERS, Duration::from_secs(1)) }
    }
}

impl Replies {
    /// Keeps a query until it is replied to; one of a node that is not proven yet within bounds, and otherwise not at all.
    pub(super) fn add(&mut self, asked: Asked) {
        let too_many = asked.asker == Asker::New && asked.rooms.len() > ROOMS_OF_A_NEWCOMER;
        if !too_many && self.waiting.len() < WAITING {
            self.waiting.push_back(asked);
        }
    }

    /// The next to reply to, and the space for its entries.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Asked, Space)> {
        while let Some(asked) = self.waiting.pop_front() {
            match asked.asker {
                Asker::Proven => return Some((asked, Space::default())),
                // The query that a node is to prove itself by is answered in any case: it is as long as its reply.
                Asker::New if asked.rooms.is_empty() => return Some((asked, Space::strictly(0))),
                Asker::New if self.newcomers.take(FOR_A_NEWCOMER, now) => {
                    return Some((asked, Space::strictly(FOR_A_NEWCOMER / 2)));
                }
                Asker::New => {}
            }
        }
        None
    }
}
