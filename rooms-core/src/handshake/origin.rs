//! Which pages may connect (RFC 6454; RFC 6455 section 10.2).

use std::{fmt, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

/// The longest host that is repeated in the log, in bytes: that of DNS (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 253;

/// The rule for the `Origin` header.
#[derive(Clone)]
pub(super) enum Origins {
    /// The origin's host and port are those that the request was sent to.
    SameHost,
    /// The origin is one of these.
    List(Vec<Allowed>),
    /// Every page.
    Any,
    /// What the application says.
    Ask(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// What is not an origin: `scheme://host` or `scheme://host:port`, and nothing behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin: `https://host`, `https://host:port`, `https://*.example.com`, `capacitor://localhost`, or \
     `null`, and nothing behind it"
)]
pub struct OriginError(String);

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    Exactly(Origin),
    /// Every host below this one's, and not itself.
    Below(Origin),
    /// `null`: files, sandboxed frames, and whatever else hides where it is from.
    Null,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    /// That of the scheme where none is written.
    port: Option<u16>,
}

impl Origins {
    pub(super) fn list<I>(origins: I) -> Result<Self, OriginError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let parse = |origin: I::Item| {
            Allowed::parse(origin.as_ref()).ok_or_else(|| OriginError(origin.as_ref().escape_debug().to_string()))
        };
        origins.into_iter().map(parse).collect::<Result<_, _>>().map(Self::List)
    }

    /// Whether it was said which pages may connect, as a cookie needs: a browser adds that for every page.
    pub(super) const fn names_pages(&self) -> bool {
        matches!(self, Self::List(_) | Self::Ask(_))
    }

    /// Whether a page of this origin may connect. What does not parse may not, wherever something is compared.
    pub(super) fn allow(&self, origin: &HeaderValue, host: Option<&HeaderValue>, uri: &Uri) -> bool {
        let Ok(text) = origin.to_str() else { return false };
        match self {
            Self::Any => true,
            Self::Ask(ask) => ask(text),
            Self::List(list) if text == "null" => list.contains(&Allowed::Null),
            Self::List(list) => Origin::parse(text).is_some_and(|origin| list.iter().any(|one| one.allows(&origin))),
            Self::SameHost => {
                let (Some(origin), Some(authority)) = (Origin::parse(text), sent_to(host, uri)) else { return false };
                // The request does not say whether it came over TLS, which a proxy may have ended; so the default port
                // is that of the origin's scheme.
                let web = matches!(&*origin.scheme, "http" | "https");
                web && Origin::parse(&format!("{}://{authority}", origin.scheme)) == Some(origin)
            }
        }
    }
}

impl Origins {
    /// Whether the pages of the host that the request was sent to may connect, over TLS or without.
    pub(super) fn allow_own(&self, host: Option<&HeaderValue>, uri: &Uri) -> bool {
        let Some(authority) = sent_to(host, uri) else { return false };
        ["https", "http"].iter().any(|scheme| {
            let origin = HeaderValue::try_from(format!("{scheme}://{authority}"));
            origin.is_ok_and(|origin| self.allow(&origin, host, uri))
        })
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameHost => f.write_str("SameHost"),
            Self::List(list) => f.debug_tuple("List").field(list).finish(),
            Self::Any => f.write_str("Any"),
            Self::Ask(_) => f.write_str("Ask"),
        }
    }
}

impl Allowed {
    fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let Some((scheme, host)) = text.split_once("://*.") else { return Origin::parse(text).map(Self::Exactly) };
        let origin = Origin::parse(&format!("{scheme}://{host}"))?;
        // `https://*.com` would be half of the web.
        origin.host.contains('.').then_some(Self::Below(origin))
    }

    fn allows(&self, origin: &Origin) -> bool {
        match self {
            Self::Null => false,
            Self::Exactly(one) => one == origin,
            Self::Below(one) => {
                let below = origin.host.strip_suffix(&*one.host).and_then(|rest| rest.strip_suffix('.'));
                one.scheme == origin.scheme && one.port == origin.port && below.is_some_and(|rest| !rest.is_empty())
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

/// Whether a request is from a page of the host that it was sent to. A browser says where a page's request comes from with
/// everything but what anybody may link to (the Fetch standard, "append a request `Origin` header").
pub(crate) fn is_from_own_page(uri: &Uri, headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| Origins::SameHost.allow(origin, headers.get(HOST), uri))
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
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if self.port != default_port(&self.scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

impl Origin {
    /// Of any scheme, as apps have their own: `capacitor://localhost`, `chrome-extension://{id}`. The host is what URLs have,
    /// and there is no path, no query and no user.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let named = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        // RFC 3986 section 3.1. A page's own origin is never one of the others.
        if !named || !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || matches!(&*scheme, "ws" | "wss" | "file")
        {
            return None;
        }
        let (host, port) = match rest.rfind(':') {
            // Those of IPv6 are inside of brackets.
            Some(at) if !rest.ends_with(']') => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
            _ => (rest, None),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let allowed = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        // `u16::from_str` takes a sign.
        let digits = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if !allowed || !digits {
            return None;
        }
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => default_port(&scheme),
        };
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}
