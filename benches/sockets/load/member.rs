//! One connection, and what it expects next.

use std::{net::TcpStream, ops::Range};

use super::Frames;
use crate::{Result, servers::BASE};

pub(super) struct Member {
    pub(super) stream: TcpStream,
    frames: Frames,
    /// The first of its rooms.
    first: usize,
    /// The number of the next message, for each of its rooms.
    next: Vec<u64>,
    arrivals: Vec<Arrival>,
}

/// One message that arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) room: usize,
    pub(super) seq: u64,
    pub(super) published_at: u64,
}

impl Member {
    pub(super) fn new(stream: TcpStream, rooms: Range<usize>, frames: Frames) -> Self {
        Self { stream, frames, first: rooms.start, next: vec![BASE; rooms.len()], arrivals: Vec::new() }
    }

    /// The published messages in what was read: each once, in order, none left out.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<impl Iterator<Item = Arrival>> {
        let Self { frames, first, next, arrivals, .. } = self;
        frames.feed(input, |head| {
            // Whatever else a server says begins in another way.
            let Some(rest) = head.strip_prefix(b"{\"at\":") else { return Ok(()) };
            let published_at = number(rest, 0..19)?;
            let seq = number(rest, 26..36)?;
            let room = number(rest, 44..54)?.saturating_sub(BASE) as usize;
            let next =
                room.checked_sub(*first).and_then(|place| next.get_mut(place)).ok_or("another room's message")?;
            if seq != *next {
                return Err(format!("message {seq} came where {next} was next").into());
            }
            *next += 1;
            arrivals.push(Arrival { room, seq, published_at });
            Ok(())
        })?;
        Ok(arrivals.drain(..))
    }
}

fn number(text: &[u8], place: std::ops::Range<usize>) -> Result<u64> {
    let digits = text.get(place).ok_or("a payload is too short")?;
    Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
