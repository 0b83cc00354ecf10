//! Names of services, as operators write them and as clients ask for them.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Name of a service in the balancer: lower case, without a trailing dot, 1 to
/// 122 bytes. It may end in `:port` if the operator wants the port to matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// Why a text names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadServiceName {
    /// Nothing there.
    #[error("the service name is empty")]
    Empty,
    /// Longer than clients can send.
    #[error("the service name has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A character that is in no host name and no authority.
    #[error(
        "the service name has the character {0:?}; letters, digits and - . _ : / [ ] are allowed"
    )]
    Character(char),
    /// A target, where a name is wanted.
    #[error("`{target}` is a target, and its name is `{name}`; write that alone")]
    Target {
        /// As written.
        target: String,
        /// What clients that dial it ask for.
        name: String,
    },
    /// There is a slash.
    #[error(
        "`{0}` has a path; a service name is a host name, with a port or without, as \
         greeter.example.com"
    )]
    Path(String),
    /// Two dots in a row, or one at the beginning.
    #[error("`{0}` has an empty label: two dots in a row, or one at the beginning")]
    EmptyLabel(String),
    /// DNS cannot say it.
    #[error("`{name}` has a label of {len} bytes between its dots; at most 63 are allowed")]
    LongLabel {
        /// As written.
        name: String,
        /// Of the label.
        len: usize,
    },
    /// What stands behind the colon is not a port.
    #[error(
        "`{port}` in `{name}` is not a port; write a number from 1 to 65535, as `{host}:443`, or \
         `{host}` for every port"
    )]
    Port {
        /// As written.
        name: String,
        /// What stands before the colon.
        host: String,
        /// What stands behind it.
        port: String,
    },
}

impl ServiceName {
    /// Longest name, in bytes: C-core cuts a name at 128, port included.
    pub const MAX_LEN: usize = 122;

    /// A name as an operator writes it.
    ///
    /// # Errors
    /// If it is empty, too long, or not what a client asks for that dials
    /// `dns:///name`.
    pub fn parse(text: &str) -> Result<Self, BadServiceName> {
        check_form(text)?;
        let name = normalise(text);
        check(&name, Self::MAX_LEN)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its `:port`, if it has one: what DNS knows it by.
    #[must_use]
    pub fn host(&self) -> &str {
        without_port(&self.0)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A name as a client sends it in `initial_request`: any case, perhaps with a
/// port, perhaps with a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedName {
    exact: String,
}

impl RequestedName {
    /// Longest name a client may send, in bytes (grpc.lb.v1: under 256).
    pub const MAX_LEN: usize = 255;

    /// Reads a client's name.
    ///
    /// # Errors
    /// If it is empty, too long, or has characters that no target has.
    pub fn parse(text: &str) -> Result<Self, BadServiceName> {
        // The length is judged first: normalising 1 MiB is work for nothing.
        if text.len() > Self::MAX_LEN {
            return Err(BadServiceName::TooLong {
                len: text.len(),
                max: Self::MAX_LEN,
            });
        }
        // What a dot at the end kept from being a port may be one without it.
        let exact = normalise(&normalise(text));
        check(&exact, Self::MAX_LEN)?;
        if without_port(&exact).is_empty() {
            return Err(BadServiceName::Empty);
        }
        Ok(Self { exact })
    }

    /// The whole name, port included. A service of this name is meant first.
    #[must_use]
    pub fn exact(&self) -> &str {
        &self.exact
    }

    /// The name without port and trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        without_port(&self.exact)
    }
}

impl fmt::Display for RequestedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exact.fmt(f)
    }
}

fn normalise(text: &str) -> String {
    let (host, port) = split_port(text);
    let host = host.trim_end_matches('.');
    format!("{}{port}", host.to_ascii_lowercase())
}

/// Schemes of targets, and of what is mistaken for one.
const SCHEMES: [&str; 11] = [
    "dns",
    "grpc",
    "grpcs",
    "http",
    "https",
    "ipv4",
    "ipv6",
    "passthrough",
    "srv",
    "unix",
    "xds",
];

/// Longest label of a host name.
const MAX_LABEL: usize = 63;

/// Whether it is a host name or an IP address, with a port or without.
fn check_form(text: &str) -> Result<(), BadServiceName> {
    let name = || text.to_owned();
    if let Some(behind) = behind_scheme(text) {
        return Err(BadServiceName::Target {
            target: name(),
            name: behind.to_owned(),
        });
    }
    if text.contains('/') {
        return Err(BadServiceName::Path(name()));
    }
    if is_ipv6(text) || text.is_empty() {
        return Ok(());
    }
    let host = match text.split_once(':') {
        Some((host, port)) => {
            let number = port.parse::<u16>().ok().filter(|port| *port > 0);
            // `+1` and `01` are numbers to Rust.
            if number.is_none_or(|number| number.to_string() != port) {
                return Err(BadServiceName::Port {
                    name: name(),
                    host: host.to_owned(),
                    port: port.to_owned(),
                });
            }
            host
        }
        None => text,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(BadServiceName::Empty);
    }
    if let Some(stray) = host.chars().find(|c| "[]".contains(*c)) {
        return Err(BadServiceName::Character(stray));
    }
    for label in host.split('.') {
        match label.len() {
            0 => return Err(BadServiceName::EmptyLabel(name())),
            // Longer than a name may be is another fault.
            len if len > MAX_LABEL && text.len() <= ServiceName::MAX_LEN => {
                return Err(BadServiceName::LongLabel { name: name(), len });
            }
            _ => {}
        }
    }
    Ok(())
}

