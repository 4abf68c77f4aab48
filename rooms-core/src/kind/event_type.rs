//! A Rust type that is declared, or that came.

use std::{any::TypeId, fmt};

/// A Rust type, by which one is told from another, and its name for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventType {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl EventType {
    /// Of any type; of one that borrows, whatever the lifetimes.
    pub(crate) fn of<T: ?Sized>() -> Self {
        Self { id: typeid::of::<T>(), name: std::any::type_name::<T>() }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
