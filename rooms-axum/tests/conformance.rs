//! The contract of an adapter, held by the one for Axum.

#[path = "support/stage.rs"]
mod stage;

rooms_core::adapter_conformance!(stage::serve);
