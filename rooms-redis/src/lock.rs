//! One way to lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a poisoned lock is taken as it is, because no critical section here leaves its state half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
