//! Which client stands where.

use std::net::IpAddr;

use super::{Cidr, Zone};

/// Networks and their zones, as the operator lists them. Of several networks
/// that an address is in, the longest prefix says where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneTable {
    zones: Vec<Zone>,
    /// Longest prefix first, and which of `zones` it is in.
    networks: Vec<(Cidr, usize)>,
}

impl ZoneTable {
    /// Most zones of a table: every zone of a service has lists of its own.
    pub const MAX_ZONES: usize = 64;

    /// The table of these zones, each with its networks. Of two that list the
    /// same network, the first has it.
    #[must_use]
    pub fn new(zones: Vec<(Zone, Vec<Cidr>)>) -> Self {
        let mut networks = Vec::new();
        for (index, (_, cidrs)) in zones.iter().enumerate() {
            networks.extend(cidrs.iter().map(|cidr| (*cidr, index)));
        }
        networks.sort_by_key(|(cidr, _)| std::cmp::Reverse(cidr.prefix_len()));
        Self {
            zones: zones.into_iter().map(|(zone, _)| zone).collect(),
            networks,
        }
    }

    /// The zones, in the order of the table.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Where an address stands, as an index of [`Self::zones`]; `None` if no
    /// network has it.
    #[must_use]
    pub fn find(&self, ip: IpAddr) -> Option<usize> {
        let found = self.networks.iter().find(|(cidr, _)| cidr.contains(ip));
        found.map(|(_, zone)| *zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_says_where_an_address_stands() {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let table = ZoneTable::new(vec![
            ("a".into(), cidrs(&["10.0.0.0/8", "10.1.2.3"])),
            ("b".into(), cidrs(&["10.1.0.0/16", "2001:db8::/32"])),
        ]);
        let zone = |ip: &str| {
            let found = table.find(ip.parse().unwrap());
            found.map(|index| table.zones()[index].to_string())
        };
        assert_eq!(zone("10.2.0.1").as_deref(), Some("a"));
        assert_eq!(zone("10.1.0.1").as_deref(), Some("b"));
        assert_eq!(zone("10.1.2.3").as_deref(), Some("a"));
        assert_eq!(zone("::ffff:10.1.0.1").as_deref(), Some("b"));
        assert_eq!(zone("2001:db8::1").as_deref(), Some("b"));
        assert_eq!(zone("11.0.0.1"), None);
        assert_eq!(ZoneTable::default().find("10.0.0.1".parse().unwrap()), None);
    }
}
