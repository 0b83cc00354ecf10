//! gRPC's target names (gRPC's `naming.md`): which service to reach and how its
//! addresses are found.
//!
//! | target | addresses |
//! |---|---|
//! | `dns:///host[:port]`, `dns:host[:port]`, `host[:port]` | DNS, the system's servers |
//! | `dns://10.0.0.53:53/host[:port]` | DNS, that server |
//! | `ipv4:10.0.0.1:50051,10.0.0.2:50051` | these |
//! | `ipv6:[2001:db8::1]:50051` | these |
//! | `static:10.0.0.1:50051,[2001:db8::1]:50051` | these, of either kind |
//! | `unix:path`, `unix:///absolute/path` | that socket |
//! | `unix-abstract:name` | that socket in Linux's abstract namespace |

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::endpoint::Address;
use crate::error::TargetError;

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
}

impl Target {
    /// The name of the service: `:authority` of RPCs, and the name in the
    /// request to a balancer, with the port if the target has one.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Dns { name, .. } => name.clone(),
            Self::Static(addresses) => match addresses.first() {
                Some(Address::Tcp(addr)) => addr.to_string(),
                // gRPC's authority for sockets without a network name.
                _ => "localhost".to_owned(),
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

fn parse(target: &str) -> Result<Target, String> {
    let Some((scheme, rest)) = target.split_once(':') else {
        return parse_dns(target);
    };
    match scheme {
        "dns" => parse_dns(rest),
        "ipv4" => parse_list(rest, |a| a.is_ipv4(), "an IPv4 address with a port"),
        "ipv6" => parse_list(rest, |a| a.is_ipv6(), "an IPv6 address with a port"),
        "static" => parse_list(rest, |_| true, "an IP address with a port"),
        "unix" => parse_unix(rest),
        "unix-abstract" if rest.is_empty() => Err("the socket's name is missing".to_owned()),
        "unix-abstract" => Ok(Target::Static(vec![Address::UnixAbstract(rest.to_owned())])),
        "http" | "https" => Err(format!(
            "a target is no URL; write {:?}",
            format!("dns:///{}", rest.trim_start_matches('/'))
        )),
        // As in gRPC, what has no known scheme is a name to look up.
        _ if rest.starts_with("//") => Err(format!(
            "scheme {scheme:?} is not known; known are dns, ipv4, ipv6, static, unix and \
             unix-abstract"
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
    let (host, port) = parse_host_port(name)?;
    // Without brackets an IPv6 literal is no authority.
    let name = match name.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => name.to_owned(),
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
    if let Ok(addr) = server.parse() {
        return Ok(Some(addr));
    }
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>()
        .map(|ip| Some(SocketAddr::new(ip, DNS_PORT)))
        .map_err(|_| format!("DNS server {server:?} is no IP address with an optional port"))
}

fn parse_list(
    rest: &str,
    right_kind: impl Fn(&SocketAddr) -> bool,
    wanted: &str,
) -> Result<Target, String> {
    rest.split(',')
        .map(str::trim)
        .map(|text| match text.parse::<SocketAddr>() {
            Ok(addr) if addr.port() != 0 && right_kind(&addr) => Ok(Address::from(addr)),
            _ => Err(format!("{text:?} is not {wanted}")),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(Target::Static)
}

fn parse_unix(rest: &str) -> Result<Target, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if rest.starts_with("//") && !path.starts_with('/') {
        return Err("after \"unix://\" stands an absolute path".to_owned());
    }
    if path.is_empty() {
        return Err("the path of the socket is missing".to_owned());
    }
    Ok(Target::Static(vec![Address::Unix(PathBuf::from(path))]))
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
            "ipv6:10.0.0.1:1",
            "static:a:1",
            "static:10.0.0.1:0",
            "ipv4:",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
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
            let SocketAddr::V4(addr) = addr else { return Ok(()) };
            let target: Target = format!("ipv4:{addr}").parse().unwrap();
            prop_assert_eq!(target, Target::Static(vec![Address::from(SocketAddr::V4(addr))]));
        }
    }
}
