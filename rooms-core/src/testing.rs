//! What proves things: a kit for an application's tests, nodes with network faults between them, and suites for
//! implementations of a trait.
//!
//! All of it fails by panicking, as tests do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

pub mod adapter_conformance;
pub mod bus_conformance;
pub mod faults;
pub mod fleet;
pub mod kit;
pub mod user;
