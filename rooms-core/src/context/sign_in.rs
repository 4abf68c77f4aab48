//! Asking an authenticator, at the upgrade and when a token is refreshed.

use std::{panic::AssertUnwindSafe, sync::OnceLock};

use futures::FutureExt as _;

use super::Shared;
use crate::{
    auth::{Attempt, AuthError, Authenticator, Identity, SignIn},
    runtime::in_time,
};

impl Shared {
    /// Asks an authenticator about a request, and then whether who it is is revoked.
    pub(crate) async fn ask(
        &self,
        authenticator: &dyn Authenticator,
        attempt: &Attempt<'_>,
    ) -> Result<Identity, AuthError> {
        let refused = OnceLock::new();
        let attempt = &attempt.noting(&refused);
        // The call is inside the block, so that a panic in the function itself is caught like one in its future.
        let answer = AssertUnwindSafe(async { authenticator.authenticate(attempt).await }).catch_unwind();
        let identity = match in_time(self.limits.handshake_timeout, answer).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(_)) | Err(_) => Err(AuthError::Unavailable),
        };
        let identity = identity.and_then(|identity| {
            if self.revocations.cover(&identity) {
                attempt.note_user(identity.user());
                Err(AuthError::Revoked)
            } else {
                Ok(identity)
            }
        });
        identity.inspect_err(|reason| self.refuse_token(reason, refused.get().map(|user| &**user)))
    }

    /// Asks about the token that is to follow the one of a connection of this user.
    pub(crate) async fn ask_again(
        &self,
        sign_in: Option<&SignIn>,
        user: &str,
        token: &str,
    ) -> Result<Identity, AuthError> {
        let own = sign_in.and_then(|sign_in| sign_in.authenticator.as_ref());
        let identity = self.ask(&**own.unwrap_or(&self.authenticator), &Attempt::new(Some(token))).await?;
        if identity.user() != user {
            return Err(AuthError::Subject);
        }
        match sign_in.filter(|sign_in| !sign_in.claims.is_empty()) {
            Some(SignIn { claims, .. }) => identity.and_claims(claims.clone()).map_err(|_| AuthError::Claims),
            None => Ok(identity),
        }
    }

    /// Counts, logs and notes that a token was refused, with its user where that is known.
    pub(crate) fn refuse_token(&self, reason: &AuthError, user: Option<&str>) {
        self.note_bad_token(reason, user);
        self.metrics.tokens_refused.count(reason.word());
        tracing::debug!(%reason, "a token was refused");
        // The signature is right, so it is not the client that is wrong: no token of that issuer's is good.
        if *reason == AuthError::FarExpiry
            && let Some(left_out) = self.warnings.far_expiry.line()
        {
            tracing::warn!(%reason, left_out, "a token was refused although its signature is right");
        }
    }
}
