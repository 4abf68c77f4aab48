//! One connection, and what it expects next.

use std::net::TcpStream;

use super::Frames;
use crate::{Result, servers::BASE};

pub(super) struct Member {
    pub(super) stream: TcpStream,
    pub(super) room: usize,
    frames: Frames,
    /// The number of the next message.
    next: u64,
    arrivals: Vec<Arrival>,
}

/// One message that arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) seq: u64,
    pub(super) published_at: u64,
}

impl Member {
    pub(super) fn new(stream: TcpStream, room: usize, frames: Frames) -> Self {
        Self { stream, room, frames, next: BASE, arrivals: Vec::new() }
    }

    /// The published messages in what was read: each once, in order, none left out.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<impl Iterator<Item = Arrival>> {
        let Self { frames, next, arrivals, .. } = self;
        frames.feed(input, |head| {
            // Whatever else a server says begins in another way.
            let Some(rest) = head.strip_prefix(b"{\"at\":") else { return Ok(()) };
            let published_at = number(rest, 0..19)?;
            let seq = number(rest, 26..36)?;
            if seq != *next {
                return Err(format!("message {seq} came where {next} was next").into());
            }
            *next += 1;
            arrivals.push(Arrival { seq, published_at });
            Ok(())
        })?;
        Ok(arrivals.drain(..))
    }
}

fn number(text: &[u8], place: std::ops::Range<usize>) -> Result<u64> {
    let digits = text.get(place).ok_or("a payload is too short")?;
    Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
