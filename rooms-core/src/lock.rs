//! One way to lock.

use std::sync::PoisonError;
// In the models, every order in which threads can take the locks is tried.
#[cfg(not(rooms_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(rooms_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Locks; a poisoned lock is taken as it is.
///
/// Each critical section leaves its state whole at every point where it could panic, so poison carries no news here. The
/// application's code runs under one of them only: its sink, under that member's own lock, which catches its panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
