//! HTTP proxies: which one a target is called through, as gRPC's environment variables
//! say.

mod bypass;
mod tunnel;

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use self::bypass::is_bypassed;
pub(crate) use self::tunnel::Tunnel;
use crate::error::Error;
use crate::target::{Target, decode, parse_host_port};

/// Where a proxy is looked for in the environment, first to last.
const VARIABLES: [&str; 4] = ["grpc_proxy", "https_proxy", "HTTPS_PROXY", "http_proxy"];
/// Where the hosts are that are called without one.
const EXCEPTIONS: [&str; 3] = ["no_grpc_proxy", "no_proxy", "NO_PROXY"];
/// Of a proxy that names none.
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy, which is asked to CONNECT to the target's host and port.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// User and password, encoded as the header wants them.
    credentials: Option<String>,
}

impl Proxy {
    /// The proxy at `[http://][user:password@]host[:port]`, port 80 if it names none.
    /// `%40` and its like in user and password stand for the characters they encode.
    ///
    /// # Errors
    /// [`Error::Proxy`] if that is not what `url` is.
    pub fn new(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        // Without the password.
        let failed = |reason: String| Error::Proxy {
            proxy: format!("{scheme}://{place}"),
            reason,
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(failed(
                "a proxy is connected to in plain text; write http://host:port".to_owned(),
            ));
        }
        let (host, port) = parse_host_port(place)
            .map_err(|reason| failed(format!("{reason}; write http://host:port")))?;
        let credentials = user.map(decode).transpose().map_err(failed)?;
        Ok(Self {
            host,
            port: port.unwrap_or(DEFAULT_PORT),
            credentials: credentials.map(|user| BASE64_STANDARD.encode(user)),
        })
    }

    /// The one that the environment names for `host` and `port`, if it names one.
    pub(crate) fn from_environment(
        host: &str,
        port: u16,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let set = |name: &&str| variable(name).filter(|value| !value.trim().is_empty());
        let Some((name, url)) = VARIABLES.iter().find_map(|name| Some((name, set(name)?))) else {
            return Ok(None);
        };
        let exceptions = EXCEPTIONS.iter().find_map(set).unwrap_or_default();
        if is_bypassed(host, port, &exceptions) {
            return Ok(None);
        }
        match Self::new(url.trim()) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(Error::Proxy { proxy, reason }) => Err(Error::Proxy {
                proxy,
                reason: format!("{reason}, in the environment variable {name}"),
            }),
            Err(other) => Err(other),
        }
    }

    /// Where the proxy itself is found.
    pub(crate) fn target(&self) -> Target {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => Target::Static(vec![std::net::SocketAddr::new(ip, self.port).into()]),
            Err(_) => Target::Listed(vec![(self.host.clone(), self.port)]),
        }
    }
}

/// Without user and password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], host: &str) -> Result<Option<Proxy>, Error> {
        Proxy::from_environment(host, 443, |wanted| {
            let mut all = variables.iter();
            let found = all.find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_proxy() {
        let all = [
            ("http_proxy", "http://c:3128"),
            ("https_proxy", "b"),
            ("grpc_proxy", " "),
            ("no_proxy", "x.test"),
        ];
        let proxy = environment(&all, "greeter.test").unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("b", 80));
        assert_eq!(environment(&all, "x.test").unwrap(), None);
        assert_eq!(environment(&[], "greeter.test").unwrap(), None);
        let only = environment(&all[..1], "greeter.test").unwrap().unwrap();
        assert_eq!((only.host.as_str(), only.port), ("c", 3128));
        // gRPC's own list comes before the common one.
        let own = [all[0], all[3], ("no_grpc_proxy", "y.test")];
        assert!(environment(&own, "x.test").unwrap().is_some());
        assert_eq!(environment(&own, "y.test").unwrap(), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        for (url, wanted) in [
            ("https://me:secret@p:1", "write http://host:port"),
            ("http://me:secret@:1", "write http://host:port"),
            ("http://me:secret@p:99999", "write http://host:port"),
        ] {
            let error = environment(&[("https_proxy", url)], "a.test").unwrap_err();
            let text = error.to_string();
            assert!(text.contains(wanted), "{text}");
            assert!(text.contains("https_proxy"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        let proxy = Proxy::new("http://me:secret@p:1").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(p:1)");
    }
}
