//! One way to lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a poisoned lock is taken as it is.
///
/// No critical section in this crate calls the application's code, and each leaves its state whole at every point where
/// an allocation could panic, so poison carries no news here.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
