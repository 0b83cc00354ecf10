//! gRPC's target names (gRPC's `naming.md`): which service to reach and how its
//! addresses are found.
//!
//! | target | addresses |
//! |---|---|
//! | `dns:///host[:port]`, `dns:host[:port]`, `host[:port]` | DNS, the system's servers |
//! | `dns://10.0.0.53[:53]/host[:port]` | DNS, that server |
//! | `ipv4:10.0.0.1[:port][,10.0.0.2[:port],…]` | these |
//! | `ipv6:[2001:db8::1][:port][,…]` | these; `[fe80::1%2]:port` is at interface 2 |
//! | `static:10.0.0.1[:port],[2001:db8::1][:port][,…]` | these, of either kind |
//! | `static:lb1.example.com[:port],10.0.0.2[:port][,…]` | these, and those of the names in DNS, which is asked for nothing else |
//! | `unix:path`, `unix:///absolute/path` | that socket |
//! | `unix-abstract:name` | that socket in Linux's abstract namespace |
//!
//! A port that is not there is 443. Schemes are in any case, and `%20` and its
//! like stand for the characters they encode, as in every URI. What has no scheme
//! of these is a host name; a scheme of your own goes with
//! [`Builder::resolver`](crate::Builder::resolver).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::endpoint::Address;
use crate::error::{Error, TargetError};

/// Port of a DNS target that names none: gRPC's default, with TLS or without.
pub const DEFAULT_PORT: u16 = 443;
/// Port of a DNS server that is given without one.
const DNS_PORT: u16 = 53;

/// A parsed target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// To be looked up in DNS.
    Dns {
        /// DNS server to ask; the system's servers if `None`.
        server: Option<SocketAddr>,
        /// Host name or IP literal, without brackets.
        host: String,
        /// Port, if the target names one.
        port: Option<u16>,
        /// `host[:port]` as the target has it: the name that balancer and
        /// backends are told.
        name: String,
    },
    /// Given outright.
    Static(Vec<Address>),
    /// Given outright, some of them by names to be looked up: hosts, without brackets,
    /// and ports.
    Listed(Vec<(String, u16)>),
}

impl Target {
    /// The name of the service: `:authority` of RPCs, and the name in the
    /// request to a balancer, with the port if the target has one.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Dns { name, .. } => name.clone(),
            Self::Static(addresses) => match addresses.first() {
                // Without an IPv6 zone: that is this machine's own business.
                Some(Address::Tcp(addr)) => SocketAddr::new(addr.ip(), addr.port()).to_string(),
                // gRPC's authority for sockets without a network name.
                _ => "localhost".to_owned(),
            },
            Self::Listed(hosts) => match hosts.first() {
                Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
                Some((host, port)) => format!("{host}:{port}"),
                None => "localhost".to_owned(),
            },
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(target: &str) -> Result<Self, TargetError> {
        parse(target).map_err(|reason| TargetError {
            target: target.to_owned(),
            reason,
        })
    }
}

