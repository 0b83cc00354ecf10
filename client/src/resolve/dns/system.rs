//! How a client's DNS is configured: the system's way, as glibc reads
//! `resolv.conf`, or one server of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use hickory_resolver::proto::rr::Name;

use super::servers::Servers;

/// Port of a name server.
const PORT: u16 = 53;
/// What a client needs to know to ask.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) servers: Servers,
    /// Domains that stand behind names that are not complete.
    search: Vec<Name>,
    /// From so many dots on a name is tried as it is first.
    ndots: usize,
    /// Whether to ask over TCP only.
    pub(super) over_tcp: bool,
    /// Whether to allow longer answers over UDP.
    pub(super) edns0: bool,
    /// Whether to ask for IPv4 addresses only.
    pub(super) no_aaaa: bool,
}

/// The system's configuration, read again when its file has changed.
#[derive(Debug)]
pub(super) struct System {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<Conf>)>>,
}

/// What tells one state of a file from the next; none if there is no file.
type Stamp = Option<(Option<SystemTime>, u64)>;

/// One for the process.
static SYSTEM: LazyLock<System> = LazyLock::new(|| System::of(PathBuf::from("/etc/resolv.conf")));

/// The configuration of the system as it is now.
pub(super) fn current() -> Arc<Conf> {
    SYSTEM.current()
}

impl System {
    fn of(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::default(),
        }
    }

    fn current(&self) -> Arc<Conf> {
        let metadata = std::fs::metadata(&self.path).ok();
        let stamp = metadata.map(|file| (file.modified().ok(), file.len()));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((of, conf)) if *of == stamp => Arc::clone(conf),
            _ => {
                let conf = Arc::new(self.load());
                *read = Some((stamp, Arc::clone(&conf)));
                conf
            }
        }
    }

    #[cfg(not(any(windows, target_vendor = "apple")))]
    fn load(&self) -> Conf {
        let path = self.path.display();
        let text = std::fs::read(&self.path).unwrap_or_else(|error| {
            tracing::info!(%path, %error, "the file cannot be read; using the name server 127.0.0.1");
            vec![]
        });
        let (conf, faults) = Conf::parse(&text);
        for fault in faults {
            tracing::warn!(%path, "{fault}");
        }
        conf
    }

    /// What the system says in its own way.
    #[cfg(any(windows, target_vendor = "apple"))]
    fn load(&self) -> Conf {
        let (config, options) = match hickory_resolver::system_conf::read_system_conf() {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "the system's DNS configuration cannot be read");
                return Conf::with(Servers::new([(Ipv4Addr::LOCALHOST, PORT).into()]));
            }
        };
        let addresses = config.name_servers().iter().map(|server| server.ip);
        let mut servers = Servers::new(addresses.map(|ip| SocketAddr::new(ip, PORT)));
        servers.timeout = options.timeout;
        servers.attempts = options.attempts.max(1);
        let search = config.domain().into_iter().chain(config.search());
        Conf {
            search: search.cloned().collect(),
            ndots: options.ndots,
            ..Conf::with(servers)
        }
    }
}

impl Conf {
    /// To ask this server only. Names are complete for it.
    pub(super) fn at(server: SocketAddr) -> Self {
        Self {
            edns0: true,
            ..Self::with(Servers::new([server]))
        }
    }

    fn with(servers: Servers) -> Self {
        Self {
            servers,
            search: vec![],
            ndots: 0,
            over_tcp: false,
            edns0: false,
            no_aaaa: false,
        }
    }

