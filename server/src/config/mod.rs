//! `lookaside.toml`: text in, [`Config`] or errors out.
//!
//! Pure: reading the file, and reading it again when it changes, is the
//! business of `discovery::file`. Every key, its default and its unit are in
//! `examples/lookaside.toml`.

mod edit;
mod error;
mod limits;
mod locate;
mod nearest;
mod parse;
mod reload;
mod selector;
mod unreachable;
mod warnings;

pub use edit::{EditError, set_drain, set_weight};
pub use error::{ConfigError, ConfigErrors};
pub use limits::LimitsConfig;
pub use locate::locate;
pub use parse::parse;
pub use reload::{Allowed, Change, Changes, Outcome, Refusal, Running, reload};
pub use selector::{BadSelector, Selector, series};
pub use warnings::warnings;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lookaside_core::model::{
    BackendAddr, BackendTls, Cidr, DialRules, DropShare, LabelMatch, Labels, OverloadDrops,
    ServiceName, Weight, Zone, ZoneTable,
};
use lookaside_core::weights::WeightSettings;

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[balancer]`
    pub balancer: BalancerConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[dns]`; off if absent.
    pub dns: Option<DnsConfig>,
    /// `[backend_tls]`: TLS towards backends, where their service does not say
    /// otherwise; plaintext if absent.
    pub backend_tls: Option<Arc<BackendTls>>,
    /// `[[zone]]`: where clients stand.
    pub zones: Arc<ZoneTable>,
    /// `[[service]]`, in the order of the file.
    pub services: Vec<ServiceConfig>,
}

/// `[balancer]`: the port that clients and backends talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerConfig {
    /// Where to listen. Default `0.0.0.0:9000`.
    pub listen: SocketAddr,
    /// Addresses of all replicas, which DNS answers; none is a wildcard or has
    /// port 0. Default: `listen`. Empty only if that is a wildcard, and then
    /// DNS is off, or has port 0, and then it is what the system chose.
    pub advertise: Vec<SocketAddr>,
    /// Interval of statistics asked of clients, at least 1 s. Default 5 s.
    pub report_interval: Duration,
    /// On SIGTERM, streams end spread over this time. Default 10 s.
    pub shutdown: Duration,
    /// The file that keeps what services learned over a restart; not kept if
    /// absent.
    pub state: Option<PathBuf>,
    /// `[balancer.tls]`; plaintext if absent.
    pub tls: Option<TlsConfig>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 9000).into(),
            advertise: Vec::new(),
            report_interval: Duration::from_secs(5),
            shutdown: Duration::from_secs(10),
            state: None,
            tls: None,
        }
    }
}

impl BalancerConfig {
    /// What is advertised if the file does not say: the address that is listened
    /// on, or nothing if that says too little.
    fn default_advertise(&self) -> Vec<SocketAddr> {
        let says_too_little =
            self.listen.ip().to_canonical().is_unspecified() || self.listen.port() == 0;
        if says_too_little {
            Vec::new()
        } else {
            vec![self.listen]
        }
    }
}

/// `[balancer.tls]`: PEM files, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
    /// If set, clients must show a certificate that one of these signed.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of those CAs: whose certificate is on one is refused.
    pub client_crl: Option<PathBuf>,
}

/// `[admin]`: health and metrics over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where to listen. Default `127.0.0.1:9001`.
    pub listen: SocketAddr,
    /// The page of metrics is written at most once in so long. Default 1 s.
    pub metrics_interval: Duration,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9001).into(),
            metrics_interval: Duration::from_secs(1),
        }
    }
}

/// `[dns]`: the embedded authoritative server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Where to listen, UDP and TCP. Default `0.0.0.0:9053`.
    pub listen: SocketAddr,
    /// Time to live of every answer. Default 5 s.
    pub ttl: Duration,
    /// Target of SRV answers. Default: `lb.` and the service's name.
    pub target: Option<String>,
    /// Whether TXT `_grpc_config.<service>` and `<service>` are answered.
    /// Default true.
    pub service_config: bool,
    /// Answers over UDP that a network (IPv4 /24, IPv6 /56) gets in a second
    /// without a DNS cookie; 0 is no limit. Default 200.
    pub responses_per_second: u32,
    /// Most TCP connections at a time. Default 1024.
    pub tcp_connections: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 9053).into(),
            ttl: Duration::from_secs(5),
            target: None,
            service_config: true,
            responses_per_second: 200,
            tcp_connections: 1024,
        }
    }
}

/// One `[[service]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// What clients ask for.
    pub name: ServiceName,
    /// Other names of the same service.
    pub aliases: Vec<ServiceName>,
    /// Share of calls to drop, by category; the sum is at most 1.
    pub drops: Vec<DropShare>,
    /// When to drop calls because there are too many; never if absent.
    pub overload: Option<OverloadDrops>,
    /// A/AAAA of the service's name lists backends with this port. Default:
    /// the one port that all backends share, else none.
    pub fallback_port: Option<u16>,
    /// Where the balancer may connect to its backends (`cidrs`).
    pub dial: DialRules,
    /// Who may register as a backend; nobody if absent.
    pub register: Option<RegisterConfig>,
    /// TLS towards its backends, where `health` and `load` do not say otherwise;
    /// plaintext if absent.
    pub tls: Option<Arc<BackendTls>>,
    /// How its backends' health is checked; not at all if absent.
    pub health: Option<HealthConfig>,
    /// How its backends are asked for their load, in order of preference: where a
    /// backend does not have the first, by the next. Empty: they are not asked.
    pub load: Vec<LoadConfig>,
    /// What is said of backends by their labels; of two that say the same, the
    /// first counts.
    pub matches: Vec<LabelMatch>,
    /// How its backends are weighed.
    pub weights: WeightSettings,
    /// About how many backends a client gets at most, 2 or more. Default: 100.
    pub subset: Option<usize>,
    /// Whether clients get backends of their own zone first. Default false.
    pub prefer_zone: bool,
    /// Its backends, as the file lists them.
    pub backends: Vec<BackendConfig>,
}

