//! A range of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation, as `10.0.0.0/8` or `2001:db8::/32`. A single
/// address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

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
        self.prefix
    }

    /// Whether an address is in it. An IPv4-mapped IPv6 address is the IPv4
    /// address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && masked(ip, self.prefix) == self.network
    }
}

impl Cidr {
    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
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
        let ip: IpAddr = ip.parse().map_err(|_| syntax())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // `+8` and `08` are numbers to Rust.
            Some(p) if p.starts_with('+') || (p.len() > 1 && p.starts_with('0')) => {
                return Err(syntax());
            }
            Some(prefix) => prefix.parse().map_err(|_| syntax())?,
            None => longest,
        };
        if prefix > longest {
            return Err(syntax());
        }
        let network = Self {
            network: masked(ip, prefix),
            prefix,
        };
        if network.network != ip {
            return Err(BadCidr::HostBits {
                text: text.to_owned(),
                network,
            });
        }
        Ok(network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// The first `prefix` bits of an address; the others 0.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    // A shift by the whole width overflows: that mask is 0.
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
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
            let ip = IpAddr::from(Ipv4Addr::from_bits(bits));
            let text = format!("{}/{prefix}", masked(ip, prefix));
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
