//! Addresses that no backend has, in every way to write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses that no backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Special {
    /// What it is, to stand behind "`ip` is".
    pub(super) what: &'static str,
    /// Bits that the range's addresses have in common, as they are written.
    pub(super) prefix: u8,
}

const LINK_LOCAL: &str = "link-local";
const METADATA: &str = "a metadata server";
const MULTICAST: &str = "multicast";
const RESERVED: &str = "reserved";
const UNSPECIFIED: &str = "unspecified";

/// IPv4: IANA's special-purpose registry, and where cloud providers answer with
/// credentials (Alibaba Cloud, Azure; AWS's and GCP's are link-local, Oracle's is in
/// 192.0.0.0/24). The first that an address is in counts.
const V4: [(Ipv4Addr, u8, &str); 8] = [
    (Ipv4Addr::UNSPECIFIED, 8, UNSPECIFIED),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 0), 24, RESERVED),
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),
    (Ipv4Addr::BROADCAST, 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, RESERVED),
];

/// IPv6: the same, AWS's and GCP's metadata servers, and the network behind which a
/// site may have its own translation to IPv4, in a form that only it knows
/// (RFC 8215).
const V6: [(Ipv6Addr, u8, &str); 7] = [
    (Ipv6Addr::UNSPECIFIED, 128, UNSPECIFIED),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, METADATA),
    (
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
        128,
        METADATA,
    ),
    (
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0),
        48,
        "translated to IPv4 by the site",
    ),
];

impl Special {
    /// The range that `ip` is in, however it is written; `None` of an address that a
    /// backend may have.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6).or_else(|| {
                let inside = embedded(v6).into_iter().flatten();
                let mut inside = inside.filter_map(|(v4, before)| Some((of_v4(v4)?, before)));
                inside.next().map(|(special, before)| Self {
                    prefix: before + special.prefix,
                    ..special
                })
            }),
        }
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<Special> {
    let bits = ip.to_bits();
    let shift = |prefix: u8| 32 - u32::from(prefix);
    let mut ranges = V4.iter();
    let (_, prefix, what) =
        ranges.find(|(net, prefix, _)| (net.to_bits() ^ bits) >> shift(*prefix) == 0)?;
    Some(Special {
        what,
        prefix: *prefix,
    })
}

fn of_v6(ip: Ipv6Addr) -> Option<Special> {
    let bits = ip.to_bits();
    let shift = |prefix: u8| 128 - u32::from(prefix);
    let mut ranges = V6.iter();
    let (_, prefix, what) =
        ranges.find(|(net, prefix, _)| (net.to_bits() ^ bits) >> shift(*prefix) == 0)?;
    Some(Special {
        what,
        prefix: *prefix,
    })
}