/// `2001:db8::1`, or the same in brackets, with a port or without.
fn is_ipv6(text: &str) -> bool {
    let (host, port) = split_port(text);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let port = port.strip_prefix(':').map(str::parse::<u16>);
    let port_is_good = port.is_none_or(|port| port.is_ok_and(|port| port > 0));
    port_is_good && inner.unwrap_or(host).parse::<Ipv6Addr>().is_ok()
}

/// The name in `scheme:name`, `scheme:///name`, `scheme://authority/name` or a URL;
/// `None` if there is no scheme. `dns:443` has none: it is a host and its port.
fn behind_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let is_port = rest.bytes().all(|b| b.is_ascii_digit());
    if !rest.starts_with("//") && (!is_scheme || is_port) {
        return None;
    }
    let name = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => match rest.split_once('/') {
            Some((authority, _)) if scheme.to_ascii_lowercase().starts_with("http") => authority,
            Some((_, path)) => path,
            None => rest,
        },
    };
    let name = name
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or(name);
    Some(if name.is_empty() {
        "greeter.example.com"
    } else {
        name
    })
}

fn check(name: &str, max: usize) -> Result<(), BadServiceName> {
    if name.is_empty() {
        return Err(BadServiceName::Empty);
    }
    if name.len() > max {
        return Err(BadServiceName::TooLong {
            len: name.len(),
            max,
        });
    }
    let stray = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "-._:/[]".contains(*c)));
    stray.map_or(Ok(()), |c| Err(BadServiceName::Character(c)))
}

fn without_port(name: &str) -> &str {
    split_port(name).0
}

/// `name:50051` is (`name`, `:50051`). An IPv6 literal without brackets has no
/// port: all its colons are its own.
fn split_port(name: &str) -> (&str, &str) {
    let Some(colon) = name.rfind(':') else {
        return (name, "");
    };
    let (host, port) = name.split_at(colon);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let digits = port.len() > 1 && port[1..].bytes().all(|b| b.is_ascii_digit());
    if digits && (bracketed || !host.contains(':')) {
        (host, port)
    } else {
        (name, "")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_spell_one_service_in_many_ways() {
        for spelling in [
            "greeter.test",
            "Greeter.Test",
            "greeter.test.",
            "greeter.test:443",
            "greeter.test.:443",
        ] {
            let name = RequestedName::parse(spelling).unwrap();
            assert_eq!(name.host(), "greeter.test", "{spelling}");
        }
        let name = RequestedName::parse("greeter.test.:443").unwrap();
        assert_eq!(name.exact(), "greeter.test:443");
    }

    #[test]
    fn colons_of_ipv6_are_no_port() {
        let host = |name| RequestedName::parse(name).unwrap().host().to_owned();
        assert_eq!(host("2001:db8::1"), "2001:db8::1");
        assert_eq!(host("[2001:db8::1]:80"), "[2001:db8::1]");
        assert_eq!(host("greeter:"), "greeter:");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", ".", ":80", ".:80", "a b", "greeter\0", "größe"] {
            assert!(RequestedName::parse(bad).is_err(), "{bad:?}");
        }
        let long = |len: usize| format!("{}.{}", "a".repeat(61), "b".repeat(len - 62));
        assert!(ServiceName::parse(&long(123)).is_err());
        assert!(ServiceName::parse(&long(122)).is_ok());
        assert!(RequestedName::parse(&"a".repeat(256)).is_err());
    }

    #[test]
    fn what_an_operator_writes_is_a_name_and_not_a_target() {
        for (bad, right) in [
            (
                "dns:///greeter.example.com",
                "its name is `greeter.example.com`",
            ),
            ("dns://10.0.0.1/greeter:443", "its name is `greeter:443`"),
            ("DNS:greeter", "its name is `greeter`"),
            ("http://greeter.test/path", "its name is `greeter.test`"),
            ("https://greeter.test", "its name is `greeter.test`"),
            ("xds:///greeter", "its name is `greeter`"),
            ("greeter/path", "has a path"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("a..", "empty label"),
            ("greeter:99999", "1 to 65535, as `greeter:443`"),
            ("greeter:https", "`https` in `greeter:https` is not a port"),
            ("greeter:0", "not a port"),
            ("greeter:", "not a port"),
            ("greeter:+1", "not a port"),
            ("a:b:80", "not a port"),
            ("[2001:db8::1]:0", "not a port"),
            ("[greeter]", "character '['"),
            (&"a".repeat(64), "label of 64 bytes"),
        ] {
            let error = ServiceName::parse(bad).unwrap_err().to_string();
            assert!(error.contains(right), "{bad}: {error}");
        }
        for good in [
            "greeter",
            "greeter.",
            "greeter.example.com:443",
            "dns:443",
            "_sip._tcp.example.com",
            "10.0.0.1:443",
            "2001:db8::1",
            "[2001:db8::1]:443",
            "[2001:db8::1]",
        ] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "[a-zA-Z0-9.:\\[\\]-]{1,40}") {
            if let Ok(once) = RequestedName::parse(&text) {
                let twice = RequestedName::parse(once.exact());
                prop_assert_eq!(twice, Ok(once));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = RequestedName::parse(&text);
            let _ = ServiceName::parse(&text);
        }
    }
}