    /// Reads a `resolv.conf`, and says what of it is ignored.
    #[cfg(not(windows))]
    fn parse(text: &[u8]) -> (Self, Vec<String>) {
        // As in glibc: the servers that count, and the most that the options say.
        const MAX_SERVERS: usize = 3;
        const MAX_NDOTS: u32 = 15;
        const MAX_TIMEOUT: u32 = 30;
        const MAX_ATTEMPTS: u32 = 5;
        let (text, unknown_zones) = number_zones(text);
        let (parsed, errors) = resolv_conf::Config::parse_with_errors(text.as_bytes());
        let mut faults: Vec<_> = errors
            .iter()
            // Options that only others know are no fault.
            .filter(|error| !matches!(error, resolv_conf::ParseError::InvalidOption(_)))
            .map(|error| format!("a line is ignored: {error}"))
            .collect();
        faults.extend(unknown_zones);
        let nameservers = parsed.nameservers.iter().take(MAX_SERVERS);
        let mut addresses: Vec<SocketAddr> = nameservers.map(with_zone).collect();
        if addresses.is_empty() {
            addresses.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        let mut servers = Servers::new(addresses);
        servers.timeout = std::time::Duration::from_secs(parsed.timeout.min(MAX_TIMEOUT).into());
        servers.attempts = parsed.attempts.clamp(1, MAX_ATTEMPTS) as usize;
        servers.rotate = parsed.rotate;
        let mut domains: Vec<_> = parsed.get_last_search_or_domain().cloned().collect();
        if parsed.get_search().is_none() && parsed.get_domain().is_none() {
            domains.extend(parsed.get_system_domain());
        }
        let mut search = vec![];
        for domain in domains {
            match complete(&domain) {
                Ok(name) => search.push(name),
                Err(reason) => faults.push(format!("search domain {reason}; it is ignored")),
            }
        }
        let conf = Self {
            search,
            ndots: parsed.ndots.min(MAX_NDOTS) as usize,
            over_tcp: parsed.use_vc,
            edns0: parsed.edns0,
            no_aaaa: parsed.no_aaaa,
            ..Self::with(servers)
        };
        (conf, faults)
    }

    /// What `host` may mean, in the order to ask for.
    ///
    /// # Errors
    /// Why nothing in DNS is called so.
    pub(super) fn names(&self, host: &str) -> Result<Vec<Name>, String> {
        let name = complete(host)?;
        if host.ends_with('.') || self.search.is_empty() {
            return Ok(vec![name]);
        }
        // A name that gets too long behind a domain is none.
        let behind = |domain| name.clone().append_domain(domain).ok();
        let mut names: Vec<_> = self.search.iter().filter_map(behind).collect();
        let at = match host.matches('.').count() >= self.ndots {
            true => 0,
            false => names.len(),
        };
        names.insert(at, name);
        Ok(names)
    }
}

/// The same file, in which the zones of name servers are numbers: what reads it takes only
/// letters and digits for a zone, and interfaces are called `br-lan` and `eth0.100`, too.
/// Says which lines are left out.
#[cfg(not(windows))]
fn number_zones(text: &[u8]) -> (String, Vec<String>) {
    let mut faults = vec![];
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(server)) = (words.next(), words.next()) else {
            return Some(line.to_owned());
        };
        let Some((ip, zone)) = server.split_once('%') else {
            return Some(line.to_owned());
        };
        if let Some(index) = interface(zone) {
            return Some(format!("nameserver {ip}%{index}"));
        }
        faults.push(format!(
            "name server {server} is ignored: this machine has no interface {zone:?}"
        ));
        None
    });
    let lines: Vec<_> = lines.collect();
    (lines.join("\n"), faults)
}

/// Where a name server is found: a link-local address is one of its zone only.
#[cfg(not(windows))]
fn with_zone(server: &resolv_conf::ScopedIp) -> SocketAddr {
    match server {
        resolv_conf::ScopedIp::V4(ip) => (*ip, PORT).into(),
        resolv_conf::ScopedIp::V6(ip, zone) => {
            let index = zone.as_ref().and_then(|zone| zone.parse().ok());
            std::net::SocketAddrV6::new(*ip, PORT, 0, index.unwrap_or(0)).into()
        }
    }
}

/// The index of a network interface, by its number or its name.
#[cfg(not(windows))]
fn interface(zone: &str) -> Option<u32> {
    if let Ok(index) = zone.parse() {
        return Some(index);
    }
    // What `if_nametoindex` says, which takes unsafe code to ask. Only Linux shows it as a
    // file; elsewhere a zone is a number.
    if zone.contains('/') || ["", ".", ".."].contains(&zone) {
        return None;
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex"));
    index.ok()?.trim().parse().ok()
}

/// A name of labels as DNS has them: of any characters, also `_` and a leading
/// `-`, as Docker names containers.
fn complete(host: &str) -> Result<Name, String> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.is_empty() {
        return Ok(Name::root());
    }
    Name::from_labels(labels.split('.').map(str::as_bytes)).map_err(|_| {
        format!("{host:?} is not a valid name: a part between dots has 1 to 63 characters")
    })
}

/// `name` as text, without trailing dot. What no label should have is escaped.
pub(super) fn text(name: &Name) -> String {
    // hickory escapes a leading hyphen.
    let text = name.to_ascii().replace("\\-", "-");
    text.trim_end_matches('.').to_owned()
}

