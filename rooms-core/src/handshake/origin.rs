//! Which pages may connect (RFC 6454; RFC 6455 section 10.2).

use std::fmt;

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, ORIGIN},
    uri::Scheme,
};

/// The longest host that is repeated in the log, in bytes: that of DNS (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 253;

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
                let Some(authority) = sent_to(host, uri) else { return false };
                // The request does not say whether it came over TLS, which a proxy may have ended; so the default port
                // is that of the origin's scheme.
                let scheme = if origin.secure { "https" } else { "http" };
                Origin::parse(&format!("{scheme}://{authority}")) == Some(origin)
            }
        }
    }
}

/// An origin that was refused and the host that its request was sent to, in words that may be logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) origin: String,
    pub(crate) host: String,
}

/// What was compared when an `Origin` was refused. Only what parses and is no longer than a host can be is repeated.
pub(crate) fn mismatch(uri: &Uri, headers: &HeaderMap) -> Mismatch {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => "none".to_owned(),
        (Some(_), Some(_)) => "(more than one)".to_owned(),
        (Some(origin), None) if origin == "null" => "null".to_owned(),
        (Some(origin), None) => loggable(origin.to_str().ok(), "(not an origin)"),
    };
    let host = match sent_to(headers.get(HOST), uri) {
        None => "none".to_owned(),
        Some(host) => loggable(Some(&format!("http://{host}")), "(not a host)").replacen("http://", "", 1),
    };
    Mismatch { origin, host }
}

/// An origin that parses, in lower case; it then has no character that a log could be confused by.
fn loggable(origin: Option<&str>, otherwise: &str) -> String {
    match origin.and_then(Origin::parse) {
        Some(origin) if origin.host.len() > LONGEST_HOST => "(too long)".to_owned(),
        Some(origin) => origin.to_string(),
        None => otherwise.to_owned(),
    }
}

/// The host and the port that a request was sent to.
fn sent_to<'a>(host: Option<&'a HeaderValue>, uri: &'a Uri) -> Option<&'a str> {
    let host = host.and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
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