/// The host, without brackets, and the port of `host[:port]`.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_host_port(text: &str) -> Result<(String, Option<u16>), String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        if text.contains('%') {
            return Err(format!(
                "a name has no zone; an address with one is written {:?}",
                format!("ipv6:{text}")
            ));
        }
        return match addr.port() {
            0 => Err("port 0 cannot be called; ports are 1 to 65535".to_owned()),
            port => Ok((addr.ip().to_string(), Some(port))),
        };
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok((ip.to_string(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !host.chars().all(good) {
        return Err(format!(
            "{host:?} is no host name: letters, digits, '-', '_' and '.' make one, and an \
             IPv6 address with a port stands in brackets"
        ));
    }
    if host.len() > 253 {
        return Err(format!(
            "a host name has at most 253 characters, this one {}",
            host.len()
        ));
    }
    Ok((host.to_owned(), port))
}

/// The host and the port of a balancer's address.
///
/// # Errors
/// [`Error::Balancer`], which says what would be right.
pub(crate) fn parse_balancer(balancer: &str) -> Result<(String, u16), Error> {
    let reason = match parse_host_port(balancer) {
        Ok((host, Some(port))) => return Ok((host, port)),
        Ok((_, None)) => "the balancer's port is missing; write host:port".to_owned(),
        Err(_) if balancer.contains("//") => {
            let rest = balancer.rsplit_once("//").map_or("", |(_, rest)| rest);
            let bare = rest.split(['/', '?', '#']).next().unwrap_or_default();
            match parse_host_port(bare.trim()) {
                Ok((_, Some(_))) => {
                    format!("a balancer's address is no URL; write host:port: {bare:?}")
                }
                _ => "a balancer's address is no URL; write host:port".to_owned(),
            }
        }
        Err(reason) => format!("{reason}; write host:port"),
    };
    Err(Error::Balancer {
        address: balancer.to_owned(),
        reason,
    })
}

/// The name in a target of a scheme that is not ours: what stands behind the last
/// `/`, or behind the scheme. Only digits behind the `:` are a port.
pub(crate) fn name_of_any_scheme(target: &str) -> &str {
    match (target.rsplit_once('/'), target.split_once(':')) {
        (Some((_, name)), _) => name,
        (None, Some((_, rest))) if !rest.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => target,
    }
}

fn parse(target: &str) -> Result<Target, String> {
    let Some((scheme, rest)) = target.split_once(':') else {
        return parse_dns(target);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "dns" => parse_dns(rest),
        "ipv4" => parse_list(
            rest,
            |a| a.is_ipv4(),
            "an IPv4 address, perhaps with a port",
        ),
        "ipv6" => parse_list(
            rest,
            |a| a.is_ipv6(),
            "an IPv6 address, or one in brackets and a port",
        ),
        "static" => parse_static(rest),
        "unix" => parse_unix(rest),
        "unix-abstract" if rest.is_empty() => Err("the socket's name is missing".to_owned()),
        "unix-abstract" => Ok(Target::Static(vec![Address::UnixAbstract(decode(rest)?)])),
        "http" | "https" => Err(format!(
            "a target is no URL; write {:?}",
            format!("dns:///{}", rest.trim_start_matches('/'))
        )),
        // As in gRPC, what has no known scheme is a name to look up.
        _ if rest.starts_with("//") => Err(format!(
            "scheme {scheme:?} is not known; known are dns, ipv4, ipv6, static, unix and \
             unix-abstract, and others go with Builder::resolver"
        )),
        _ => parse_dns(target),
    }
}

fn parse_dns(rest: &str) -> Result<Target, String> {
    let (server, name) = match rest.strip_prefix("//") {
        None => (None, rest),
        Some(rest) => {
            let Some((server, name)) = rest.split_once('/') else {
                return Err(format!(
                    "after '//' stands a DNS server, then '/' and the name; for the system's \
                     servers write {:?}",
                    format!("dns:///{rest}")
                ));
            };
            (parse_server(server)?, name)
        }
    };
    let name = decode(name)?;
    let (host, port) = parse_host_port(&name)?;
    // Without brackets an IPv6 literal is no authority.
    let name = match name.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => name,
    };
    Ok(Target::Dns {
        server,
        host,
        port,
        name,
    })
}

fn parse_server(server: &str) -> Result<Option<SocketAddr>, String> {
    if server.is_empty() {
        return Ok(None);
    }
    match parse_address(server, DNS_PORT) {
        Some(addr) if addr.port() != 0 => Ok(Some(addr)),
        _ => Err(format!(
            "DNS server {server:?} is no IP address with an optional port"
        )),
    }
}

fn parse_list(
    rest: &str,
    right_kind: impl Fn(&SocketAddr) -> bool,
    wanted: &str,
) -> Result<Target, String> {
    rest.split(',')
        .map(str::trim)
        .map(|text| match parse_address(text, DEFAULT_PORT) {
            Some(addr) if addr.port() == 0 => {
                Err("port 0 cannot be called; ports are 1 to 65535".to_owned())
            }
            Some(addr) if right_kind(&addr) => Ok(Address::from(addr)),
            _ if text.contains('%') => Err(format!(
                "{text:?} is not {wanted}; a zone is the number of an interface, like fe80::1%2"
            )),
            _ => Err(format!("{text:?} is not {wanted}")),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Target::Static)
}

/// Addresses of either kind, and names.
fn parse_static(rest: &str) -> Result<Target, String> {
    let addresses = parse_list(rest, |_| true, "an IP address, perhaps with a port");
    // Where a name is meant, it is in characters of names, and does not look like an
    // address that is wrong.
    let name = |(host, _): &(String, u16)| {
        let last = host
            .trim_end_matches('.')
            .rsplit('.')
            .next()
            .unwrap_or(host);
        host.parse::<IpAddr>().is_ok() || !last.bytes().all(|b| b.is_ascii_digit())
    };
    let host = |text: &str| {
        let (host, port) = parse_host_port(&decode(text.trim())?)?;
        Ok((host, port.unwrap_or(DEFAULT_PORT)))
    };
    let hosts: Result<Vec<_>, String> = rest.split(',').map(host).collect();
    match (addresses, hosts) {
        (Err(_), Ok(hosts)) if hosts.iter().all(name) => Ok(Target::Listed(hosts)),
        (addresses, _) => addresses,
    }
}

/// An IP address and its port; an IPv6 address with a port stands in brackets.
fn parse_address(text: &str, default_port: u16) -> Option<SocketAddr> {
    let parse = |text: &str| {
        let with_port = if text.contains(':') && !text.starts_with('[') {
            format!("[{text}]:{default_port}")
        } else {
            format!("{text}:{default_port}")
        };
        text.parse().or_else(|_| with_port.parse()).ok()
    };
    // The `%` of a zone is often not encoded, and then may begin what looks like
    // a code.
    let decoded = decode(text).ok().and_then(|text| parse(&text));
    decoded.or_else(|| parse(text))
}

/// `text` with what is percent-encoded in it decoded. A `%` that begins no code
/// is one.
pub(crate) fn decode(text: &str) -> Result<String, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let code = match tail {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(0) => return Err("%00 stands in no name and no path".to_owned()),
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| format!("{text:?} does not encode UTF-8"))
}

fn parse_unix(rest: &str) -> Result<Target, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if rest.starts_with("//") && !path.starts_with('/') {
        return Err("after \"unix://\" stands an absolute path".to_owned());
    }
    if path.is_empty() {
        return Err("the path of the socket is missing".to_owned());
    }
    let path = PathBuf::from(decode(path)?);
    Ok(Target::Static(vec![Address::Unix(path)]))
}

