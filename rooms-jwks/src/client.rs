//! Requests to a provider, in bounds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use rooms_core::{JwkSet, JwkSetError};
use rustls::crypto::{CryptoProvider, ring};
use tokio::time::timeout;

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
    /// The HTTP client can't be made.
    #[error(
        "the machine has no certificates to trust: install those of the system, such as the package `ca-certificates`"
    )]
    NoCertificates,
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

/// An address that may be asked.
pub(crate) fn parse(url: &str) -> Result<Uri, UrlError> {
    let uri: Uri = url.parse().map_err(|_| UrlError::NotAUrl)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) | (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(uri),
        (Some(_), _) => Err(UrlError::Insecure),
        (None, _) => Err(UrlError::NotAUrl),
    }
}

/// It follows no redirects: it is asked for one address and gives one answer.
#[derive(Debug, Clone)]
pub(crate) struct Client(HttpClient<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Client {
    pub(crate) fn new() -> Result<Self, UrlError> {
        if CryptoProvider::get_default().is_none() {
            // For the whole process, as the build may have several now: then whoever asks for the default panics where none
            // is installed. Somebody else may be first.
            _ = ring::default_provider().install_default();
        }
        let provider = CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let connector = connector.map_err(|_| UrlError::NoCertificates)?.https_or_http().enable_http1().build();
        Ok(Self(HttpClient::builder(TokioExecutor::new()).build(connector)))
    }

    /// The body of the answer, within its bounds.
    pub(crate) async fn get(&self, url: Uri) -> Result<Bytes, FetchError> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("rooms-jwks/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new());
        let answer = async {
            let answer = self.0.request(request.map_err(failed)?).await.map_err(failed)?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status(answer.status().as_u16()));
            }
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { FetchError::TooLong } else { FetchError::Request(error) }
            })?;
            Ok(body.to_bytes())
        };
        timeout(TIMEOUT, answer).await.map_err(failed)?
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> FetchError {
    FetchError::Request(error.into())
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
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
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
