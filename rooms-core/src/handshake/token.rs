//! Where the token of an upgrade is.

use http::{HeaderMap, Uri, header::AUTHORIZATION};

use super::Refusal;
use crate::{auth::AuthError, percent};

/// A place to look for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// `Authorization: Bearer <token>` (RFC 6750 section 2.1).
    Bearer,
    /// A query parameter of this name.
    Query(String),
}

impl TokenSource {
    /// Whether it is the query parameter of this name.
    pub(super) fn is_query(&self, name: &str) -> bool {
        matches!(self, Self::Query(parameter) if parameter == name)
    }
}

/// A token, or why what stands in its place can't be read as one.
type Found = Result<String, AuthError>;

/// Finds the one token in these sources; more than one is an error, wherever they are. What is in no source is not looked
/// at.
pub(super) fn find(sources: &[TokenSource], uri: &Uri, headers: &HeaderMap) -> Result<Option<Found>, Refusal> {
    let mut tokens = sources.iter().flat_map(|source| match source {
        TokenSource::Bearer => bearer(headers),
        TokenSource::Query(parameter) => query(uri, parameter),
    });
    match (tokens.next(), tokens.next()) {
        (token, None) => Ok(token),
        _ => Err(Refusal::ManyTokens),
    }
}

fn bearer(headers: &HeaderMap) -> Vec<Found> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let bearer = |value: &str| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Ok(token.trim().to_owned()))
    };
    values.filter_map(bearer).collect()
}

/// The values of a parameter, decoded as its name is: a page writes both with `URLSearchParams`, which escapes the `/` and
/// the `=` of base64.
fn query(uri: &Uri, parameter: &str) -> Vec<Found> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| percent::decode(name).is_some_and(|name| name == parameter));
    values.map(|(_, value)| percent::decode(value).map(Into::into).ok_or(AuthError::Encoding)).collect()
}