#[cfg(not(windows))]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Conf {
        let (conf, faults) = Conf::parse(text.as_bytes());
        assert_eq!(faults, [""; 0]);
        conf
    }

    fn servers(conf: &Conf) -> Vec<String> {
        let addresses = conf.servers.addresses();
        addresses.iter().map(ToString::to_string).collect()
    }

    fn names(conf: &Conf, host: &str) -> Vec<String> {
        let names = conf.names(host).unwrap();
        names.iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn an_empty_file_means_the_server_of_this_machine() {
        for text in ["", "# nothing\n", "options ndots:1\n", "nameserver\n"] {
            let (conf, _) = Conf::parse(text.as_bytes());
            assert_eq!(servers(&conf), ["127.0.0.1:53"], "{text:?}");
        }
        let absent = System::of("/nowhere/resolv.conf".into()).current();
        assert_eq!(servers(&absent), ["127.0.0.1:53"]);
    }

    #[test]
    fn servers_keep_their_order_and_three_count() {
        let text = "nameserver 10.0.0.3\nnameserver ::1\nnameserver 10.0.0.2\nnameserver 10.0.0.1";
        let conf = parse(text);
        assert_eq!(servers(&conf), ["10.0.0.3:53", "[::1]:53", "10.0.0.2:53"]);
        assert_eq!(conf.servers.timeout, Duration::from_secs(5));
        assert_eq!(conf.servers.attempts, 2);
    }

    #[test]
    fn a_link_local_server_is_of_its_zone() {
        let conf = parse("nameserver fe80::1%7\nnameserver fe80::2\n");
        assert_eq!(servers(&conf), ["[fe80::1%7]:53", "[fe80::2]:53"]);
        let (conf, faults) = Conf::parse(b"nameserver fe80::3%no-such-0\nnameserver 10.0.0.1\n");
        assert_eq!(servers(&conf), ["10.0.0.1:53"]);
        assert!(
            faults[0].contains("no interface \"no-such-0\""),
            "{faults:?}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_is_found_by_its_name() {
        let loopback = interface("lo").unwrap();
        assert_eq!(
            servers(&parse("nameserver fe80::1%lo\n")),
            [format!("[fe80::1%{loopback}]:53")]
        );
        for none in ["", "no-such-0", "..", "../net/lo", "lo/.", "99999999999"] {
            assert_eq!(interface(none), None, "{none:?}");
        }
    }

    #[test]
    fn options_are_bounded_as_in_glibc() {
        let conf = parse("options timeout:0 attempts:0 rotate use-vc no-aaaa edns0 trust-ad new");
        let servers = &conf.servers;
        assert_eq!((servers.timeout, servers.attempts), (Duration::ZERO, 1));
        assert!(servers.rotate && conf.over_tcp && conf.no_aaaa && conf.edns0);
        let conf = parse("options timeout:99 attempts:99 ndots:99");
        assert_eq!(conf.servers.timeout, Duration::from_secs(30));
        assert_eq!((conf.servers.attempts, conf.ndots), (5, 15));
    }

    #[test]
    fn a_bad_search_domain_is_ignored_and_named() {
        let (conf, faults) = Conf::parse(b"search foo..bar corp_net.test\n");
        assert_eq!(names(&conf, "a"), ["a.corp_net.test.", "a."]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("foo..bar"), "{faults:?}");
    }

    #[test]
    fn a_name_is_tried_as_it_is_first_if_it_has_dots_enough() {
        let conf = parse("search ns.test test\noptions ndots:2\n");
        assert_eq!(names(&conf, "a.b"), ["a.b.ns.test.", "a.b.test.", "a.b."]);
        let first = ["a.b.c.", "a.b.c.ns.test.", "a.b.c.test."];
        assert_eq!(names(&conf, "a.b.c"), first);
        assert_eq!(names(&conf, "a."), ["a."]);
        let long = format!("{}.{}", "a".repeat(63), "b".repeat(60));
        assert!(names(&conf, &long).len() <= 3);
    }

    #[test]
    fn labels_may_begin_with_a_hyphen_and_have_underscores() {
        let conf = Conf::at(([10, 0, 0, 53], 53).into());
        for host in ["my_greeter.test", "-greeter.test", "_a_._b-", "a-.test"] {
            let [name] = &conf.names(host).unwrap()[..] else {
                panic!("{host}")
            };
            assert_eq!(text(name), host);
            assert_eq!(name.num_labels() as usize, host.split('.').count());
        }
        let error = conf.names("a..b").unwrap_err();
        assert!(
            error.contains("a..b") && error.contains("1 to 63"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let path = std::env::temp_dir().join(format!("resolv.conf-{}", std::process::id()));
        std::fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let system = System::of(path.clone());
        assert_eq!(servers(&system.current()), ["10.0.0.1:53"]);
        assert!(Arc::ptr_eq(&system.current(), &system.current()));
        std::fs::write(&path, "nameserver 10.0.0.20\n").unwrap();
        assert_eq!(servers(&system.current()), ["10.0.0.20:53"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(servers(&system.current()), ["127.0.0.1:53"]);
    }
}
