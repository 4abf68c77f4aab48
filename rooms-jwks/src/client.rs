//! Requests to a provider, in bounds.

use std::time::Duration;

use reqwest::{StatusCode, Url, header::ACCEPT, redirect::Policy};
use rooms_core::{JwkSet, JwkSetError};
use rustls::crypto::{CryptoProvider, ring};

/// The time for one answer. 5 s: discovery and keys together fit into `Limits::handshake_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_BYTES: usize = JwkSet::MAX_BYTES;

/// Why an address can't be one of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not a URL.
    #[error("not a URL: `https://host/path`")]
    NotAUrl,
    /// It is not HTTPS, so that anybody on the way could put in keys of their own.
    #[error("a provider's URL is https; http is for localhost, 127.0.0.1 and [::1] alone")]
    Insecure,
    /// The HTTP client can't be made: there is no TLS configuration.
    #[error("the HTTP client can't be made: no TLS configuration")]
    Client,
}

/// Why keys could not be fetched. Nothing in it comes from the answer but its status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The request failed, or took too long.
    #[error("the provider did not answer")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is another status than 200; a redirect is one.
    #[error("the provider answered {0} in place of 200; redirects are not followed")]
    Status(u16),
    /// The answer is too long.
    #[error("the provider's answer has more than {MAX_BYTES} bytes")]
    TooLong,
    /// The discovery document has no `issuer` and `jwks_uri`.
    #[error("the discovery document is not JSON with `issuer` and `jwks_uri`")]
    Discovery,
    /// The discovery document is another issuer's.
    #[error("the discovery document names another issuer: configure it exactly as it stands there")]
    OtherIssuer,
    /// `jwks_uri` can't be used.
    #[error("the provider's `jwks_uri` can't be used")]
    JwksUri(#[from] UrlError),
    /// The keys can't be used.
    #[error("the provider's keys can't be used")]
    Keys(#[from] JwkSetError),
}

/// A URL that may be asked.
pub(crate) fn parse(url: &str) -> Result<Url, UrlError> {
    let url = Url::parse(url).map_err(|_| UrlError::NotAUrl)?;
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) | ("http", Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(url),
        _ => Err(UrlError::Insecure),
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Client(reqwest::Client);

impl Client {
    pub(crate) fn new() -> Result<Self, UrlError> {
        if CryptoProvider::get_default().is_none() {
            // Somebody else may be first.
            _ = ring::default_provider().install_default();
        }
        let client = reqwest::Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build();
        client.map(Self).map_err(|_| UrlError::Client)
    }

    /// The body of the answer, piece by piece, so that a long one is noticed before it is there.
    pub(crate) async fn get(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Request(error.into());
        let mut answer = self.0.get(url).header(ACCEPT, "application/json").send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > MAX_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What is read of an answer of so many bytes, whose length is not said.
    async fn read(length: usize) -> Result<usize, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", " ".repeat(length));
            _ = stream.write_all(answer.as_bytes()).await;
        });
        Client::new().unwrap().get(url).await.map(|body| body.len())
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_longest_set() {
        assert_eq!(read(MAX_BYTES).await.ok(), Some(MAX_BYTES));
        assert!(matches!(read(MAX_BYTES + 1).await, Err(FetchError::TooLong)));
    }
}
