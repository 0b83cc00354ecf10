//! Names of services, as operators write them and as clients ask for them.

use std::fmt;
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
}

impl ServiceName {
    /// Longest name, in bytes: C-core cuts a name at 128, port included.
    pub const MAX_LEN: usize = 122;

    /// A name as an operator writes it.
    ///
    /// # Errors
    /// If it is empty, too long, or has characters that no target has.
    pub fn parse(text: &str) -> Result<Self, BadServiceName> {
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
        let exact = normalise(text);
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
        assert!(ServiceName::parse(&"a".repeat(123)).is_err());
        assert!(ServiceName::parse(&"a".repeat(122)).is_ok());
        assert!(RequestedName::parse(&"a".repeat(256)).is_err());
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
