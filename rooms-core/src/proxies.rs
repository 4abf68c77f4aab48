//! Which address a request is from, where proxies stand in front.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that stand in front of this process, as networks, and the header in which they say whom they forward.
///
/// A header counts only in a request that comes from one of these networks. It is read from its right end, where the proxy
/// next to this process has written: addresses of named proxies are passed over, and the first other one is the client. What
/// stands left of that the client may have written itself, so nobody believes it. An entry that is no address, such as
/// `unknown` (RFC 7239 section 6.2), ends the reading: then the proxy that wrote it is taken for the client.
///
/// ```
/// use rooms_core::{Proxies, RoomManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: RoomManager =
///     RoomManager::builder().proxies(Proxies::x_forwarded_for(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])?).build()?;
/// # let _ = rooms;
/// # Ok(()) }
/// ```
///
/// Name the proxies themselves, and no network in which clients are. Name all of them that stand one behind the other, such
/// as those of a CDN and the one in front of this process: where one is missing, its address is taken for the client's, and
/// everybody who comes through it shares one client's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<IpNet>,
    header: HeaderName,
}

/// What is neither a network such as `10.0.0.0/8` nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no network of proxies: write an address, or one with the length of its prefix, such as 10.0.0.0/8"
)]
pub struct ProxiesError {
    text: String,
}

impl Proxies {
    /// Proxies that add the address of their client to `X-Forwarded-For`, as nginx does with
    /// `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for`, and most others by themselves.
    ///
    /// # Errors
    /// [`ProxiesError`] names what is no network.
    pub fn x_forwarded_for<I>(networks: I) -> Result<Self, ProxiesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::new(networks, X_FORWARDED_FOR)
    }

    /// Proxies that add their client to `Forwarded` (RFC 7239). Only one of the two headers is read, since a proxy passes the
    /// one that it does not know on as the client wrote it.
    ///
    /// # Errors
    /// [`ProxiesError`] names what is no network.
    pub fn forwarded<I>(networks: I) -> Result<Self, ProxiesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::new(networks, FORWARDED)
    }

    fn new<I>(networks: I, header: HeaderName) -> Result<Self, ProxiesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().map(|text| network(text.as_ref()));
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, header })
    }

    /// Nobody's header counts.
    pub(crate) const fn none() -> Self {
        Self { networks: Vec::new(), header: X_FORWARDED_FOR }
    }

    /// Whether this is the address of a proxy.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The address that a request is from.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue};
    /// use rooms_core::Proxies;
    ///
    /// let proxies = Proxies::x_forwarded_for(["10.0.0.0/8"])?;
    /// let mut headers = HeaderMap::new();
    /// // The client has written the first of them.
    /// headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.66, 203.0.113.7, 10.0.0.2"));
    /// let client = |peer: &str| proxies.client(peer.parse().unwrap(), &headers).to_string();
    /// assert_eq!(client("10.0.0.1:5000"), "203.0.113.7");
    /// assert_eq!(client("198.51.100.9:5000"), "198.51.100.9", "no proxy of ours, so it wrote all of them");
    /// # Ok::<(), rooms_core::ProxiesError>(())
    /// ```
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let mut hops =
            headers.get_all(&self.header).iter().rev().flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
        while self.has(client) {
            let Some(hop) = hops.next() else { break };
            let hop = std::str::from_utf8(hop).ok().map(str::trim);
            let address = if self.header == FORWARDED { hop.and_then(forwarded_for) } else { hop };
            let Some(address) = address.and_then(address_of) else { break };
            client = address;
        }
        client
    }
}

fn network(text: &str) -> Result<IpNet, ProxiesError> {
    let whole = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse().or_else(|_| whole()).map_err(|_| ProxiesError { text: text.escape_debug().to_string() })
}

/// The value of `for` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value.trim());
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)),
        _ => None,
    }
}

/// An address, also with a port behind it.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(proxies: &Proxies, peer: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&proxies.header, HeaderValue::from_static(line));
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_proxy() {
        let proxies = Proxies::x_forwarded_for(["10.0.0.0/8", "2001:db8::1"]).unwrap();
        for (peer, lines, expected) in [
            ("10.0.0.1:1", &["203.0.113.7"][..], "203.0.113.7"),
            ("10.0.0.1:1", &["192.0.2.66, 203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1:1", &["192.0.2.66", "203.0.113.7, 10.1.1.1"], "203.0.113.7"),
            ("10.0.0.1:1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("[::ffff:10.0.0.1]:1", &["203.0.113.7"], "203.0.113.7"),
            ("[2001:db8::1]:1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("[2001:db8::1]:1", &["2001:db8::7"], "2001:db8::7"),
            // All of them are proxies: the one that is farthest away.
            ("10.0.0.1:1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Not from a proxy, so forged.
            ("198.51.100.9:1", &["203.0.113.7"], "198.51.100.9"),
            ("[2001:db8::2]:1", &["203.0.113.7"], "2001:db8::2"),
            // What the proxy next to us wrote is no address, and what stands left of it is anybody's.
            ("10.0.0.1:1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1:1", &["203.0.113.7, 10.0.0.2, "], "10.0.0.1"),
            ("10.0.0.1:1", &["203.0.113.7, x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:1", &[], "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(client(&Proxies::none(), "127.0.0.1:1", &["203.0.113.7"]), "127.0.0.1");
    }

    #[test]
    fn the_header_of_rfc_7239_is_read_where_it_is_named() {
        let proxies = Proxies::forwarded(["10.0.0.0/8"]).unwrap();
        for (line, expected) in [
            ("for=192.0.2.66, for=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
            (r#"proto=http;For="[2001:db8::7]:4711""#, "2001:db8::7"),
            (r#"for="203.0.113.7:80""#, "203.0.113.7"),
            ("for=_hidden", "10.0.0.1"),
            ("for=203.0.113.7;for=203.0.113.8", "10.0.0.1"),
            ("203.0.113.7", "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, "10.0.0.1:1", &[line]), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for bad in ["", "10.0.0.0/33", "proxy.example", "10.0.0.0/8/8", "10.0.0.1:80"] {
            let error = Proxies::forwarded([bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}`")), "{error}");
        }
    }
}
