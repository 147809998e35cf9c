//! Addresses that nobody whom pintle calls can have: a request's URL, or what a name resolves to, must not lead to the
//! machine's own metadata or to all of a network. One list for downloads and deliveries. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address that is never called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its address {address} is a link-local, metadata, multicast or broadcast address, which pintle never calls")]
pub struct ForbiddenAddress {
    /// The address.
    pub address: IpAddr,
}

/// Whether neither a Looker nor a data plane can be there: link-local, the clouds' metadata services, multicast,
/// broadcast, unspecified; also inside an IPv6 address that leads to an IPv4 one.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6) || embedded_v4(v6).is_some_and(forbidden_v4),
    }
}

fn forbidden_v6(address: Ipv6Addr) -> bool {
    let [first, second, .., last] = address.segments();
    address.is_unspecified()
        || address.is_multicast()
        || first & 0xffc0 == 0xfe80
        // AWS (each of its services, metadata and identities among them) and Google have theirs among the private
        // addresses.
        || (first, second) == (0xfd00, 0x0ec2)
        || (first, second, last) == (0xfd20, 0x00ce, 0x0254)
}

fn forbidden_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        // 0.0.0.0 is this machine; the rest of 0/8 is nothing.
        || address.octets().first() == Some(&0)
        // Alibaba, Azure, Oracle.
        || matches!(address.octets(), [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192])
}

/// The IPv4 address inside a mapped, translated, compatible, NAT64, 6to4 or ISATAP one.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // NAT64 of one's own, in the length that is common.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// What a name resolved to, where all of it may be called: a name with a forbidden address among its own is not trusted
/// at all.
pub fn allowed(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
    match found.iter().map(SocketAddr::ip).find(|address| is_forbidden(*address)) {
        Some(address) => Err(ForbiddenAddress { address }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_never_called() {
        for forbidden in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:db8::200:5efe:a9fe:a9fe",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:ffff::1",
            "fd00:ec2::5efe:808:808",
            "fe80::5efe:808:808",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
        for fine in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.168.1.1",
            "100.100.100.201",
            "fd00::1",
            "2001:db8::1",
            "8.8.8.8",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_forbidden(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn one_bad_address_spoils_a_name() {
        let mixed = vec!["10.0.0.1:0".parse().unwrap(), "169.254.169.254:0".parse().unwrap()];
        assert!(allowed(mixed).is_err());
        assert!(allowed(vec!["10.0.0.1:0".parse().unwrap()]).is_ok());
    }
}
