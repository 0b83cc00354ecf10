//! A range of IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network in CIDR notation, as `10.0.0.0/8` or `2001:db8::/32`. A single
/// address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNet);

/// Why a text is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    /// Not of the form `ip/prefix`.
    #[error("`{0}` is no network; write ip/prefix, as 10.0.0.0/8 or 2001:db8::/32")]
    Syntax(String),
    /// There are bits behind the prefix.
    #[error("`{text}` has bits set behind its prefix; write {network}")]
    HostBits {
        /// As written.
        text: String,
        /// The network it is in.
        network: Cidr,
    },
}

impl Cidr {
    /// How many bits its addresses have in common.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether an address is in it. An IPv4-mapped IPv6 address is the IPv4
    /// address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let syntax = || BadCidr::Syntax(text.to_owned());
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        // The standard library reads the address: ipnet's own reader takes `010.0.0.0/08`.
        let ip: IpAddr = ip.parse().map_err(|_| syntax())?;
        let net = match prefix {
            Some(p) if p.starts_with('+') || (p.len() > 1 && p.starts_with('0')) => None,
            Some(prefix) => prefix.parse().ok().and_then(|p| IpNet::new(ip, p).ok()),
            None => Some(IpNet::from(ip)),
        };
        let net = net.ok_or_else(syntax)?;
        if net != net.trunc() {
            return Err(BadCidr::HostBits {
                text: text.to_owned(),
                network: Self(net.trunc()),
            });
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn contains(cidr: &str, ip: &str) -> bool {
        let cidr: Cidr = cidr.parse().unwrap();
        cidr.contains(ip.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_its_network_and_no_other() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("2001:db8::/32", "2001:db8::1"));
        assert!(!contains("::/0", "10.0.0.1"));
        assert!(contains("0.0.0.0/0", "10.0.0.1"));
        assert!(contains("10.0.0.1", "10.0.0.1"));
        assert!(!contains("10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_would_be_right() {
        for bad in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "010.0.0.0/8",
            "::/129",
            "host/8",
            "10.0.0.0/8/8",
        ] {
            let error = bad.parse::<Cidr>().unwrap_err();
            assert!(matches!(error, BadCidr::Syntax(_)), "{bad}");
        }
        let error = "10.0.0.1/8".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().ends_with("write 10.0.0.0/8"), "{error}");
    }

    proptest! {
        #[test]
        fn every_network_has_its_own_addresses_and_reads_back(bits: u32, prefix in 0u8..=32) {
            let behind = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let ip = IpAddr::from(Ipv4Addr::from_bits(bits));
            let text = format!("{}/{prefix}", Ipv4Addr::from_bits(bits & !behind));
            let cidr: Cidr = text.parse().unwrap();
            prop_assert!(cidr.contains(ip));
            prop_assert_eq!(cidr.to_string(), text);
            if prefix > 0 {
                let other = Ipv4Addr::from_bits(bits ^ (1 << (32 - u32::from(prefix))));
                prop_assert!(!cidr.contains(other.into()));
            }
        }
    }
}
