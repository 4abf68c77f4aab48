//! What proves things: suites for implementations of a trait, and nodes with bad weather for applications.
//!
//! All of it fails by panicking, as tests do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

pub mod bus_conformance;
pub mod faults;
pub mod fleet;
