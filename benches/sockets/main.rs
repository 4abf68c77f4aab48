//! Real connections to a real server in a process of its own.
//!
//! `cargo bench --features axum --bench sockets -- idle` opens 10,000 connections to rooms of ten behind Axum and prints
//! what one costs the server in resident memory. `--connections N` for another number. Each process needs a file
//! descriptor for each connection: `ulimit -n 20000`.

mod idle;
mod process;
mod server;

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "cargo bench --features axum --bench sockets -- idle [--connections N]";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("server") => server::run(),
        Some("idle") | None => idle::run(connections(arguments)?),
        Some(_) => Err(USAGE.into()),
    }
}

fn connections(mut arguments: impl Iterator<Item = String>) -> Result<usize> {
    match arguments.next().as_deref() {
        None => Ok(10_000),
        Some("--connections") => Ok(arguments.next().ok_or(USAGE)?.parse()?),
        Some(_) => Err(USAGE.into()),
    }
}