fn parse_port(port: &str) -> Result<u16, String> {
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{port:?} is no port; ports are 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dns(server: Option<&str>, host: &str, port: Option<u16>, name: &str) -> Target {
        Target::Dns {
            server: server.map(|s| s.parse().unwrap()),
            host: host.to_owned(),
            port,
            name: name.to_owned(),
        }
    }

    #[test]
    fn dns_targets_of_every_form() {
        for (text, wanted) in [
            (
                "dns:///a.b:50051",
                dns(None, "a.b", Some(50051), "a.b:50051"),
            ),
            ("dns:a.b", dns(None, "a.b", None, "a.b")),
            ("a.b:80", dns(None, "a.b", Some(80), "a.b:80")),
            ("localhost", dns(None, "localhost", None, "localhost")),
            (
                "dns://127.0.0.1:5353/a.b:80",
                dns(Some("127.0.0.1:5353"), "a.b", Some(80), "a.b:80"),
            ),
            (
                "dns://10.0.0.1/a.b",
                dns(Some("10.0.0.1:53"), "a.b", None, "a.b"),
            ),
            ("dns://[::1]/a.b", dns(Some("[::1]:53"), "a.b", None, "a.b")),
            ("dns:///[::1]:80", dns(None, "::1", Some(80), "[::1]:80")),
            (
                "127.0.0.1:80",
                dns(None, "127.0.0.1", Some(80), "127.0.0.1:80"),
            ),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn lists_hold_addresses_of_their_kind() {
        let both: Target = "static:10.0.0.1:1,[::1]:2".parse().unwrap();
        assert_eq!(both.authority(), "10.0.0.1:1");
        let Target::Static(addresses) = both else {
            panic!()
        };
        assert_eq!(addresses.len(), 2);
        for bad in [
            "ipv4:[::1]:2",
            "ipv4:[10.0.0.1]:2",
            "ipv4:10.0.0.1:",
            "ipv4:10.0.0.1:70000",
            "ipv4:10.0.0.1,",
            "ipv6:10.0.0.1:1",
            "ipv6:[::1",
            "ipv6:[::1]:",
            "ipv6:[fe80::1%eth0]:1",
            "static:10.0.0.1:0",
            "static:10.0.0.300:1",
            "static:lb.test:1,[fe80::1%eth0]:1",
            "static:lb.test:0",
            "static:lb.test,",
            "ipv4:",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    /// The addresses of a target that lists some.
    fn listed(target: &str) -> Vec<String> {
        let Target::Static(addresses) = target.parse().unwrap() else {
            panic!("{target}")
        };
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_that_is_not_there_is_443() {
        assert_eq!(
            listed("ipv4:10.0.0.1,10.0.0.2:80"),
            ["10.0.0.1:443", "10.0.0.2:80"]
        );
        assert_eq!(
            listed("ipv6:2607:f8b0:400e:c00::ef,[::1],[::]:1234"),
            ["[2607:f8b0:400e:c00::ef]:443", "[::1]:443", "[::]:1234"]
        );
        assert_eq!(listed("static:10.0.0.1,::1"), ["10.0.0.1:443", "[::1]:443"]);
    }

    #[test]
    fn lists_may_have_names_that_are_looked_up() {
        let target: Target = "static:lb_1.test:9000, 10.0.0.1:80,[::1],lb2"
            .parse()
            .unwrap();
        assert_eq!(target.authority(), "lb_1.test:9000");
        let hosts = [
            ("lb_1.test", 9000),
            ("10.0.0.1", 80),
            ("::1", 443),
            ("lb2", 443),
        ];
        let hosts = hosts.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(target, Target::Listed(hosts.to_vec()));
        let first: Target = "static:[::1]:80,lb".parse().unwrap();
        assert_eq!(first.authority(), "[::1]:80");
    }

    #[test]
    fn a_target_of_another_scheme_has_a_name_too() {
        for (target, name) in [
            ("example:///a.b:80", "a.b:80"),
            ("example://server/a.b", "a.b"),
            ("example:a.b", "a.b"),
            ("example:a.b:80", "a.b:80"),
            ("a.b:80", "a.b:80"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(name_of_any_scheme(target), name);
        }
    }

    #[test]
    fn schemes_are_in_any_case() {
        assert_eq!("DNS:///a.b:80".parse::<Target>(), "dns:a.b:80".parse());
        assert_eq!(listed("IPv4:10.0.0.1:1"), ["10.0.0.1:1"]);
        assert_eq!(listed("Unix-Abstract:a"), ["unix-abstract:a"]);
    }

    #[test]
    fn percent_codes_are_decoded() {
        assert_eq!(listed("unix:/run/a%20b%2fc"), ["unix:/run/a b/c"]);
        assert_eq!(listed("unix-abstract:%C3%A9"), ["unix-abstract:é"]);
        assert_eq!(listed("ipv6:%5B::1%5D:80"), ["[::1]:80"]);
        let server = "dns://%5B::1%5D:5353/a%2eb:80".parse::<Target>();
        assert_eq!(
            server,
            Ok(dns(Some("[::1]:5353"), "a.b", Some(80), "a.b:80"))
        );
        // No code, but a name like any other.
        assert_eq!(listed("unix:/run/100%"), ["unix:/run/100%"]);
        assert_eq!(listed("unix:/run/%zz%4"), ["unix:/run/%zz%4"]);
        for bad in ["unix:/run/%00", "unix:/run/%ff", "unix-abstract:a%00"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ipv6_zone_is_for_connecting_and_not_for_the_authority() {
        for text in [
            "ipv6:[fe80::1%2]:80",
            "ipv6:[fe80::1%252]:80",
            "ipv6:%5Bfe80::1%252%5D:80",
        ] {
            assert_eq!(listed(text), ["[fe80::1%2]:80"], "{text}");
            let authority = text.parse::<Target>().unwrap().authority();
            assert_eq!(authority, "[fe80::1]:80");
        }
        assert_eq!(listed("ipv6:fe80::1%2"), ["[fe80::1%2]:443"]);
        assert_eq!(listed("ipv6:[fe80::1%12]:80"), ["[fe80::1%12]:80"]);
        let name = "dns:///[fe80::1%2]:80".parse::<Target>().unwrap_err();
        assert!(name.to_string().contains("ipv6:[fe80::1%2]:80"), "{name}");
        let interface = "ipv6:[fe80::1%eth0]:1".parse::<Target>().unwrap_err();
        assert!(interface.to_string().contains("number"), "{interface}");
    }

    #[test]
    fn sockets_without_a_network_name_have_the_authority_of_grpc() {
        for text in ["unix:/run/a.sock", "unix:///run/a.sock", "unix-abstract:a"] {
            assert_eq!(text.parse::<Target>().unwrap().authority(), "localhost");
        }
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let url = "http://a.b:80".parse::<Target>().unwrap_err().to_string();
        assert!(url.contains("dns:///a.b:80"), "{url}");
        let slash = "dns://a.b:80".parse::<Target>().unwrap_err().to_string();
        assert!(slash.contains("dns:///a.b:80"), "{slash}");
        let port = "a.b:70000".parse::<Target>().unwrap_err().to_string();
        assert!(port.contains("1 to 65535"), "{port}");
        for bad in [
            "",
            "dns:",
            "dns:///",
            "a b",
            "a:0",
            "etcd://a/b",
            "unix:",
            "unix-abstract:",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Target>();
        }

        #[test]
        fn every_socket_address_is_a_static_target(addr: SocketAddr) {
            prop_assume!(addr.port() != 0);
            // As in a URI: a zone of 25… would else look like a code.
            let text = format!("static:{addr}").replace('%', "%25");
            let target: Target = text.parse().unwrap();
            prop_assert_eq!(listed(&text), [Address::from(addr).to_string()]);
            prop_assert!(target.authority().parse::<http::uri::Authority>().is_ok());
        }

        #[test]
        fn what_can_be_called_has_an_authority(text in "[-a-zA-Z0-9.:/%\\[\\],_]{0,30}") {
            if let Ok(target) = text.parse::<Target>() {
                let authority = target.authority();
                prop_assert!(authority.parse::<http::uri::Authority>().is_ok(), "{authority}");
            }
        }
    }
}
