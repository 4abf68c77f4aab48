//! How long a client can have it unpack what is nothing, beside JSON: why `Limits::bytes_per_second` counts as it does. And how
//! small a message of JSON gets, and how long that takes, by its length and by how hard the compressor tries: why
//! `Limits::min_deflate_bytes` and the level are what they are. One thread, with the compressor that `Endpoint::deflate` uses.
//!
//! `cargo bench --bench deflate` prints a table; `-- --test` sees only that it works.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

use std::{hint::black_box, time::Instant};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};

/// A block with the largest tables and no byte of a payload in it, and one without compression up to the next whole byte.
const NOTHING: [u8; 26] = [
    0x04, 0xe0, 0x81, 0x96, 0x24, 0x49, 0x92, 0x24, 0x49, 0xde, 0xed, 0x74, 0x65, 0xb8, 0xa9, 0x30, 0xe1, 0xff, 0x7f,
    0x2e, 0x3c, 0x00, 0x00, 0x00, 0xff, 0xff,
];

const WORDS: [&str; 24] = [
    "the",
    "release",
    "of",
    "yesterday",
    "breaks",
    "my",
    "build",
    "on",
    "a",
    "machine",
    "with",
    "two",
    "cores",
    "can",
    "somebody",
    "look",
    "into",
    "this",
    "please",
    "it",
    "worked",
    "before",
    "and",
    "thanks",
];

/// A list of comments of about so many bytes, as an application would send it.
fn comments(bytes: usize) -> Vec<u8> {
    let mut state = 42_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut list = Vec::new();
    loop {
        let text: Vec<_> = (0..8 + next(16)).map(|_| WORDS[usize::try_from(next(24)).unwrap()]).collect();
        let at = format!("2026-03-{:02}T{:02}:{:02}:07Z", 1 + next(28), next(24), next(60));
        list.push(
            json!({"id": next(1 << 32), "author": format!("user{}", next(9999)), "at": at, "text": text.join(" ")}),
        );
        let message = json!({"type": "new_comments", "comments": list}).to_string();
        if message.len() >= bytes {
            // Cut, as the last one would make short messages a good deal longer.
            return message.into_bytes()[..bytes].to_vec();
        }
    }
}

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--test") { 1 } else { 2_000 };
    println!("| bytes | level 1 | level 4 | level 6 | level 9 |\n|--:|--:|--:|--:|--:|");
    for bytes in [128, 256, 512, 1024, 2048, 16 * 1024] {
        let message = comments(bytes);
        let cells = [1, 4, 6, 9].map(|level| {
            let mut state = Compress::new(Compression::new(level), false);
            let mut out = Vec::with_capacity(2 * bytes);
            let start = Instant::now();
            for _ in 0..rounds {
                state.reset();
                out.clear();
                state.compress_vec(black_box(&message), &mut out, FlushCompress::Sync).unwrap();
            }
            let each = start.elapsed() / rounds;
            format!("{:.2}, {:.1} µs", (out.len() - 4) as f64 / bytes as f64, each.as_nanos() as f64 / 1e3)
        });
        println!("| {bytes} | {} |", cells.join(" | "));
    }
    unpacked(rounds.min(200));
}

/// The time for a byte, as it is on its way.
fn unpacked(rounds: u32) {
    let nothing = NOTHING.repeat(2_380);
    let mut state = Decompress::new(false);
    let mut out = Vec::with_capacity(1024);
    let start = Instant::now();
    for _ in 0..rounds {
        state.reset(false);
        state.decompress_vec(black_box(&nothing), &mut out, FlushDecompress::Sync).unwrap();
    }
    assert_eq!((state.total_in(), out.len()), (nothing.len() as u64, 0));
    let of_nothing = start.elapsed().as_nanos() as f64 / f64::from(rounds) / nothing.len() as f64;
    let list = json!(vec![String::from_utf8(comments(300)).unwrap(); 200]).to_string();
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(serde_json::from_str::<Value>(black_box(&list)).unwrap());
    }
    let of_json = start.elapsed().as_nanos() as f64 / f64::from(rounds) / list.len() as f64;
    println!("\nnothing unpacked: {of_nothing:.1} ns a byte; JSON parsed: {of_json:.1} ns");
}
