//! The load generator: one thread that opens connections, has messages published, and counts what arrives.

mod flood;
mod frames;
mod member;
mod opening;

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::OwnedFd,
    time::Duration,
};

use hdrhistogram::Histogram;
use rustix::{buffer::spare_capacity, event::epoll};

pub(crate) use self::{
    flood::Flood,
    opening::{Offer, Opened, open},
};
use self::{frames::Frames, member::Member};
use crate::{
    Result,
    clock::now,
    measure::Latency,
    process::Server,
    servers::{BASE, Command, REPORT},
};

/// Without any message for so long, those that are missing are lost.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// One read's bytes at most.
const READ: usize = 256 * 1024;

/// Who is there, and how much is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rooms: usize,
    /// In each room.
    pub(crate) members: usize,
    /// Publishes whose deliveries have not all arrived, over all rooms.
    pub(crate) in_flight: usize,
    /// Rooms that each connection is in: neighbours, shared by the same members.
    pub(crate) each: usize,
    /// Of each room's members, those that never read.
    pub(crate) silent: usize,
    /// Connections of one user that floods the first room besides.
    pub(crate) flood: usize,
}

impl Shape {
    pub(crate) const fn connections(self) -> usize {
        self.groups() * self.members
    }

    /// Sets of rooms that share their members.
    const fn groups(self) -> usize {
        self.rooms / self.each
    }

    fn readers(self) -> usize {
        self.members - self.silent
    }
}

/// What arrived.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) deliveries: u64,
    pub(crate) elapsed: Duration,
    /// Read from the sockets.
    pub(crate) bytes: u64,
    /// From publish to receipt, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Connections in their rooms, and the control of their server.
pub(crate) struct Load {
    shape: Shape,
    epoll: OwnedFd,
    members: Vec<Member>,
    /// Open, and never read.
    _silent: Vec<TcpStream>,
    control: TcpStream,
    rooms: Vec<Room>,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    _flood: Option<Flood>,
}

/// What is under way in a room: for each publish the deliveries that are missing, oldest first.
#[derive(Debug, Default)]
struct Room {
    published: u32,
    missing: VecDeque<usize>,
}

impl Load {
    /// Opens all connections; each has joined its room.
    pub(crate) fn open(server: &Server, shape: Shape, offer: Offer) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (mut members, mut silent) = (Vec::new(), Vec::new());
        for number in 0..shape.connections() {
            let first = number % shape.groups() * shape.each;
            let Opened { stream, frames } = open(server.port, first, number, offer)?;
            if number / shape.groups() < shape.silent {
                silent.push(stream);
                continue;
            }
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(members.len() as u64), epoll::EventFlags::IN)?;
            members.push(Member::new(stream, first..first + shape.each, frames));
        }
        Ok(Self {
            shape,
            epoll,
            members,
            _silent: silent,
            control: server.control()?,
            rooms: (0..shape.rooms).map(|_| Room::default()).collect(),
            buffer: vec![0; READ],
            events: Vec::with_capacity(1024),
            _flood: if shape.flood > 0 { Some(Flood::start(server.port, shape.flood)?) } else { None },
        })
    }

    /// Publishes so many messages, over the rooms in turn, and waits until every reader has every one.
    ///
    /// A message that is lost, comes twice or out of turn is an error.
    pub(crate) fn publish(&mut self, messages: usize) -> Result<Arrivals> {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let mut arrivals = Arrivals { deliveries: 0, elapsed: Duration::ZERO, bytes: 0, latency };
        let all = (messages * self.shape.readers()) as u64;
        let (mut begun, mut done) = (0, 0);
        let start = now();
        while done < messages {
            while begun < messages && begun - done < self.shape.in_flight {
                self.begin(begun % self.shape.rooms)?;
                begun += 1;
            }
            done += self
                .receive(&mut arrivals)
                .map_err(|error| format!("{error}; {} of {all} deliveries had arrived", arrivals.deliveries))?;
        }
        arrivals.elapsed = Duration::from_nanos(now() - start);
        Ok(arrivals)
    }

    /// The times of the calls that the server made since the last report.
    pub(crate) fn report(&mut self) -> Result<Latency> {
        self.control.write_all(&REPORT.encode())?;
        let mut line = String::new();
        BufReader::new(&self.control).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn begin(&mut self, number: usize) -> Result<()> {
        let readers = self.shape.readers();
        let room = self.rooms.get_mut(number).ok_or("no such room")?;
        let command = Command { room: u32::try_from(number)?, seq: room.published };
        room.published += 1;
        room.missing.push_back(readers);
        Ok(self.control.write_all(&command.encode())?)
    }

    /// Reads what there is now; returns how many publishes are complete by it.
    fn receive(&mut self, arrivals: &mut Arrivals) -> Result<usize> {
        let patience = LOST_AFTER.try_into()?;
        self.events.clear();
        let count = epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&patience))?;
        if count == 0 {
            return Err(format!("nothing came for {LOST_AFTER:?}").into());
        }
        let mut complete = 0;
        for event in &self.events {
            let Some(member) = self.members.get_mut(event.data.u64() as usize) else { continue };
            let length = match member.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            arrivals.bytes += length as u64;
            let at = now();
            for arrival in member.take(self.buffer.get(..length).unwrap_or_default())? {
                arrivals.deliveries += 1;
                arrivals.latency.saturating_record(at.saturating_sub(arrival.published_at) / 1_000);
                complete += self.rooms.get_mut(arrival.room).ok_or("no such room")?.arrived(arrival.seq)?;
            }
        }
        Ok(complete)
    }
}

impl Room {
    /// Counts a delivery; returns how many publishes are complete by it.
    fn arrived(&mut self, seq: u64) -> Result<usize> {
        let oldest = BASE + u64::from(self.published) - self.missing.len() as u64;
        let place = seq.checked_sub(oldest).ok_or("a message came again")?;
        *self.missing.get_mut(place as usize).ok_or("a message came that was not published")? -= 1;
        let complete = self.missing.iter().take_while(|missing| **missing == 0).count();
        self.missing.drain(..complete);
        Ok(complete)
    }
}
