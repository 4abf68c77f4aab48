//! Which pages may connect (RFC 6454; RFC 6455 section 10.2).

use http::{HeaderValue, Uri, uri::Scheme};

/// The rule for the `Origin` header.
#[derive(Debug, Clone)]
pub(super) enum Origins {
    /// The origin's host and port are those that the request was sent to.
    SameHost,
    /// The origin is one of these.
    List(Vec<Origin>),
}

/// What is not an origin: `scheme://host` or `scheme://host:port` with `http` or `https`, and nothing behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: `https://host` or `https://host:port`, and nothing behind it")]
pub struct OriginError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Origins {
    pub(super) fn list<I>(origins: I) -> Result<Self, OriginError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |origin: I::Item| {
            Origin::parse(origin.as_ref()).ok_or_else(|| OriginError(origin.as_ref().escape_debug().to_string()))
        };
        origins.into_iter().map(parse).collect::<Result<_, _>>().map(Self::List)
    }

    /// Whether a page of this origin may connect. What does not parse, `null` among it, may not.
    pub(super) fn allow(&self, origin: &HeaderValue, host: Option<&HeaderValue>, uri: &Uri) -> bool {
        let Some(origin) = origin.to_str().ok().and_then(Origin::parse) else { return false };
        match self {
            Self::List(list) => list.contains(&origin),
            Self::SameHost => {
                let host = host.and_then(|host| host.to_str().ok());
                let Some(authority) = host.or_else(|| uri.authority().map(|authority| authority.as_str())) else {
                    return false;
                };
                // The request does not say whether it came over TLS, which a proxy may have ended; so the default port
                // is that of the origin's scheme.
                let scheme = if origin.secure { "https" } else { "http" };
                Origin::parse(&format!("{scheme}://{authority}")) == Some(origin)
            }
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        // `Uri` reads `https://a.example` as having the path `/`; an origin has none, and no user either.
        let after_scheme = text.split_once("://")?.1;
        let named =
            |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        if after_scheme != authority.as_str() || authority.as_str().contains('@') || !named(authority.host()) {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // Something stands where the port would, and is none: `:`, `:abc`, `:99999`.
            None if authority.as_str() != authority.host() => return None,
            None if secure => 443,
            None => 80,
        };
        Some(Self { secure, host: authority.host().to_ascii_lowercase(), port })
    }
}
