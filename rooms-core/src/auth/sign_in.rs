//! How a connection signed in, where that is not as most do.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::Authenticator;

/// Kept for the tokens that follow, and for hooks. Shared by all connections of an endpoint where nothing is added to their claims.
#[derive(Clone, Default)]
pub(crate) struct SignIn {
    /// The endpoint's own.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// What the application adds to those of the token.
    pub(crate) claims: Vec<(String, Value)>,
    /// What the endpoint answered in `Sec-WebSocket-Protocol`.
    pub(crate) subprotocol: Option<Box<str>>,
}

/// Without the claims.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
}
