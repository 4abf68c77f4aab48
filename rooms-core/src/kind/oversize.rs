//! What becomes of a broadcast that is too long.

/// What a broadcast becomes that has more than `Limits::max_broadcast_bytes`; see [`Kind::oversize`](crate::Kind::oversize).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Oversize {
    /// An error of whoever broadcasts, [`BroadcastError::TooBig`](crate::BroadcastError::TooBig), and nobody is told.
    #[default]
    Error,
    /// An event `refresh` in its place: the members fetch what they show again.
    Refresh,
}
