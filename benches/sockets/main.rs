//! Real connections to real servers, each in a process of its own, held against a floor of the same run.
//!
//! `cargo bench --features axum,warp --bench sockets` runs everything; a word after `--` only the scenarios with that
//! word in their names (`-- idle`). Each server has the first core, the load generator the last. In each run the contenders of
//! a scenario take turns, and what counts is the median of the ratios to the floor. A message that is lost, doubled or
//! out of order fails the run.
//!
//! `--runs N` (5), `--smoke` to see only that it works. Writes `target/sockets/runs.jsonl` and `fan_out.svg`.

#![allow(clippy::cast_possible_truncation, reason = "numbers of connections and bytes")]

mod clock;
mod cores;
mod load;
mod measure;
mod plot;
mod process;
mod report;
mod scenarios;
mod servers;

use std::{error::Error, path::Path};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{cores::Cores, report::Runs, scenarios::Size};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "cargo bench --features axum,warp --bench sockets -- [WORD ...] [--runs N] [--smoke]";

struct Options {
    words: Vec<String>,
    runs: usize,
    size: Size,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { words: Vec::new(), runs: 5, size: Size::Full };
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--bench" => {}
                "--smoke" => options.size = Size::Smoke,
                "--runs" => options.runs = arguments.next().ok_or(USAGE)?.parse()?,
                option if option.starts_with('-') => return Err(USAGE.into()),
                _ => options.words.push(argument),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "server").is_some() {
        return servers::run(arguments);
    }
    let options = Options::parse(arguments)?;
    let cores = Cores::allowed()?;
    cores.of_load().stay()?;
    raise_file_limit()?;
    let mut all = Vec::new();
    for scenario in scenarios::all(options.size) {
        if !options.words.is_empty() && !options.words.iter().any(|word| scenario.name.contains(&**word)) {
            continue;
        }
        let mut runs = Runs::new(scenario);
        for number in 1..=options.runs {
            eprintln!("{}, run {number} of {}", runs.scenario.name, options.runs);
            let run = runs.scenario.contenders.iter().map(|contender| {
                measure::measure(contender, &cores).map_err(|error| format!("{}: {error}", contender.name))
            });
            let run = run.collect::<std::result::Result<_, _>>()?;
            runs.add(run);
        }
        println!("{}", runs.table());
        if options.size != Size::Smoke {
            runs.check()?;
        }
        all.push(runs);
    }
    println!("{}", report::summary(&all));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sockets");
    report::write_json_lines(&folder.join("runs.jsonl"), &all)?;
    plot::draw(&folder.join("fan_out.svg"), &all)
}

/// Every connection needs a file descriptor at both ends.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
