//! From text to [`Config`]: the file as a whole, and every table but the
//! services.

mod health;
mod labels;
mod limits;
mod load;
mod overload;
mod read;
mod register;
mod service;
mod tls;
mod weights;
mod zones;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use self::read::{Node, Table};
use self::service::Names;
use crate::config::error::{Faults, Place};
use crate::config::{AdminConfig, BalancerConfig, Config, ConfigErrors, DnsConfig};
use lookaside_core::model::BackendAddr;

/// C-core waits no less than a second between reports, whatever it is told;
/// an hour is longer than any dashboard looks back for a rate.
const REPORT_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// Supervisors kill long before an hour.
const SHUTDOWN: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));

/// Nobody scrapes less often than once a minute.
const METRICS_INTERVAL: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(60));

/// A day is what a resolver may hold a wrong address for, and then some.
const TTL: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(86_400));

/// Answers of DNS in a second; a million is more than one thread sends.
const RESPONSES: (u32, u32) = (0, 1_000_000);

/// TCP connections of DNS; a client needs one for a moment.
const TCP_CONNECTIONS: (u32, u32) = (1, 65_536);

/// Durations that go into messages of grpclb.
const MILLISECOND: Duration = Duration::from_millis(1);

/// Times to live in DNS.
const SECOND: Duration = Duration::from_secs(1);

/// Reads a configuration. `file` is only for messages.
///
/// # Errors
/// [`ConfigErrors`] with every fault that could be found, each with its place.
/// Behind a fault in TOML's syntax only more of those are looked for.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigErrors> {
    parse_document(text, file, read)
}

/// Reads any document by the same rules: what is wrong with it is told with its
/// place and what would be right.
///
/// # Errors
/// As [`parse`].
fn parse_document<T>(
    text: &str,
    file: &str,
    read: impl FnOnce(Table<'_>, &mut Faults) -> T,
) -> Result<T, ConfigErrors> {
    let mut faults = Faults::new();
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        let at = error.span().map_or(0, |span| span.start);
        faults.syntax(at, syntax_message(&error, text));
    }
    let place = Place {
        key: String::new(),
        span: 0..0,
    };
    let document = read(Table::new(place, document.get_ref()), &mut faults);
    match faults.into_errors(text, file) {
        Some(errors) => Err(errors),
        None => Ok(document),
    }
}

/// The parser's words, and what it leaves unsaid.
fn syntax_message(error: &toml::de::Error, text: &str) -> String {
    let found = error.span().and_then(|span| text.get(span));
    let message = error.message();
    let message = message
        .strip_suffix(", expected nothing")
        .unwrap_or(message);
    match message {
        "duplicate key" => {
            let key = found.unwrap_or_default();
            format!("duplicate key `{key}`; a table has each key once")
        }
        "invalid float" => format!("{message}; if it is meant as text, write it in quotes"),
        _ => message.to_owned(),
    }
}

/// The configuration as far as it can be read. Only without faults it is one.
fn read(mut root: Table<'_>, faults: &mut Faults) -> Config {
    let mut listeners = Listeners::default();
    let balancer = table(&mut root, "balancer", faults);
    let (mut balancer, listen) = read_balancer(balancer, &mut listeners, faults);
    let admin = table(&mut root, "admin", faults);
    let admin = read_admin(admin, &mut listeners, faults);
    let limits = table(&mut root, "limits", faults);
    let limits = limits.map(|table| limits::read(table, faults));
    let dns_node = root.take("dns");
    let dns = dns_node.as_ref().and_then(|node| {
        let table = node.table(faults, "[dns]")?;
        Some(read_dns(table, &mut listeners, faults))
    });

    let backend_tls = root.take("backend_tls").and_then(|node| {
        let table = node.table(faults, "[backend_tls]")?;
        Some(tls::read_table(table, None, faults))
    });

    let mut names = Names::default();
    let services = root.take("service");
    let services =
        services.map(|node| service::read_all(&node, backend_tls.as_ref(), &mut names, faults));
    names.check_certificates(balancer.tls.as_ref(), faults);
    let zones = root.take("zone");
    let zones = zones.map(|node| zones::read_all(&node, faults));
    let zones = zones.unwrap_or_default();
    names.check_zones(&zones, faults);

    if let (Some(node), Some(dns)) = (&dns_node, &dns) {
        if balancer.advertise.is_empty() && balancer.listen.ip().to_canonical().is_unspecified() {
            let listen = listen.as_ref().unwrap_or(&node.place);
            faults.clash(
                listen,
                "the balancer listens on every address, so DNS cannot know which to answer; \
                 write balancer.advertise = [\"10.0.0.5:9000\"] with the addresses that \
                 clients can reach",
            );
        }
        names.check_against(dns, faults);
    }
    if balancer.advertise.is_empty() {
        balancer.advertise = balancer.default_advertise();
    }
    root.finish(faults, &[]);
    Config {
        balancer,
        admin,
        limits: limits.unwrap_or_default(),
        dns,
        backend_tls,
        zones: Arc::new(zones),
        services: services.unwrap_or_default(),
    }
}