/// `health` of a service: whether its backends are well is looked at, and not
/// only said by whoever lists them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HealthConfig {
    /// What is asked.
    pub kind: HealthKind,
    /// How often a backend has to show that it is alive. Default 1 s.
    pub interval: Duration,
    /// How long it may take to do so. Default 500 ms, or the interval if that is
    /// shorter.
    pub timeout: Duration,
    /// On which port it is asked. Default: its own.
    pub port: Option<u16>,
    /// After so many timeouts and failures in a row it is unhealthy; what a
    /// backend says itself, or that nobody listens, counts at once. Default 3.
    pub unhealthy_threshold: u32,
    /// After so many good answers in a row it is healthy. Default 1.
    pub healthy_threshold: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HealthKind {
    /// `grpc.health.v1`.
    Grpc {
        /// Whose health. Default: empty, which is the server as a whole.
        service: String,
        /// What the backend is called. Default: the service's name, without a
        /// port.
        authority: Option<String>,
        /// TLS, or plaintext if absent. Default: the service's.
        tls: Option<Arc<BackendTls>>,
    },
    /// Whether a TCP connection can be opened.
    Tcp,
}

/// One `load` of a service: a way in which its backends are asked how busy they are.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadConfig {
    /// How they are asked.
    pub kind: LoadKind,
    /// How often they are asked, or should report. Default 5 s.
    pub interval: Duration,
    /// On which port they are asked. Default: their own.
    pub port: Option<u16>,
    /// What they are called there. Default: the service's name, without a port.
    pub authority: Option<String>,
    /// TLS, or plaintext if absent. Default: the service's.
    pub tls: Option<Arc<BackendTls>>,
}

impl LoadConfig {
    /// Whether `other` asks the same in the same place, however often.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let place = |load: &Self| (load.port, load.authority.clone(), load.tls.clone());
        self.kind == other.kind && place(self) == place(other)
    }
}

/// How backends are asked for their load.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadKind {
    /// ORCA out of band: they send reports on a stream.
    Orca,
    /// `grpclb.backend.v1.LoadReport`: they are polled for a score.
    LoadReport {
        /// The score of a backend that is fully busy; above 0.
        capacity: f64,
    },
    /// A page of metrics in Prometheus' text format.
    Prometheus(PrometheusConfig),
}

impl LoadKind {
    /// Every kind, as the file names it.
    pub const ALL: [&'static str; 3] = ["load_report", "orca", "prometheus"];

    /// What the file calls it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::LoadReport { .. } => "load_report",
            Self::Orca => "orca",
            Self::Prometheus(_) => "prometheus",
        }
    }
}

/// Which metrics of a page say how busy a backend is.
#[derive(Debug, Clone, PartialEq)]
pub struct PrometheusConfig {
    /// Path of the page. Default `/metrics`.
    pub path: String,
    /// How long the page may take. Default 1 s, or the interval if that is shorter.
    pub timeout: Duration,
    /// A gauge: of the series that match, the largest counts.
    pub utilization: Selector,
    /// What the gauge shows when the backend is fully busy; above 0. Default 1.
    pub capacity: f64,
    /// A counter of calls: the sum of the series that match.
    pub requests: Option<Selector>,
    /// A counter of failed calls, likewise.
    pub errors: Option<Selector>,
}

impl ServiceConfig {
    /// How often its backends are asked to report: `load.interval`, the longest if
    /// there are several, else as often as clients are.
    #[must_use]
    pub fn report_interval(&self, balancer: &BalancerConfig) -> Duration {
        let intervals = self.load.iter().map(|load| load.interval);
        intervals.max().unwrap_or(balancer.report_interval)
    }
}

/// `register` of a service: which backends may say that they are its.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterConfig {
    /// File with tokens, one a line; who shows one may register. Read again when
    /// it changes.
    pub token_file: Option<PathBuf>,
    /// Who shows a certificate for one of these names may register. With
    /// neither this nor `token_file`, whoever has an address of `cidrs`.
    pub client_names: Vec<String>,
    /// Addresses that backends may have. Default: all but those that never
    /// belong to a backend (link-local, multicast, unspecified, metadata).
    pub cidrs: Vec<Cidr>,
    /// Whether backends may register addresses other than their own. Default
    /// false.
    pub any_address: bool,
}

/// One entry of `backends`. What is absent is left to other sources.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// Where it is.
    pub address: BackendAddr,
    /// Its share relative to the others; 1 if no source says.
    pub weight: Option<Weight>,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// Whether it should get no new calls.
    pub drain: Option<bool>,
    /// What else it is told by.
    pub labels: Labels,
}
