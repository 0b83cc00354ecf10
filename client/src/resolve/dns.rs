//! Addresses from DNS: A and AAAA of the host, beside them SRV
//! `_grpclb._tcp.<host>`, which names balancers (gRFC A5).
//!
//! The SRV query runs beside the address queries and never holds them up: what
//! is known is passed on at once, and balancers follow when they are. (A
//! process-wide SRV query in front of every lookup is why Google's own clients
//! dropped grpclb.) `localhost` and IP literals get no SRV query (gRFC A10).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{StreamExt as _, future, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::{BalancerAddress, Balancers, Reresolve, Resolution, ResolutionStream, Resolve};
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
use crate::target::DEFAULT_PORT;

/// Shortest time between two looks, as in gRPC; an earlier wish waits for it.
pub(super) const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The prefix under which gRFC A5 looks for balancers.
const SRV_PREFIX: &str = "_grpclb._tcp.";

/// A DNS client.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvTarget {
    /// Lower is to be tried first.
    pub priority: u16,
    /// Share among records of one priority.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// Host of the service, without trailing dot.
    pub host: String,
}

impl Dns {
    /// Asks the servers that the system is configured for.
    ///
    /// # Errors
    /// If that configuration cannot be read.
    pub fn system() -> Result<Self, ResolveError> {
        let builder = TokioResolver::builder_tokio()
            .map_err(|error| ResolveError(format!("the system's DNS configuration: {error}")))?;
        Self::build(builder, ResolveHosts::Auto)
    }

    /// Asks one server, by UDP and, for what is too long for it, by TCP.
    ///
    /// # Errors
    /// If the client cannot be set up.
    pub fn at(server: SocketAddr) -> Result<Self, ResolveError> {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        udp.port = server.port();
        tcp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
        // No search domains: names for a server of one's own are complete.
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Self::build(builder, ResolveHosts::Never)
    }

