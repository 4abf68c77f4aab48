//! One way to lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a poisoned lock is taken as it is.
///
/// Each critical section leaves its state whole at every point where it could panic, so poison carries no news here. The
/// application's code runs under one of them only: its sink, under that member's own lock, which catches its panics.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
