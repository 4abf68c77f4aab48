//! Several nodes in one process, with network faults between them on demand.
//!
//! ```
//! use std::time::Duration;
//!
//! use futures::channel::mpsc;
//! use rooms_core::{Identity, Kind, Message, RoomKey, testing::fleet::Fleet};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fleet: Fleet<mpsc::UnboundedSender<Message>> =
//!     Fleet::new(2, |_, node| node.kind("post", Kind::authenticated()));
//! let post = RoomKey::new("post", 42)?;
//!
//! let (sink, _received) = mpsc::unbounded();
//! let mut ada = fleet.node(0).connect(Identity::new("ada")?, sink)?;
//! ada.join(&post).await?;
//! assert_eq!(fleet.node(1).viewers(&post).await.viewers, 1);
//!
//! fleet.faults(0).kill();
//! tokio::time::sleep(Duration::from_secs(8)).await;
//! assert_eq!(fleet.node(1).viewers(&post).await.viewers, 0);
//! # Ok(()) }
//! ```

use std::{sync::Arc, time::SystemTime};

use futures::Sink;
use tokio::time::Instant;

use super::faults::{Faults, FaultyBus, NetworkFaults};
use crate::{
    auth::WallClock,
    bus::LocalBus,
    manager::{RoomManager, RoomManagerBuilder},
    message::Message,
};

/// Managers that are nodes of each other. Their bus is a [`LocalBus`]; each has [`Faults`] of its own.
///
/// Made for paused time (`#[tokio::test(start_paused = true)]`): then seconds of faults take none, and tokens end by
/// that time too, unless `make` sets a clock.
#[derive(Debug)]
pub struct Fleet<S> {
    clock: Arc<PausedClock>,
    hub: LocalBus,
    nodes: Vec<(RoomManager<S>, Faults)>,
}

impl<S: Sink<Message> + Unpin + Send + 'static> Fleet<S> {
    /// Makes so many nodes, of what `make` makes of the number and the beginning of each.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where a builder has a mistake in it.
    pub fn new(nodes: usize, make: impl Fn(usize, RoomManagerBuilder<S>) -> RoomManagerBuilder<S>) -> Self {
        let mut fleet = Self { clock: Arc::new(PausedClock::new()), hub: LocalBus::new(), nodes: Vec::new() };
        for _ in 0..nodes {
            fleet.add(&make);
        }
        fleet
    }

    /// Adds a node: another process that begins, or the next incarnation of one that was killed.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn add(&mut self, make: impl Fn(usize, RoomManagerBuilder<S>) -> RoomManagerBuilder<S>) -> usize {
        let number = self.nodes.len();
        let faults = Faults::new(number as u64);
        let bus = FaultyBus::new(self.hub.peer(), faults.clone());
        let builder = RoomManager::build_for().bus(bus).clock(Arc::clone(&self.clock) as Arc<dyn WallClock>);
        let manager = make(number, builder).build();
        self.nodes.push((manager.expect("a node whose parts fit"), faults));
        number
    }

    /// The time of day on all nodes: it goes with tokio's, which a test can pause.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// How many nodes there are, killed ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What joins the nodes, for a [`Publisher`](crate::Publisher) beside them.
    #[must_use]
    pub fn bus(&self) -> LocalBus {
        self.hub.peer()
    }

    /// A node, by its number from 0.
    ///
    /// # Panics
    /// Where there is none of that number.
    #[must_use]
    pub fn node(&self, number: usize) -> &RoomManager<S> {
        &self.nodes.get(number).expect("a node of that number").0
    }

    /// The faults of a node.
    ///
    /// # Panics
    /// Where there is none of that number.
    #[must_use]
    pub fn faults(&self, number: usize) -> &Faults {
        &self.nodes.get(number).expect("a node of that number").1
    }

    /// Sets what happens to the messages of all nodes.
    pub fn network_faults(&self, network_faults: &NetworkFaults) {
        for (_, faults) in &self.nodes {
            faults.network_faults(network_faults.clone());
        }
    }
}

/// The time of day, going with tokio's clock from when it was made: where that is paused, tokens end when the test says.
#[derive(Debug)]
struct PausedClock {
    made: Instant,
    then: SystemTime,
}

impl PausedClock {
    fn new() -> Self {
        Self { made: Instant::now(), then: SystemTime::now() }
    }
}

impl WallClock for PausedClock {
    fn now(&self) -> SystemTime {
        self.then + self.made.elapsed()
    }
}
