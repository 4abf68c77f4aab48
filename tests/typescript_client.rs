//! The client in TypeScript: its own tests, in Node and in a real browser, against the examples as processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

#[path = "support/lines.rs"]
mod lines;

const INSTALL: &str = "`apt-get install nodejs npm` installs it; Node 18 or newer runs the tests";

fn npm(arguments: &[&str]) {
    let examples = lines::example("chat");
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/typescript"));
    if let Some(folder) = examples.parent() {
        command.env("ROOMS_EXAMPLES", folder);
    }
    let ended = command.status().unwrap_or_else(|error| panic!("npm: {error}; {INSTALL}"));
    assert!(ended.success(), "`npm {}` fails", arguments.join(" "));
}

#[test]
fn its_own_tests_pass() {
    npm(&["ci", "--no-audit", "--no-fund"]);
    npm(&["test"]);
}
