//! Where the balancer itself may connect to.

use std::net::IpAddr;

use super::Cidr;
use super::special::Special;

/// Where a service's backends may be, as far as the balancer calls them: to ask for
/// their health or load, or because they registered. What a backend says of itself
/// must not make the balancer a door to the network it stands in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialRules(Vec<Cidr>);

impl DialRules {
    /// Only these networks; of none, anywhere. But never where no backend is
    /// (link-local, multicast, broadcast, reserved, unspecified and metadata
    /// addresses, in every IPv6 spelling), unless a network is given that lies
    /// within such a range: then it is meant.
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
        let around = || self.0.iter().filter(|cidr| cidr.contains(ip));
        if self.is_stated() && around().next().is_none() {
            return Some("in none of the service's cidrs");
        }
        let special = Special::of(ip)?;
        let is_meant = around().any(|cidr| cidr.prefix_len() >= special.prefix);
        (!is_meant).then_some(special.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_networks_backends_are_anywhere_but_where_none_is() {
        let rules = DialRules::default();
        for ip in ["169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"] {
            assert!(!rules.allow(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["10.0.0.1", "127.0.0.1", "8.8.8.8", "2001:db8::1", "fd00::1"] {
            assert!(rules.allow(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_network_around_a_special_range_does_not_mean_it() {
        let networks = ["0.0.0.0/0", "::/0", "64:ff9b::/96", "2002:a9fe::/32"];
        let rules = DialRules::new(networks.map(|cidr| cidr.parse().unwrap()).into());
        for (ip, why) in [
            ("169.254.169.254", Some("link-local")),
            ("64:ff9b::169.254.169.254", Some("link-local")),
            ("fd00:ec2::254", Some("a metadata server")),
            ("64:ff9b::10.0.0.1", None),
            ("2002:a9fe:a9fe::1", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(rules.refuse(ip.parse().unwrap()), why, "{ip}");
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
