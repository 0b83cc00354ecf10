//! The list of hosts that are called without a proxy (`no_proxy`).

use std::net::IpAddr;

/// Whether `host` and `port` are called directly: loopback always is, as in Go. Entries
/// of the list stand between commas: a domain, which stands for itself and all below it
/// (`example.com`, `.example.com` and `*.example.com` alike), an IP address, a network
/// (`10.0.0.0/8`), any of these but the last with a port, or `*` for all.
pub(super) fn is_bypassed(host: &str, port: u16, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ip: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return true;
    }
    let entries = list
        .split(',')
        .map(|entry| entry.trim().to_ascii_lowercase());
    entries
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || matches(&host, ip, port, &entry))
}

fn matches(host: &str, ip: Option<IpAddr>, port: u16, entry: &str) -> bool {
    if let Some((network, length)) = entry.split_once('/') {
        let network = network.parse::<IpAddr>();
        let (Some(ip), Ok(network), Ok(length)) = (ip, network, length.parse()) else {
            return false;
        };
        return contains(network, length, ip);
    }
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    if let Ok(entry) = bare.parse::<IpAddr>() {
        return ip.is_some_and(|ip| ip.to_canonical() == entry.to_canonical());
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, wanted)) => (name, Some(wanted)),
        None => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted.parse() != Ok(port)) {
        return false;
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(entry) = bare.parse::<IpAddr>() {
        return ip == Some(entry);
    }
    let name = name.trim_start_matches('*').trim_matches('.');
    let below = host.strip_suffix(name);
    !name.is_empty() && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

fn contains(network: IpAddr, length: u32, ip: IpAddr) -> bool {
    match (network, ip.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(ip)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            network.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_list_and_loopback_are_called_directly() {
        let list = "example.com, .corp.test,*.svc, 10.0.0.0/8,192.0.2.7,2001:db8::/32,\
                    only.test:443,192.0.2.8:443,,";
        for host in [
            "localhost",
            "127.0.0.1",
            "::1",
            "example.com",
            "EXAMPLE.com.",
            "a.b.example.com",
            "corp.test",
            "x.corp.test",
            "greeter.svc",
            "10.1.2.3",
            "192.0.2.7",
            "192.0.2.8",
            "2001:db8::9",
            "only.test",
        ] {
            assert!(is_bypassed(host, 443, list), "{host}");
        }
        for host in [
            "badexample.com",
            "example.org",
            "11.0.0.1",
            "192.0.2.9",
            "2001:db9::1",
        ] {
            assert!(!is_bypassed(host, 443, list), "{host}");
        }
        for host in ["only.test", "192.0.2.8"] {
            assert!(!is_bypassed(host, 80, list), "{host}");
        }
        assert!(is_bypassed("any.test", 1, "x.test,*"));
        assert!(is_bypassed("192.0.2.1", 1, "0.0.0.0/0"));
    }

    proptest::proptest! {
        #[test]
        fn no_list_panics(host in "[a-z0-9.:]{0,12}", port: u16, list in "[a-z0-9.:/*,\\[\\] ]{0,40}") {
            is_bypassed(&host, port, &list);
        }
    }
}
