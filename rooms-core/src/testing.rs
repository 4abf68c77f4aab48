//! Suites that prove an implementation of a trait against its contract, for users' implementations and for ours.
//!
//! They fail by panicking, as tests do.

pub mod bus_conformance;