    fn build(
        mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
        hosts: ResolveHosts,
    ) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        // We look because something failed; an answer from a cache would be
        // what failed.
        options.cache_size = 0;
        options.use_hosts_file = hosts;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder
            .build()
            .map_err(|error| ResolveError(format!("the DNS client: {error}")))?;
        Ok(Self { resolver })
    }

    /// The IP addresses of `host`, IPv4 first, in the server's order.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without addresses is an
    /// empty list.
    pub async fn ips(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        match self.resolver.lookup_ip(host).await {
            Ok(ips) => Ok(ips.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(vec![]),
            Err(error) => Err(ResolveError(format!("DNS lookup of {host}: {error}"))),
        }
    }

    /// The SRV records of `name`, by priority, and in the server's order where
    /// that is equal.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without SRV records is an
    /// empty list.
    pub async fn srv(&self, name: &str) -> Result<Vec<SrvTarget>, ResolveError> {
        let answer = match self.resolver.srv_lookup(name).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(vec![]),
            Err(error) => return Err(ResolveError(format!("DNS lookup of SRV {name}: {error}"))),
        };
        let mut targets: Vec<_> = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(SrvTarget {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                }),
                _ => None,
            })
            // RFC 2782: "." says that there is decidedly no such service.
            .filter(|srv| !srv.host.is_empty() && srv.port != 0)
            .collect();
        targets.sort_by_key(|srv| srv.priority);
        Ok(targets)
    }

    /// The balancers of `host`: the addresses of what SRV `_grpclb._tcp.<host>`
    /// names. A target that has no addresses is left out.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer, or none of the targets could be
    /// looked up. A host without balancers is an empty list.
    pub async fn balancers(&self, host: &str) -> Result<Vec<BalancerAddress>, ResolveError> {
        let targets = self.srv(&format!("{SRV_PREFIX}{host}")).await?;
        let lookups = targets.iter().map(|srv| async {
            // Fully qualified: no search domains are tried behind it.
            let ips = self.ips(&format!("{}.", srv.host)).await?;
            Ok(ips.into_iter().map(|ip| BalancerAddress {
                addr: SocketAddr::new(ip, srv.port),
                authority: srv.host.clone(),
            }))
        });
        let mut balancers = Vec::new();
        let mut failed = None;
        for lookup in future::join_all(lookups).await {
            match lookup {
                Ok(found) => balancers.extend(found),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if balancers.is_empty() => Err(error),
            _ => Ok(balancers),
        }
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// Resolves a `dns:` target.
#[derive(Debug)]
pub struct DnsResolver {
    dns: Dns,
    host: String,
    port: u16,
    srv: bool,
}

impl DnsResolver {
    /// A resolver for `host`, whose backends listen on `port` (443 if the target
    /// names none).
    #[must_use]
    pub fn new(dns: Dns, host: &str, port: Option<u16>) -> Self {
        let local = host.parse::<IpAddr>().is_ok()
            || host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
        Self {
            dns,
            host: host.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
            srv: !local,
        }
    }
}

impl Resolve for DnsResolver {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        let looks = Looks {
            dns: self.dns.clone(),
            host: self.host.clone(),
            port: self.port,
            srv: self.srv,
        };
        // The stream drives the looks itself: no task to leave behind.
        let (found, results) = mpsc::channel(1);
        let work = async move { looks.run(&reresolve, &found).await };
        let work = stream::once(work).filter_map(|()| future::ready(None));
        let results = tokio_stream::wrappers::ReceiverStream::new(results);
        Box::pin(stream::select(results, work))
    }
}

type Found = mpsc::Sender<Result<Resolution, ResolveError>>;

/// The channel dropped the stream.
struct Closed;

struct Looks {
    dns: Dns,
    host: String,
    port: u16,
    srv: bool,
}

impl Looks {
    async fn run(&self, reresolve: &Reresolve, found: &Found) {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::default();
        let mut known = vec![];
        loop {
            let next = Instant::now() + MIN_INTERVAL;
            let Ok(complete) = self.look(&mut known, found).await else {
                return; // Nobody listens any more.
            };
            if complete {
                backoff.reset();
                reresolve.requested().await;
                sleep_until(next).await;
            } else {
                // Without an answer nobody has a reason to ask again later.
                sleep(backoff.next_delay(&mut rng)).await;
            }
        }
    }

    /// One look: passes on the addresses as soon as they are there, with the
    /// balancers if these came first. Says whether all queries were answered.
    async fn look(&self, known: &mut Vec<Endpoint>, found: &Found) -> Result<bool, Closed> {
        let send = async |result| found.send(result).await.map_err(|_| Closed);
        let addresses = std::pin::pin!(self.endpoints());
        let balancers = std::pin::pin!(async {
            if self.srv {
                self.balancers().await
            } else {
                Balancers::Absent
            }
        });
        let (addresses, balancers) = match select(balancers, addresses).await {
            Either::Left((balancers, addresses)) => {
                if matches!(balancers, Balancers::Known(_)) {
                    // A slow fallback must not hold up the balancers either.
                    send(Ok(Resolution {
                        endpoints: known.clone(),
                        balancers: balancers.clone(),
                        service_config: None,
                    }))
                    .await?;
                }
                (addresses.await, balancers)
            }
            Either::Right((addresses, balancers)) => {
                if let Ok(endpoints) = &addresses {
                    send(Ok(Resolution {
                        endpoints: endpoints.clone(),
                        balancers: Balancers::Unknown,
                        service_config: None,
                    }))
                    .await?;
                }
                (addresses, balancers.await)
            }
        };
        let complete = addresses.is_ok() && balancers != Balancers::Unknown;
        match addresses {
            Ok(endpoints) => *known = endpoints,
            // With a balancer they are only the fallback, and the old ones will do.
            Err(error) if matches!(balancers, Balancers::Known(_)) => {
                tracing::debug!(%error, "no new fallback addresses");
            }
            Err(error) => {
                send(Err(error)).await?;
                return Ok(false);
            }
        }
        send(Ok(Resolution {
            endpoints: known.clone(),
            balancers,
            service_config: None,
        }))
        .await?;
        Ok(complete)
    }

    async fn endpoints(&self) -> Result<Vec<Endpoint>, ResolveError> {
        let ips = self.dns.ips(&self.host).await?;
        Ok(ips
            .into_iter()
            .map(|ip| Endpoint::new(SocketAddr::new(ip, self.port)))
            .collect())
    }

    async fn balancers(&self) -> Balancers {
        match self.dns.balancers(&self.host).await {
            Ok(balancers) if balancers.is_empty() => Balancers::Absent,
            Ok(balancers) => Balancers::Known(balancers),
            Err(error) => {
                tracing::debug!(%error, "balancers are not known");
                Balancers::Unknown
            }
        }
    }
}
