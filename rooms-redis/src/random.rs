//! Random numbers, for a name and for the pauses between attempts: nothing that needs to be secret.

use std::hash::{BuildHasher as _, RandomState};

/// 64 random bits from the standard library's seed for hash maps, which the operating system provides.
pub(crate) fn bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