fn table<'a>(root: &mut Table<'a>, key: &'static str, faults: &mut Faults) -> Option<Table<'a>> {
    root.take(key)?.table(faults, &format!("[{key}]"))
}

/// The section, and where its `listen` stands, if it states one.
fn read_balancer(
    table: Option<Table<'_>>,
    listeners: &mut Listeners,
    faults: &mut Faults,
) -> (BalancerConfig, Option<Place>) {
    let mut config = BalancerConfig::default();
    let Some(mut table) = table else {
        listeners.add("balancer.listen", config.listen, None, faults);
        return (config, None);
    };
    let listen = table.take("listen");
    if let Some(addr) = listen.as_ref().and_then(|node| listen_addr(node, faults)) {
        config.listen = addr;
    }
    let listen = listen.map(|node| node.place);
    listeners.add("balancer.listen", config.listen, listen.as_ref(), faults);

    if let Some(node) = table.take("advertise") {
        config.advertise = read_advertise(&node, faults);
    }
    let interval = table.take("report_interval");
    let interval =
        interval.and_then(|node| node.duration(faults, "\"5s\"", REPORT_INTERVAL, MILLISECOND));
    config.report_interval = interval.unwrap_or(config.report_interval);
    let shutdown = table.take("shutdown");
    let shutdown =
        shutdown.and_then(|node| node.duration(faults, "\"10s\"", SHUTDOWN, MILLISECOND));
    config.shutdown = shutdown.unwrap_or(config.shutdown);
    let state = table.take("state");
    config.state = state.and_then(|node| read_state(&node, faults));
    config.tls = table
        .take("tls")
        .and_then(|node| tls::read_port(&node, faults));
    table.finish(faults, &[]);
    (config, listen)
}

fn read_advertise(node: &Node<'_>, faults: &mut Faults) -> Vec<SocketAddr> {
    let example = "[\"10.0.0.5:9000\"]";
    let mut advertise = Vec::new();
    for item in node.array(faults, example).unwrap_or_default() {
        let Some(addr) = socket_addr(&item, faults, "10.0.0.5:9000") else {
            continue;
        };
        if is_of_nobody(addr.ip()) {
            faults.wrong(&item.place, of_nobody(addr));
            continue;
        }
        match BackendAddr::new(addr).map(BackendAddr::socket_addr) {
            Ok(addr) if advertise.contains(&addr) => {
                faults.wrong(&item.place, format!("{addr} is already in the list"));
            }
            Ok(addr) => advertise.push(addr),
            Err(error) => faults.wrong(&item.place, error),
        }
    }
    advertise
}

fn read_state(node: &Node<'_>, faults: &mut Faults) -> Option<PathBuf> {
    let text = node.text(faults, "\"/var/lib/lookaside/state\"")?;
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        let message = "this names no file; write one in a folder that the balancer may write to, \
                       as \"/var/lib/lookaside/state\"";
        faults.wrong(&node.place, message);
        return None;
    }
    Some(text.into())
}

fn read_admin(
    table: Option<Table<'_>>,
    listeners: &mut Listeners,
    faults: &mut Faults,
) -> AdminConfig {
    let mut config = AdminConfig::default();
    let Some(mut table) = table else {
        listeners.add("admin.listen", config.listen, None, faults);
        return config;
    };
    let listen = table.take("listen");
    if let Some(addr) = listen.as_ref().and_then(|node| listen_addr(node, faults)) {
        config.listen = addr;
    }
    let place = listen.map(|node| node.place);
    listeners.add("admin.listen", config.listen, place.as_ref(), faults);
    let interval = table.take("metrics_interval");
    let interval =
        interval.and_then(|node| node.duration(faults, "\"1s\"", METRICS_INTERVAL, MILLISECOND));
    config.metrics_interval = interval.unwrap_or(config.metrics_interval);
    table.finish(faults, &[]);
    config
}

