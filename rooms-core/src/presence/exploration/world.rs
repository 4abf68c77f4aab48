//! Some nodes with one room, and the messages that are under way between them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::Instant;

use super::node::{Broken, Inner, LINGER, SimKind, SimNode};
use crate::{bus::Topic, node::NodeId, presence::wire};

/// Longer than a grace and the time for which a room without members is kept.
const CALM: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Joins(usize),
    /// One joins that is not counted.
    Observes(usize),
    /// Whoever came last.
    Leaves(usize),
    Crashes(usize),
    Returns(usize),
    /// Until somebody has something to do.
    Time,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    Lost,
    Twice,
    /// After the next event.
    Late,
}

impl Fate {
    pub(super) const ALL: [Self; 4] = [Self::Arrives, Self::Lost, Self::Twice, Self::Late];
}

/// A message to one node.
#[derive(Clone)]
pub(super) struct Flight {
    to: NodeId,
    topic: Topic,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.bytes))
    }
}

pub(super) struct World {
    now: Instant,
    nodes: Vec<Option<SimNode>>,
    flights: VecDeque<Flight>,
    late: Vec<Flight>,
    next_id: u64,
    kind: SimKind,
    broken: Broken,
}

impl World {
    /// Nodes that know each other; with a member each, or without.
    pub(super) fn settled(nodes: usize, members: bool, kind: SimKind, broken: Broken) -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = *START.get_or_init(Instant::now);
        let (flights, late) = (VecDeque::new(), Vec::new());
        let mut world = Self { now, nodes: Vec::new(), flights, late, next_id: 1, kind, broken };
        for _ in 0..nodes {
            let node = world.new_node();
            world.nodes.push(Some(node));
        }
        world.calm_for(Duration::from_secs(2));
        if members {
            (0..nodes).for_each(|at| world.happens(Event::Joins(at)));
            world.calm_for(Duration::from_secs(5));
        }
        world
    }

    fn new_node(&mut self) -> SimNode {
        let id = NodeId::for_test(self.next_id);
        self.next_id += 1;
        SimNode::new(id, self.kind, self.now)
    }

    pub(super) fn possible(&self) -> Vec<Event> {
        let mut events = vec![Event::Time];
        for (at, node) in self.nodes.iter().enumerate() {
            match node {
                None => events.push(Event::Returns(at)),
                Some(node) => {
                    let members = node.place.inner.borrow().members.len();
                    events.extend([Event::Crashes(at)].iter().filter(|_| members > 0));
                    events.extend([Event::Leaves(at)].iter().filter(|_| members > 0));
                    events.extend([Event::Joins(at)].iter().filter(|_| members < 2));
                    let observed = self.kind == SimKind::Observed;
                    events.extend([Event::Observes(at)].iter().filter(|_| observed && members < 2));
                }
            }
        }
        events
    }

    pub(super) fn happens(&mut self, event: Event) {
        // What is late comes behind what the next event makes them send.
        let late = std::mem::take(&mut self.late);
        match event {
            Event::Joins(at) => self.with(at, |_, node, now| node.join(false, now)),
            Event::Observes(at) => self.with(at, |_, node, now| node.join(true, now)),
            Event::Leaves(at) => self.with(at, |_, node, now| node.leave(now)),
            Event::Crashes(at) => self.nodes[at] = None,
            Event::Returns(at) => self.nodes[at] = Some(self.new_node()),
            Event::Time => self.pass(),
        }
        self.run();
        self.flights.extend(late);
    }

    pub(super) fn next_message(&mut self) -> Option<Flight> {
        self.flights.pop_front()
    }

    pub(super) fn deliver(&mut self, flight: Flight, fate: Fate) {
        let times = match fate {
            Fate::Arrives => 1,
            Fate::Twice => 2,
            Fate::Lost => 0,
            Fate::Late => {
                self.late.push(flight);
                return;
            }
        };
        let to = self.nodes.iter().position(|node| node.as_ref().is_some_and(|node| node.node.me() == flight.to));
        let Some(to) = to else { return };
        for _ in 0..times {
            let packet = wire::decode(&flight.bytes).unwrap();
            self.with(to, |_, node, now| node.receive(&flight.topic, packet, now));
        }
        self.run();
    }

    /// Seconds without faults.
    pub(super) fn calm(&mut self) {
        self.flights.extend(std::mem::take(&mut self.late));
        self.calm_for(CALM);
    }

    fn calm_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        loop {
            while let Some(flight) = self.next_message() {
                self.deliver(flight, Fate::Arrives);
            }
            if self.now >= end {
                return;
            }
            self.pass();
            self.run();
        }
    }

    /// Time passes until somebody has something to do.
    fn pass(&mut self) {
        let wakes = self.nodes.iter().flatten().flat_map(|node| {
            let inner = node.place.inner.borrow();
            [Some(node.node.wake()), inner.window, inner.empty_since.map(|since| since + LINGER)]
        });
        let soonest = wakes.flatten().min().unwrap_or(self.now);
        self.now = soonest.max(self.now + Duration::from_millis(1));
    }

    fn with(&mut self, at: usize, change: impl FnOnce(&Self, &mut SimNode, Instant)) {
        let Some(mut node) = self.nodes[at].take() else { return };
        node.place.inner.borrow_mut().now = Some(self.now);
        change(self, &mut node, self.now);
        self.nodes[at] = Some(node);
    }

    /// Every node does what it has to do now.
    fn run(&mut self) {
        for at in 0..self.nodes.len() {
            let (mut sent, broken) = (Vec::new(), self.broken);
            self.with(at, |_, node, now| node.run(now, broken, &mut sent));
            for (from, topic, message) in sent {
                let bytes = wire::encode(from, message);
                let hears = |node: &&SimNode| node.node.me() != from && node.hears(&topic);
                let to = self.nodes.iter().flatten().filter(hears).map(|node| node.node.me());
                let flights: Vec<_> = to.map(|to| Flight { to, topic: topic.clone(), bytes: bytes.clone() }).collect();
                self.flights.extend(flights);
            }
        }
    }

    /// Whether every node knows how many there are, and who, and every member was told; and nobody asks any more.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let counted = |inner: &Inner| inner.members.iter().filter(|member| !member.observes).count();
        let truth: usize = self.nodes.iter().flatten().map(|node| counted(&node.place.inner.borrow())).sum();
        for (at, node) in self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?))) {
            let inner = node.place.inner.borrow();
            if !node.node.is_settled(self.now) {
                return Err(format!("node {at} is not settled"));
            }
            if !inner.joining.is_empty() {
                return Err(format!("somebody still waits to join on node {at}"));
            }
            let Some(share) = &inner.share else { continue };
            if inner.members.is_empty() {
                return Err(format!("node {at} keeps a room that nobody is in"));
            }
            if share.viewers() != truth {
                return Err(format!("node {at} counts {} of {truth}", share.viewers()));
            }
            if let Some(member) = inner.members.iter().find(|member| member.told != truth) {
                return Err(format!("a member on node {at} was told {} of {truth}", member.told));
            }
            if let Some(listed) = share.listed() {
                let users: BTreeSet<_> = listed.users.iter().map(|user| &user.user).collect();
                let connections: u32 = listed.users.iter().map(|user| user.connections).sum();
                if (users.len(), connections as usize) != (truth.min(1), truth) {
                    return Err(format!("node {at} lists {listed:?} of {truth}"));
                }
            }
        }
        Ok(())
    }
}
