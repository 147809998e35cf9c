//! Names to addresses, each time anew, and no way to a machine's own metadata: where the operator has listed the
//! origins that may be posted to, a listed name that resolves to a link-local address is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves by the system, and drops link-local and metadata addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded;

/// The name leads only to addresses that are never a data plane's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} resolves only to link-local or metadata addresses, which are not posted to")]
pub(super) struct Forbidden {
    /// The name.
    pub(super) host: String,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| !forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Forbidden { host }.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether no data plane can be there: link-local, or a cloud's metadata service.
pub(super) fn forbidden(address: IpAddr) -> bool {
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AWS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == ALIBABA,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == AWS_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_no_data_planes() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(forbidden(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "100.100.100.201"] {
            assert!(!forbidden(address.parse().unwrap()), "{address}");
        }
    }
}
