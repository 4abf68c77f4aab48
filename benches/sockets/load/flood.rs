//! One user who sends as much as every single message may, over many connections.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Offer, open};
use crate::Result;

/// The user, whose number no member has.
const USER: usize = 1_000_000;
/// The payload of a message, in bytes.
const PAYLOAD: usize = 16 * 1024;
/// Fifty messages a second on each connection, which over a hundred is 78 MB a second.
const EVERY: Duration = Duration::from_millis(20);

/// Floods the first room until it is dropped.
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    pub(crate) fn start(port: u16, connections: usize) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            let stream = open(port, 0, USER, Offer::Nothing)?.stream;
            stream.set_nonblocking(true)?;
            senders.push(Sender { stream, waiting: Vec::new() });
        }
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let message = message();
            while !until.load(Ordering::Relaxed) {
                let start = Instant::now();
                senders.retain_mut(|sender| sender.turn(&message));
                thread::sleep(EVERY.saturating_sub(start.elapsed()));
            }
        });
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Sender {
    stream: TcpStream,
    /// What the socket did not take of the last message.
    waiting: Vec<u8>,
}

impl Sender {
    /// Sends one message more if the last one is out, and drops what came; `false` once the connection has ended.
    fn turn(&mut self, message: &[u8]) -> bool {
        let mut read = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut read) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        if self.waiting.is_empty() {
            self.waiting.extend_from_slice(message);
        }
        match self.stream.write(&self.waiting) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }
}

/// A text frame for the room's hook, with a mask of zeros.
fn message() -> Vec<u8> {
    let text = format!(r#"{{"type":"flood","x":"{}"}}"#, "x".repeat(PAYLOAD));
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
