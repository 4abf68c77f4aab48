//! What the limits by address count as one client.

use std::{net::IpAddr, num::NonZeroU64};

/// An IPv4 address, or the /64 of an IPv6 address: the smallest network that a provider gives to one customer (RFC 6177
/// section 2), in which that customer may change its address for each connection.
///
/// Eight bytes, and as many with `Option` around it, because every connection has one. An IPv4 address that is written as
/// IPv6 (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) is the same as without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(NonZeroU64);

impl Network {
    /// Set in what stands for an IPv4 address. As the first half of an IPv6 address this is `0:1::/32`, which nobody has: all
    /// of `::/8` is reserved (RFC 4291 section 2.4).
    const V4: u64 = 1 << 32;

    pub(crate) fn of(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            IpAddr::V4(address) => Self::V4 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_64_and_an_ipv4_client_its_address() {
        let network = |address: &str| Network::of(address.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("0.0.0.0"), network("::"));
        assert_eq!(size_of::<Option<Network>>(), 8, "every connection has one");
    }
}
