//! A publisher that costs as little as one can: ready commands, written in lumps.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::{self, JoinHandle},
};

use crate::PAYLOAD;

/// Publishes so many messages, a thousand commands at a time, on a thread of its own.
pub(crate) fn flood(port: u16, channel: &'static str, messages: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n", channel.len(), PAYLOAD.len());
        let command = [head.as_bytes(), &PAYLOAD, b"\r\n"].concat();
        let mut redis = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut left = messages;
        while left > 0 {
            let lump = left.min(1_000);
            redis.write_all(&command.repeat(lump)).unwrap();
            redis.read_exact(&mut vec![0; ":1\r\n".len() * lump]).unwrap();
            left -= lump;
        }
    })
}
