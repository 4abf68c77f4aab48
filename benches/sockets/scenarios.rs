//! What is measured: in each scenario some contenders do the same work, and the first is what the others are held against.

use std::{fmt::Display, time::Duration};

use crate::{
    load::Shape,
    servers::{Call, Kind, Setup},
};

/// One row of the table for each contender.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) figure: Figure,
    pub(crate) contenders: Vec<Contender>,
}

/// What the contenders of a scenario are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Processor seconds of the server for a million deliveries, or connects.
    Cpu,
    /// Resident bytes for each connection.
    Memory,
    /// The 99th percentile from publish to receipt, in microseconds.
    P99,
    /// The same of calls that the server makes meanwhile. They are different calls, so their ratio says nothing.
    Call,
}

impl Figure {
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "CPU s / million",
            Self::Memory => "bytes / connection",
            Self::P99 => "p99, µs",
            Self::Call => "p99 of the call, µs",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) setup: Setup,
    pub(crate) work: Work,
    /// After which nothing is under way any more: past two viewer windows (250 ms), and past the end of connections.
    pub(crate) settle: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Publish until there were so many deliveries.
    FanOut { shape: Shape, deliveries: usize },
    /// Hold connections in rooms of ten.
    Idle { connections: usize },
    /// Connect, join and go, one after the other.
    Churn { connects: usize },
}

/// How big it all is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Full,
    /// Small enough for a test that everything works; the figures mean nothing.
    Smoke,
}

/// Every scenario there is.
pub(crate) fn all(size: Size) -> Vec<Scenario> {
    let scenarios = [
        ("1,000 members, 1 in flight", room(1_000, 1), 256, 400_000),
        ("1,000 members, 4 in flight", room(1_000, 4), 256, 800_000),
        ("1,000 members, 16 in flight", room(1_000, 16), 256, 800_000),
        ("10,000 members, 4 in flight", room(10_000, 4), 256, 800_000),
        ("1,000 rooms of 10, 16 in flight", Shape { rooms: 1_000, members: 10, ..room(0, 16) }, 256, 400_000),
        ("16 KiB payloads, 4 in flight", room(1_000, 4), 16 * 1024, 200_000),
    ];
    let mut all: Vec<_> = scenarios
        .into_iter()
        .map(|(name, shape, payload, deliveries)| Scenario {
            name,
            figure: Figure::Cpu,
            contenders: everybody(Kind::Floor, payload, Work::FanOut { shape, deliveries }),
        })
        .collect();
    all.extend([
        compression("compression, JSON of 256 bytes", 256),
        compression("compression, JSON of 2 KiB", 2 * 1024),
        compression("compression, JSON of 16 KiB", 16 * 1024),
    ]);
    all.extend([
        memory("idle memory, 10,000 connections", 10_000),
        memory("idle memory, 19,000 connections", 19_000),
        many_rooms(),
        churn(),
        slow_members(),
        flood(),
        members(),
        other_rooms(),
        cores(),
        calls(),
    ]);
    if size == Size::Smoke {
        all.iter_mut().flat_map(|scenario| &mut scenario.contenders).for_each(Contender::shrink);
    }
    all
}

const fn room(members: usize, in_flight: usize) -> Shape {
    Shape { rooms: 1, members, in_flight, each: 1, silent: 0, flood: 0 }
}

const fn setup(kind: Kind, payload: usize) -> Setup {
    Setup { kind, payload, each: 1, other_rooms: 0, cores: 1, call: None, deflate: false, json: false }
}

fn everybody(floor: Kind, payload: usize, work: Work) -> Vec<Contender> {
    let contender = |kind| Contender::new(kind, setup(kind, payload), work);
    [floor, Kind::Rooms, Kind::RoomsOnWarp, Kind::Handwritten].map(contender).into()
}

fn memory(name: &'static str, connections: usize) -> Scenario {
    Scenario { name, figure: Figure::Memory, contenders: everybody(Kind::Floor, 0, Work::Idle { connections }) }
}

/// Comments as JSON, to clients that can unpack them and to others.
fn compression(name: &'static str, payload: usize) -> Scenario {
    let work = Work::FanOut { shape: room(1_000, 1), deliveries: 200_000 };
    let contender =
        |name: &str, kind, deflate| Contender::new(name, Setup { deflate, json: true, ..setup(kind, payload) }, work);
    Scenario {
        name,
        figure: Figure::Cpu,
        contenders: vec![
            contender("floor, plain", Kind::Floor, false),
            contender("rooms, plain", Kind::Rooms, false),
            contender("rooms, compressed", Kind::Rooms, true),
        ],
    }
}

fn churn() -> Scenario {
    let contender = |kind| Contender::new(kind, setup(kind, 0), Work::Churn { connects: 20_000 });
    Scenario {
        name: "churn: connect, join, go",
        figure: Figure::Cpu,
        contenders: [Kind::Handshake, Kind::Upgrade, Kind::Rooms, Kind::RoomsServed, Kind::Handwritten]
            .map(contender)
            .into(),
    }
}

