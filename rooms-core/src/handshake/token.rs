//! Where the token of an upgrade is.

use http::{HeaderMap, Uri, header::AUTHORIZATION};

use super::Refusal;

/// A place to look for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// `Authorization: Bearer <token>` (RFC 6750 section 2.1).
    Bearer,
    /// A query parameter of this name.
    Query(String),
}

/// Finds the one token; more than one is an error, wherever they are.
pub(super) fn find(sources: &[TokenSource], uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut tokens = sources.iter().flat_map(|source| match source {
        TokenSource::Bearer => bearer(headers),
        TokenSource::Query(parameter) => query(uri, parameter),
    });
    match (tokens.next(), tokens.next()) {
        (token, None) => Ok(token),
        _ => Err(Refusal::ManyTokens),
    }
}

fn bearer(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let bearer = |value: &str| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    };
    values.filter_map(bearer).collect()
}

/// The values of a parameter as they stand: a JWT has no character that a URL would escape, and whatever has one is no
/// token.
fn query(uri: &Uri, parameter: &str) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == parameter).map(|(_, value)| value.to_owned()).collect()
}
