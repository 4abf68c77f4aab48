//! The keys of JWTs from a provider, over HTTPS.
//!
//! [`oidc`] needs the issuer's URL alone, and finds the keys by OpenID Connect discovery: Keycloak, Auth0, Okta, Entra ID,
//! Cognito, Google, Zitadel and Dex publish such a document.
//!
//! ```
//! use rooms_core::{Endpoint, Kind, RoomManager};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = rooms_jwks::oidc("https://id.example/realms/app")?.audience("rooms");
//! let rooms: RoomManager = RoomManager::builder()
//!     .authenticator(tokens)
//!     .endpoint(Endpoint::new().query_token("token"))
//!     .kind("post", Kind::authenticated())
//!     .build()?;
//! # let _ = rooms;
//! # Ok(()) }
//! ```
//!
//! What is said at [`JwtAuthenticator::fetched`] holds: when the keys are fetched, how often, and that the last good ones are
//! kept. Of each answer at most 256 KiB are read, within 5 s. Redirects are not followed, so that no answer sends this
//! process elsewhere. An address is HTTPS, or `http://` to this machine for tests. No proxy is used: behind one, fetch the
//! keys with a client of your own and [`JwtAuthenticator::fetched`].
//!
//! TLS trusts what the operating system trusts. Its cryptography is ring, unless the process has installed another before.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod discovery;

use std::sync::Arc;

use rooms_core::{JwkSet, JwtAuthenticator};

use self::client::Client;
pub use self::client::{FetchError, UrlError};

/// Checks the tokens of an OpenID provider. `issuer` is its URL exactly as it stands in `iss` of the tokens, and is required
/// there.
///
/// The keys are those at the `jwks_uri` that `{issuer}/.well-known/openid-configuration` names (OpenID Connect Discovery 1.0
/// section 4). That document has to name the same issuer; it is read again with the keys each time. Set
/// [`audience`](JwtAuthenticator::audience) too: the provider makes tokens for its other clients with the same keys. Of some
/// providers the token for an API is the access token, of type `at+jwt`; see [`token_type`](JwtAuthenticator::token_type).
///
/// # Errors
/// [`UrlError`]. Whether the provider is there is found out by the first token.
pub fn oidc(issuer: impl Into<String>) -> Result<JwtAuthenticator, UrlError> {
    let issuer = issuer.into();
    client::parse(&issuer)?;
    let document = client::parse(&discovery::address(&issuer))?;
    let (client, wanted) = (Client::new()?, Arc::<str>::from(issuer.as_str()));
    let tokens = JwtAuthenticator::fetched(move || {
        let (client, document, issuer) = (client.clone(), document.clone(), Arc::clone(&wanted));
        async move {
            let keys = discovery::jwks_uri(&client.get(document).await?, &issuer)?;
            keys_at(&client, client::parse(&keys)?).await
        }
    });
    Ok(tokens.issuer(issuer))
}

/// Checks tokens with the JWK set at this URL, for a provider without a discovery document.
///
/// Set [`issuer`](JwtAuthenticator::issuer) and [`audience`](JwtAuthenticator::audience).
///
/// # Errors
/// [`UrlError`].
pub fn jwks(url: &str) -> Result<JwtAuthenticator, UrlError> {
    let (client, url) = (Client::new()?, client::parse(url)?);
    Ok(JwtAuthenticator::fetched(move || {
        let (client, url) = (client.clone(), url.clone());
        async move { keys_at(&client, url).await }
    }))
}

async fn keys_at(client: &Client, url: http::Uri) -> Result<JwkSet, FetchError> {
    Ok(JwkSet::parse(client.get(url).await?)?)
}