/// Twenty sets of fifty connections, each of which is in the fifty rooms of its set.
fn many_rooms() -> Scenario {
    let shape = Shape { rooms: 1_000, members: 50, each: 50, ..room(0, 16) };
    let contender = |kind| {
        let setup = Setup { each: 50, ..setup(kind, 256) };
        Contender::new(kind, setup, Work::FanOut { shape, deliveries: 400_000 })
    };
    Scenario {
        name: "1,000 connections in 50 rooms each, 16 in flight",
        figure: Figure::Cpu,
        contenders: [Kind::Floor, Kind::Rooms].map(contender).into(),
    }
}

/// What else the process does while a huge room is fanned out to, on the same core.
fn calls() -> Scenario {
    let contender = |(name, call)| {
        let setup = Setup { call: Some(call), ..setup(Kind::Rooms, 256) };
        let work = Work::FanOut { shape: room(10_000, 4), deliveries: 800_000 };
        Contender::new(name, setup, work)
    };
    Scenario {
        name: "calls during a fan-out to 10,000 members",
        figure: Figure::Call,
        contenders: [
            ("join the room", Call::Join),
            ("leave it", Call::Leave),
            ("join a new room", Call::JoinNew),
            ("publish to another room", Call::Publish),
        ]
        .map(contender)
        .into(),
    }
}

/// The payload is large, so that the sockets of those that never read are soon full.
fn slow_members() -> Scenario {
    let contender = |name: &str, silent| {
        let work = Work::FanOut { shape: Shape { silent, ..room(1_000, 4) }, deliveries: 600_000 };
        Contender::new(name, setup(Kind::Rooms, 16 * 1024), work)
    };
    Scenario {
        name: "1% of 1,000 members never read",
        figure: Figure::P99,
        contenders: vec![contender("all read", 0), contender("1% never read", 10)],
    }
}

/// A user who sends 78 MB a second into the members' room, of messages that are allowed one by one.
fn flood() -> Scenario {
    let contender = |name: &str, flood| {
        let work = Work::FanOut { shape: Shape { flood, ..room(100, 1) }, deliveries: 100_000 };
        Contender::new(name, setup(Kind::Rooms, 256), work)
    };
    Scenario {
        name: "a flood over 100 connections of one user",
        figure: Figure::P99,
        contenders: vec![contender("nobody floods", 0), contender("78 MB/s offered", 100)],
    }
}

fn members() -> Scenario {
    let contender = |members| {
        let work = Work::FanOut { shape: room(members, 1), deliveries: 200_000 };
        Contender::new(format!("{members} members"), setup(Kind::Rooms, 256), work)
    };
    Scenario {
        name: "a delivery, by members of the room",
        figure: Figure::Cpu,
        contenders: [10, 100, 1_000, 10_000].map(contender).into(),
    }
}

fn other_rooms() -> Scenario {
    let contender = |other_rooms| {
        let setup = Setup { other_rooms, ..setup(Kind::Rooms, 256) };
        let work = Work::FanOut { shape: room(10, 1), deliveries: 200_000 };
        Contender::new(format!("{other_rooms} other rooms"), setup, work)
    };
    Scenario {
        name: "a delivery, by other rooms there are",
        figure: Figure::Cpu,
        contenders: [10, 1_000, 100_000].map(contender).into(),
    }
}

fn cores() -> Scenario {
    let contender = |cores| {
        let setup = Setup { cores, ..setup(Kind::Rooms, 256) };
        let work = Work::FanOut { shape: room(10_000, 4), deliveries: 800_000 };
        Contender::new(format!("{cores} of 2 cores"), setup, work)
    };
    Scenario {
        name: "10,000 members, by cores of the server",
        figure: Figure::P99,
        contenders: [1, 2].map(contender).into(),
    }
}

impl Contender {
    fn new(name: impl Display, setup: Setup, work: Work) -> Self {
        Self { name: format!("{name}"), setup, work, settle: Duration::from_millis(600) }
    }

    fn shrink(&mut self) {
        self.settle = Duration::from_millis(300);
        self.setup.other_rooms = self.setup.other_rooms.min(200);
        match &mut self.work {
            Work::FanOut { shape, deliveries } => {
                let each = shape.each.min(5);
                *shape = Shape { rooms: shape.rooms.min(5), members: shape.members.min(20), each, ..*shape };
                self.setup.each = u32::try_from(each).unwrap_or(1);
                shape.silent = shape.silent.min(1);
                shape.flood = shape.flood.min(2);
                *deliveries = 1_000;
            }
            Work::Idle { connections } => *connections = 100,
            Work::Churn { connects } => *connects = 100,
        }
    }
}
