//! The hosts file: names that need no name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// What the system's hosts file has of `host`, IPv4 first. It is read each time,
/// as glibc does: it may have changed.
pub(super) fn lookup(host: &str) -> Vec<IpAddr> {
    match std::fs::read(path()) {
        Ok(text) => addresses(&String::from_utf8_lossy(&text), host),
        Err(error) => {
            tracing::debug!(path = %path().display(), %error, "no hosts file");
            vec![]
        }
    }
}

/// The addresses of `localhost` and of what is below it (RFC 6761), which no name
/// server is asked for.
pub(super) fn loopback(host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_end_matches('.');
    let last = host.rsplit('.').next().unwrap_or(host);
    let both = || vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    last.eq_ignore_ascii_case("localhost").then(both)
}

#[cfg(not(windows))]
fn path() -> PathBuf {
    PathBuf::from("/etc/hosts")
}

#[cfg(windows)]
fn path() -> PathBuf {
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into());
    PathBuf::from(root).join("System32\\drivers\\etc\\hosts")
}

fn addresses(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found = vec![];
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        let mut names = words.map(|name| name.trim_end_matches('.'));
        if names.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, host: &str) -> Vec<String> {
        let found = addresses(text, host);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_in_the_hosts_file_has_its_addresses_in_order() {
        let text = "\u{feff}# hosts\n::1 db\n10.0.0.2\tweb DB # old: 10.0.0.9 db\n10.0.0.1 db.\n\
                    nonsense db\n10.0.0.2 db\n#10.0.0.3 db\n";
        assert_eq!(found(text, "db"), ["10.0.0.2", "10.0.0.1", "::1"]);
        assert_eq!(found(text, "Web."), ["10.0.0.2"]);
        assert!(found(text, "d").is_empty() && found(text, "nonsense").is_empty());
    }

    #[test]
    fn names_of_docker_are_names() {
        let text = "10.0.0.1 my_greeter_1 -odd\n";
        assert_eq!(found(text, "my_greeter_1"), ["10.0.0.1"]);
        assert_eq!(found(text, "-odd"), ["10.0.0.1"]);
    }

    #[test]
    fn localhost_is_this_machine() {
        for host in ["localhost", "LOCALHOST.", "a.localhost"] {
            assert_eq!(loopback(host).map(|ips| ips.len()), Some(2), "{host}");
        }
        for host in ["localhost.test", "mylocalhost", "a.test"] {
            assert_eq!(loopback(host), None, "{host}");
        }
    }
}
