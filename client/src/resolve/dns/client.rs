//! A DNS client: what hickory finds out, as what this crate needs to know.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::asked::Asked;
use super::look;
use super::srv::SrvTarget;
use crate::error::ResolveError;

/// How long one query may take before it is sent again. What a slow server finds
/// out meanwhile it has for the next one.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often a query is sent again.
const REPETITIONS: usize = 2;
/// How long A or AAAA may take once the other has addresses: there are networks
/// in which one of the two is never answered.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest name that DNS has.
const LONGEST_NAME: usize = 253;
/// CNAMEs that are followed from one name.
const MAX_ALIASES: usize = 8;

/// A DNS client. A clone shares its sockets.
///
/// A query is sent three times at most, 2 s apart, so that a server that is dead
/// costs 6 s.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    asked: Asked,
}

impl Dns {
    /// Asks the servers that the system is configured for, as often as
    /// `resolv.conf` says, and with its timeout if that is not the usual 5 s.
    ///
    /// # Errors
    /// If that configuration cannot be read.
    pub fn system() -> Result<Self, ResolveError> {
        let mut builder = TokioResolver::builder_tokio()
            .map_err(|error| ResolveError(format!("the system's DNS configuration: {error}")))?;
        let options = builder.options_mut();
        if options.timeout == ResolverOpts::default().timeout {
            options.timeout = TIMEOUT;
        }
        Self::build(builder, ResolveHosts::Auto, Asked::System)
    }

    /// Asks one server, by UDP and, for what is too long for it, by TCP.
    ///
    /// # Errors
    /// If the client cannot be set up.
    pub fn at(server: SocketAddr) -> Result<Self, ResolveError> {
        let asked = Asked::Server(server);
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        udp.port = server.port();
        tcp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
        // No search domains: names for a server of one's own are complete.
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = REPETITIONS;
        Self::build(builder, ResolveHosts::Never, asked)
    }

