//! The document in which an OpenID provider says where its keys are.

use serde::Deserialize;

use crate::client::FetchError;

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Where an issuer's document is (OpenID Connect Discovery 1.0 section 4.1): a `/` at the end of the issuer is not doubled.
pub(crate) fn address(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// Where the keys are. The document has to be that of this issuer (section 4.3): otherwise a provider with several tenants
/// could be made to answer with the keys of another.
pub(crate) fn jwks_uri(text: &[u8], issuer: &str) -> Result<String, FetchError> {
    let document: Document = serde_json::from_slice(text).map_err(|_| FetchError::Discovery)?;
    if document.issuer == issuer { Ok(document.jwks_uri) } else { Err(FetchError::OtherIssuer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_below_the_issuer() {
        let at = "https://id.example/t/.well-known/openid-configuration";
        assert_eq!((address("https://id.example/t"), address("https://id.example/t/")), (at.into(), at.into()));
    }
}