fn read_dns(mut table: Table<'_>, listeners: &mut Listeners, faults: &mut Faults) -> DnsConfig {
    let mut config = DnsConfig::default();
    let listen = table.take("listen");
    if let Some(addr) = listen.as_ref().and_then(|node| listen_addr(node, faults)) {
        config.listen = addr;
    }
    let place = listen.map_or_else(|| table.place.clone(), |node| node.place);
    listeners.add("dns.listen", config.listen, Some(&place), faults);

    let ttl = table.take("ttl");
    let ttl = ttl.and_then(|node| node.duration(faults, "\"5s\"", TTL, SECOND));
    config.ttl = ttl.unwrap_or(config.ttl);
    config.target = table.take("target").and_then(|node| {
        let text = node.text(faults, "\"lb.example.com\"")?;
        let target = host_name(text);
        if target.is_none() {
            let message = format!(
                "`{text}` is no host name; write one of letters, digits, - and dots, \
                 as \"lb.example.com\""
            );
            faults.wrong(&node.place, message);
        }
        target
    });
    let service_config = table.take("service_config");
    let service_config = service_config.and_then(|node| node.boolean(faults, "true"));
    config.service_config = service_config.unwrap_or(config.service_config);
    let responses = table.take("responses_per_second");
    let responses = responses.and_then(|node| node.whole(faults, "200", RESPONSES));
    config.responses_per_second = responses.unwrap_or(config.responses_per_second);
    let connections = table.take("tcp_connections");
    let connections = connections.and_then(|node| node.whole(faults, "1024", TCP_CONNECTIONS));
    config.tcp_connections = connections.unwrap_or(config.tcp_connections);
    table.finish(faults, &[]);
    config
}

/// An address to listen on; port 0 lets the system choose one.
fn listen_addr(node: &Node<'_>, faults: &mut Faults) -> Option<SocketAddr> {
    let addr = socket_addr(node, faults, "0.0.0.0:9000")?;
    if is_of_nobody(addr.ip()) {
        faults.wrong(&node.place, of_nobody(addr));
        return None;
    }
    Some(addr)
}

/// Whether an address is for many hosts, so that none is called there.
fn is_of_nobody(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn of_nobody(addr: SocketAddr) -> String {
    format!(
        "{} is a multicast or broadcast address, and nothing can be called there; write the \
         address of a host",
        addr.ip()
    )
}

fn socket_addr(node: &Node<'_>, faults: &mut Faults, example: &str) -> Option<SocketAddr> {
    let text = node.text(faults, &format!("\"{example}\""))?;
    let parsed = text.parse();
    if parsed.is_err() {
        let message = format!(
            "`{text}` is no address; write ip:port, as \"{example}\" or \"[::1]:9000\" \
             (a host name is not looked up)"
        );
        faults.wrong(&node.place, message);
    }
    parsed.ok()
}

/// A host name in lower case and without a trailing dot: 1 to 253 characters,
/// labels of 1 to 63 letters, digits and inner hyphens, not all digits at the
/// end as an IP address has.
fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|b| b.is_ascii_digit());
    (name.len() <= 253 && !numeric && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// The addresses that are listened on, so that no two are the same.
#[derive(Debug, Default)]
struct Listeners {
    taken: Vec<(&'static str, SocketAddr)>,
}

impl Listeners {
    /// `place` is where the address stands, if it is no default.
    fn add(
        &mut self,
        key: &'static str,
        addr: SocketAddr,
        place: Option<&Place>,
        faults: &mut Faults,
    ) {
        let other = self.taken.iter().find(|(_, other)| overlap(*other, addr));
        if let Some((other_key, other)) = other {
            let message = format!(
                "{addr} is taken by {other_key} {other}; write another port for one of them"
            );
            let whole = Place {
                key: key.to_owned(),
                span: 0..0,
            };
            faults.clash(place.unwrap_or(&whole), message);
        }
        self.taken.push((key, addr));
    }
}

/// Whether the system would refuse the second of two listeners. `[::]` takes
/// IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |wide: IpAddr, narrow: IpAddr| {
        wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    let same = a_ip == b_ip || covers(a_ip, b_ip) || covers(b_ip, a_ip);
    a.port() == b.port() && a.port() != 0 && same
}

#[cfg(test)]
mod tests;
