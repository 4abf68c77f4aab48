//! How a member comes to be in a room no more.

/// Why a member is in a room no more that did not ask to leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Departure {
    /// In the application's words.
    Kicked(Box<str>),
    /// The rule, asked again, said no.
    NotAllowed,
    /// The application has it leave.
    Left,
}
