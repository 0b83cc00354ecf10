//! Where the balancer itself may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Cidr;

/// Cloud providers answer with credentials here; the IPv4 one is link-local.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Where a service's backends may be, as far as the balancer calls them: to ask for
/// their health or load, or because they registered. What a backend says of itself
/// must not make the balancer a door to the network it stands in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialRules(Vec<Cidr>);

impl DialRules {
    /// Only these networks; of none, anywhere but where no backend is: link-local,
    /// multicast, broadcast, unspecified and metadata addresses. Networks that are
    /// given are meant, whatever they are.
    #[must_use]
    pub fn new(cidrs: Vec<Cidr>) -> Self {
        Self(cidrs)
    }

    /// Whether networks were given.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether the balancer may connect to this address.
    #[must_use]
    pub fn allow(&self, ip: IpAddr) -> bool {
        self.refuse(ip).is_none()
    }

    /// Why not, to stand behind "`ip` is"; `None` if it may.
    #[must_use]
    pub fn refuse(&self, ip: IpAddr) -> Option<&'static str> {
        if self.0.is_empty() {
            return never_a_backend(ip.to_canonical());
        }
        let inside = self.0.iter().any(|cidr| cidr.contains(ip));
        (!inside).then_some("in none of the service's cidrs")
    }
}

/// What an address is that never belongs to a backend.
fn never_a_backend(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_multicast() => Some("multicast"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("broadcast"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("unspecified"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("multicast"),
        IpAddr::V6(METADATA_V6) => Some("a metadata server"),
        ip if ip.is_unspecified() => Some("unspecified"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_nobodys() {
        let rules = DialRules::default();
        for (ip, what) in [
            ("169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("0.1.2.3", "unspecified"),
            ("fd00:ec2::254", "a metadata server"),
        ] {
            assert_eq!(rules.refuse(ip.parse().unwrap()), Some(what), "{ip}");
        }
        for ip in ["10.0.0.1", "127.0.0.1", "8.8.8.8", "2001:db8::1", "fd00::1"] {
            assert!(rules.allow(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn networks_that_are_named_are_all_there_is() {
        let networks = ["10.0.0.0/8", "169.254.0.0/16"];
        let rules = DialRules::new(networks.map(|cidr| cidr.parse().unwrap()).into());
        for (ip, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("169.254.1.1", true),
            ("11.0.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(rules.allow(ip.parse().unwrap()), allowed, "{ip}");
        }
    }
}