/// The IPv4 addresses that packets to an IPv6 address may end at, each with the
/// number of bits before it.
fn embedded(ip: Ipv6Addr) -> [Option<(Ipv4Addr, u8)>; 4] {
    let bits = ip.to_bits();
    let v4_at = |is: bool, before: u8| {
        let v4 = Ipv4Addr::from_bits((bits >> (96 - u32::from(before))) as u32);
        is.then_some((v4, before))
    };
    let is_last = match ip.segments() {
        // Loopback is IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 1] => false,
        // IPv4-compatible, IPv4-translated (RFC 2765), NAT64 (RFC 6052), ISATAP
        // (RFC 5214).
        [0, 0, 0, 0, 0 | 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => true,
        _ => false,
    };
    // 6to4 (RFC 3056); Teredo (RFC 4380) names its server, and the client with its
    // bits inverted.
    let is_6to4 = bits >> 112 == 0x2002;
    let is_teredo = bits >> 96 == 0x2001_0000;
    let client = Ipv4Addr::from_bits(!(bits as u32));
    [
        v4_at(is_last, 96),
        v4_at(is_6to4, 16),
        v4_at(is_teredo, 32),
        is_teredo.then_some((client, 96)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn what(ip: &str) -> Option<&'static str> {
        Special::of(ip.parse().unwrap()).map(|special| special.what)
    }

    #[test]
    fn some_addresses_are_no_backends() {
        for (ip, is) in [
            ("0.0.0.0", UNSPECIFIED),
            ("0.1.2.3", UNSPECIFIED),
            ("169.254.169.254", LINK_LOCAL),
            ("100.100.100.200", METADATA),
            ("168.63.129.16", METADATA),
            ("192.0.0.192", RESERVED),
            ("224.0.0.1", MULTICAST),
            ("239.255.255.255", MULTICAST),
            ("240.0.0.1", RESERVED),
            ("255.255.255.255", "broadcast"),
            ("::", UNSPECIFIED),
            ("fe80::1", LINK_LOCAL),
            ("febf::1", LINK_LOCAL),
            ("fec0::1", "site-local"),
            ("feff::1", "site-local"),
            ("ff02::1", MULTICAST),
            ("fd00:ec2::254", METADATA),
            ("fd00:ec2::23", METADATA),
            ("fd20:ce::254", METADATA),
            ("64:ff9b:1::1", "translated to IPv4 by the site"),
            ("::ffff:169.254.169.254", LINK_LOCAL),
            ("::169.254.169.254", LINK_LOCAL),
            ("::ffff:0:169.254.169.254", LINK_LOCAL),
            ("64:ff9b::169.254.169.254", LINK_LOCAL),
            ("2002:a9fe:a9fe::1", LINK_LOCAL),
            ("2001:0:a9fe:a9fe::1", LINK_LOCAL),
            ("2001:0:a00:1::5601:5601", LINK_LOCAL),
            ("2001:db8::5efe:169.254.169.254", LINK_LOCAL),
            ("2001:db8::200:5efe:100.100.100.200", METADATA),
        ] {
            assert_eq!(what(ip), Some(is), "{ip}");
        }
    }

    #[test]
    fn whatever_a_backend_may_have_is_not_special() {
        for ip in [
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.201",
            "127.0.0.1",
            "172.16.0.1",
            "192.0.1.1",
            "192.168.0.1",
            "8.8.8.8",
            "::1",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "2001:db8::1",
            "fd00::1",
            "fd20:ce::253",
            "fc00::1",
        ] {
            assert_eq!(what(ip), None, "{ip}");
        }
    }

    fn special_v4() -> impl Strategy<Value = Ipv4Addr> {
        (0..V4.len(), any::<u32>()).prop_map(|(range, bits)| {
            let (net, prefix, _) = V4[range];
            let host = bits.checked_shr(u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(net.to_bits() | host)
        })
    }

    proptest! {
        #[test]
        fn no_spelling_makes_a_special_address_a_backends(v4 in special_v4(), rest: u128) {
            prop_assert!(Special::of(v4.into()).is_some());
            let low = u128::from(v4.to_bits());
            let inverted = u128::from(!v4.to_bits());
            let keep = |bits: u32| rest & ((1 << bits) - 1);
            let site = 0x64_ff9b_0001 << 80;
            let isatap = (rest >> 96 << 96) | (0x5efe << 32) | low;
            for spelling in [
                low,
                (0xffff << 32) | low,
                (0xffff << 48) | low,
                (0x0064_ff9b << 96) | low,
                // RFC 6052 knows six places, of which a network of 48 bits has four.
                site | low,
                site | (low >> 16 << 64) | ((low & 0xffff) << 40),
                site | (low >> 24 << 64) | ((low & 0x00ff_ffff) << 32),
                site | (low << 24),
                (0x2002 << 112) | (low << 80) | keep(80),
                (0x2001_0000 << 96) | (low << 64) | keep(64),
                (0x2001_0000 << 96) | (keep(64) << 32) | inverted,
                isatap,
                isatap | (0x0200_0000 << 32),
            ] {
                // Loopback, which `0.0.0.1` would be if it were written so.
                prop_assume!(spelling != 1);
                let ip = IpAddr::from(Ipv6Addr::from_bits(spelling));
                prop_assert!(Special::of(ip).is_some(), "{ip} is {v4}");
            }
        }

        #[test]
        fn a_range_is_never_wider_than_an_address(bits: u128) {
            if let Some(special) = Special::of(Ipv6Addr::from_bits(bits).into()) {
                prop_assert!(special.prefix <= 128);
            }
        }
    }
}
