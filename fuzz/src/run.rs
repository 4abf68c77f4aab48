//! Fuzzing without coverage and without nightly: `cargo run -p rooms-fuzz --bin run -- --seconds 60 [target..]`.
//!
//! Each input is one of the corpus, or several of them cut and joined, with bytes changed; the seed is printed. The corpus as it
//! is comes first, so that what once went wrong is tried each time. A panic, an input that takes more than ten seconds and
//! memory beyond the bound end the process. In the first two cases the input is then in `target/fuzz-input-` and the number of
//! the process; `--seed` tries the same inputs again in the same order.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a runner fails by panicking")]

use std::{
    alloc::System,
    env, fs,
    hash::{BuildHasher as _, RandomState},
    panic,
    path::Path,
    process::{self, exit},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cap::Cap;
use rooms_fuzz::{TARGETS, Target};

/// What one input may take, with all that the process has already. 64 MiB: the longest message, its tree, and the pool of
/// a runtime.
const MEMORY: usize = 64 * 1024 * 1024;
/// The longest input.
const LONGEST: usize = 16 * 1024;
const INPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz-input-");

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The input that is at work, and how many there were; for whoever watches the time, and for a panic.
static AT_WORK: Mutex<(u64, Vec<u8>)> = Mutex::new((0, Vec::new()));

fn main() {
    let mut seconds = 10;
    let mut seed = RandomState::new().hash_one(0_u8);
    let mut names = Vec::new();
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().and_then(|n| n.parse().ok()).expect("--seconds <number>"),
            "--seed" => {
                let hex = args.next().expect("--seed <hex>");
                seed = u64::from_str_radix(hex.trim_start_matches("0x"), 16).expect("--seed <hex>");
            }
            name => names.push(name.to_owned()),
        }
    }
    println!("seed {seed:#x}");
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        keep_input();
        hook(info);
    }));
    thread::spawn(watch);
    let unknown = names.iter().find(|wanted| TARGETS.iter().all(|(name, _)| name != wanted));
    assert!(unknown.is_none(), "{unknown:?} is no target");
    for target in TARGETS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name)) {
        fuzz(target, Duration::from_secs(seconds), seed);
    }
}

/// Ends the process where one input takes too long.
fn watch() {
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_secs(10));
        let now = at_work().0;
        if now == last {
            eprintln!("an input takes more than ten seconds");
            keep_input();
            exit(1);
        }
        last = now;
    }
}

fn at_work() -> MutexGuard<'static, (u64, Vec<u8>)> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_input() {
    // Several may run at once.
    let file = format!("{INPUT}{}", process::id());
    match fs::write(&file, &at_work().1) {
        Ok(()) => eprintln!("the input is in {file}"),
        Err(error) => eprintln!("the input can't be kept: {error}"),
    }
}

fn fuzz(&(name, target): &Target, time: Duration, seed: u64) {
    let corpus = corpus(name);
    let (mut dice, start, mut runs) = (Dice(seed | 1), Instant::now(), 0_u64);
    for input in &corpus {
        try_one(target, input);
    }
    while start.elapsed() < time {
        try_one(target, &mutated(&corpus, &mut dice));
        runs += 1;
    }
    println!("ok: {name}, {} of the corpus and {runs} others", corpus.len());
}

fn try_one(target: fn(&[u8]), input: &[u8]) {
    {
        let mut at_work = at_work();
        at_work.0 += 1;
        at_work.1.clear();
        at_work.1.extend_from_slice(input);
    }
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + MEMORY).expect("a limit");
    target(input);
    ALLOCATOR.set_limit(usize::MAX).expect("no limit");
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| fs::read(file).expect("an input")).collect()
}

/// Something that is nearly right: that reaches deeper than noise.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        match dice.below(8) {
            0 => input.truncate(at),
            1 => input.insert(at, dice.byte()),
            2 if at < input.len() => input[at] = dice.byte(),
            3 if at < input.len() => input[at] ^= 1 << dice.below(8),
            4 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => {
                let end = (at + dice.below(32)).min(input.len());
                let part = input[at..end].to_vec();
                let times = 1 << dice.below(8);
                let many = part.repeat(times);
                input.splice(at..at, many);
            }
            6 => drop(input.splice(at..(at + dice.below(16)).min(input.len()), [])),
            _ => {
                let odd: &[&[u8]] = &[
                    b"null",
                    b"-1",
                    b"1e999",
                    b"18446744073709551616",
                    b"\"\"",
                    b"{}",
                    b"[[",
                    b"\\ud800",
                    b"\xff\xff\xff\xff",
                    b"\0",
                    b"%00",
                    b"=3D",
                ];
                let odd = odd[dice.below(odd.len())];
                input.splice(at..at, odd.iter().copied());
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// Xorshift: reproducible from its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