    fn build(
        mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
        hosts: ResolveHosts,
        asked: Asked,
    ) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        // We look because something failed; an answer from a cache would be
        // what failed.
        options.cache_size = 0;
        options.use_hosts_file = hosts;
        let resolver = builder
            .build()
            .map_err(|error| ResolveError(format!("the DNS client: {error}")))?;
        Ok(Self { resolver, asked })
    }

    /// Whom this asks.
    pub(in super::super) fn asked(&self) -> Asked {
        self.asked
    }

    /// The IP addresses of `host`, IPv4 first, in the server's order.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without addresses, or one
    /// that does not exist, is an empty list.
    pub async fn ips(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let ipv4 = std::pin::pin!(self.family(host, RecordType::A));
        let ipv6 = std::pin::pin!(self.family(host, RecordType::AAAA));
        let (ipv4, ipv6) = match select(ipv4, ipv6).await {
            Either::Left((ipv4, ipv6)) => {
                let ipv6 = soon(&ipv4, ipv6).await;
                (ipv4, ipv6)
            }
            Either::Right((ipv6, ipv4)) => (soon(&ipv6, ipv4).await, ipv6),
        };
        match (ipv4, ipv6) {
            (Ok(ipv4), Ok(ipv6)) => Ok([ipv4, ipv6].concat()),
            (Ok(ips), Err(_)) | (Err(_), Ok(ips)) if !ips.is_empty() => Ok(ips),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn family(&self, host: &str, kind: RecordType) -> Result<Vec<IpAddr>, ResolveError> {
        let records = self.records(host, kind).await?;
        Ok(records.iter().filter_map(|data| data.ip_addr()).collect())
    }

    /// The SRV records of `name`, in the server's order. Records that name no
    /// target or no port are left out.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without SRV records is an
    /// empty list.
    pub async fn srv(&self, name: &str) -> Result<Vec<SrvTarget>, ResolveError> {
        let records = self.records(name, RecordType::SRV).await?;
        let targets = records.into_iter().filter_map(|data| match data {
            RData::SRV(srv) => Some(SrvTarget {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        });
        // RFC 2782: "." says that there is decidedly no such service.
        Ok(targets
            .filter(|srv| !srv.host.is_empty() && srv.port != 0)
            .collect())
    }

    /// The TXT records of `name`, the strings of each put together.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without TXT records is an
    /// empty list.
    pub async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        let records = self.records(name, RecordType::TXT).await?;
        let texts = records.into_iter().filter_map(|data| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// The records of `name`, and of what it is an alias of; no others that an
    /// answer may have.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveError> {
        if name.trim_end_matches('.').len() > LONGEST_NAME {
            // A prefix can make a name longer than any that is in DNS.
            return Ok(vec![]);
        }
        let mut asked = name.to_owned();
        for _ in 0..MAX_ALIASES {
            match self.resolver.lookup(asked.as_str(), kind).await {
                Ok(found) => return Ok(of_the_name(&found)),
                Err(error) if !is_aliased_srv(&error, &asked, kind) => {
                    return match error.is_no_records_found() {
                        true => Ok(vec![]),
                        false => Err(self.failure(name, kind, &error)),
                    };
                }
                Err(_) => match self.alias(&asked).await {
                    Ok(Some(target)) => asked = target,
                    Ok(None) => return Ok(vec![]),
                    Err(error) => return Err(self.failure(name, kind, &error)),
                },
            }
        }
        Err(ResolveError(format!(
            "DNS lookup of {kind} {name} {}: more than {MAX_ALIASES} CNAMEs lead from one to the \
             next",
            self.asked
        )))
    }

    fn failure(&self, name: &str, kind: RecordType, error: &NetError) -> ResolveError {
        let asked = self.asked;
        let doubt = match error {
            NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
                format!(" ({})", asked.doubt())
            }
            _ => String::new(),
        };
        ResolveError(format!(
            "DNS lookup of {kind} {name} {asked}: {error}{doubt}"
        ))
    }

    async fn alias(&self, name: &str) -> Result<Option<String>, NetError> {
        let found = match self.resolver.lookup(name, RecordType::CNAME).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let own = |record: &&Record| record.name == *found.query().name();
        let target = found.answers().iter().filter(own).find_map(|record| {
            let RData::CNAME(target) = &record.data else {
                return None;
            };
            Some(target.0.to_utf8())
        });
        Ok(target)
    }
}

impl look::Lookup for Dns {
    fn asked(&self) -> Asked {
        self.asked
    }

    async fn ips(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.ips(host).await
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvTarget>, ResolveError> {
        self.srv(name).await
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        self.txt(name).await
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

type Ips = Result<Vec<IpAddr>, ResolveError>;

/// The other family's addresses, unless they are late and there are some already.
async fn soon(first: &Ips, second: impl Future<Output = Ips>) -> Ips {
    if !matches!(first, Ok(ips) if !ips.is_empty()) {
        return second.await;
    }
    let late = tokio::time::timeout(PATIENCE, second).await;
    late.unwrap_or_else(|_| Ok(vec![]))
}

/// What `found` has of the name that was asked for, and of its aliases.
fn of_the_name(found: &Lookup) -> Vec<RData> {
    let kind = found.query().query_type();
    let mut names: Vec<&Name> = vec![found.query().name()];
    for _ in 0..MAX_ALIASES {
        let known = names.len();
        for record in found.answers() {
            if let RData::CNAME(target) = &record.data
                && names.contains(&&record.name)
                && !names.contains(&&target.0)
            {
                names.push(&target.0);
            }
        }
        if names.len() == known {
            break;
        }
    }
    let records = found.answers().iter();
    records
        .filter(|record| record.record_type() == kind && names.contains(&&record.name))
        .map(|record| record.data.clone())
        .collect()
}

/// Whether there are SRV records behind a CNAME. hickory takes the target of such
/// a record for another name of the one that was asked for, and looks there.
fn is_aliased_srv(error: &NetError, asked: &str, kind: RecordType) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return false;
    };
    let found = none.query.name().to_utf8().to_ascii_lowercase();
    let asked = asked.trim_end_matches('.').to_ascii_lowercase();
    // Behind a name may stand a search domain.
    let rest = found.strip_prefix(&asked);
    kind == RecordType::SRV && !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
