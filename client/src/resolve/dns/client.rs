//! A DNS client: what hickory finds out, as what this crate needs to know.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::look;
use super::records::Records;
use super::search::{Miss, Search, names};
use super::server_choice::ServerChoice;
use super::srv::SrvTarget;
use super::system::{self, Conf};
use super::transport::query;
use super::{hosts, servers::Failures};
use crate::error::ResolveError;

/// How long A or AAAA may take once the other has addresses: there are networks
/// in which one of the two is never answered.
const PATIENCE: Duration = Duration::from_millis(500);
/// CNAMEs that are followed from one name.
const MAX_ALIASES: usize = 8;

/// A DNS client.
///
/// Its servers are asked in their order: the next one when one has been silent for
/// 5 s, at once when one fails or refuses. Each is asked twice at most, so that a
/// server that is alone and dead costs 10 s; an answer that is late counts for as
/// long as that.
#[derive(Clone)]
pub struct Dns {
    /// The one server to ask; the system's are read when they are asked.
    given: Option<Arc<Conf>>,
    asked: ServerChoice,
}

impl Dns {
    /// Asks the servers that the system is configured for, as glibc does: by
    /// `/etc/resolv.conf`, which is read again when it changes, with its search
    /// domains and its `ndots`, `timeout`, `attempts`, `rotate`, `use-vc` and
    /// `no-aaaa`. Without one the server is 127.0.0.1. What stands in `/etc/hosts`
    /// needs no server.
    ///
    /// # Errors
    /// None at present.
    pub fn system() -> Result<Self, ResolveError> {
        Ok(Self {
            given: None,
            asked: ServerChoice::System,
        })
    }

    /// Asks one server, by UDP and, for what is too long for it, by TCP. Neither
    /// search domains nor the hosts file count.
    ///
    /// # Errors
    /// None at present.
    pub fn at(server: SocketAddr) -> Result<Self, ResolveError> {
        Ok(Self {
            given: Some(Arc::new(Conf::at(server))),
            asked: ServerChoice::Server(server),
        })
    }

    /// The same, where the server has this long for an answer, instead of 5 s, before it
    /// is asked a second time and before it is given up.
    ///
    /// # Errors
    /// None at present.
    pub fn at_within(server: SocketAddr, timeout: Duration) -> Result<Self, ResolveError> {
        let mut conf = Conf::at(server);
        conf.servers.timeout = timeout;
        Ok(Self {
            given: Some(Arc::new(conf)),
            asked: ServerChoice::Server(server),
        })
    }

    /// Asks this server, as [`Dns::at`] does, or those of the system, as [`Dns::system`].
    ///
    /// # Errors
    /// As those.
    pub fn of(server: Option<SocketAddr>) -> Result<Self, ResolveError> {
        server.map_or_else(Self::system, Self::at)
    }

    /// Whom this asks.
    pub(in super::super) fn asked(&self) -> ServerChoice {
        self.asked
    }

    fn conf(&self) -> Arc<Conf> {
        self.given.clone().unwrap_or_else(system::current)
    }

    /// The IP addresses of `host`, IPv4 first, in the server's order.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without addresses, or one
    /// that does not exist, is an empty list.
    pub async fn ips(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.find_ips(host).await.map(|found| found.list)
    }

    async fn find_ips(&self, host: &str) -> Result<Records<IpAddr>, ResolveError> {
        if let Ok(ip) = host.parse() {
            return Ok(Records::without_ttl(vec![ip]));
        }
        if self.given.is_none() {
            let ips = hosts::lookup(host);
            if !ips.is_empty() {
                return Ok(Records::without_ttl(ips));
            }
        }
        if let Some(ips) = hosts::loopback(host) {
            return Ok(Records::without_ttl(ips));
        }
        let conf = self.conf();
        let mut search = Search::default();
        for name in names(&conf, host)? {
            if let Some(found) = search.take(self.both(&conf, &name).await)? {
                return Ok(found);
            }
        }
        search.end()
    }

    /// A and AAAA, of which one is enough.
    async fn both(&self, conf: &Conf, name: &Name) -> Result<Records<IpAddr>, Miss> {
        let ipv4 = std::pin::pin!(self.family(conf, name, RecordType::A));
        let ipv6 = std::pin::pin!(self.family(conf, name, RecordType::AAAA));
        let (ipv4, ipv6) = match select(ipv4, ipv6).await {
            Either::Left((ipv4, ipv6)) => {
                let ipv6 = soon(&ipv4, ipv6).await;
                (ipv4, ipv6)
            }
            Either::Right((ipv6, ipv4)) => (soon(&ipv6, ipv4).await, ipv6),
        };
        match (ipv4, ipv6) {
            (Ok(ipv4), Ok(ipv6)) => Ok(ipv4.and(ipv6)),
            (Ok(ips), Err(_)) | (Err(_), Ok(ips)) if !ips.is_empty() => Ok(ips),
            (Err(miss), _) | (_, Err(miss)) => Err(miss),
        }
    }

    async fn family(
        &self,
        conf: &Conf,
        name: &Name,
        kind: RecordType,
    ) -> Result<Records<IpAddr>, Miss> {
        if conf.no_aaaa && kind == RecordType::AAAA {
            return Ok(Records::default());
        }
        let found = self.exactly(conf, name, kind).await?;
        Ok(found.filter_map(|data| data.ip_addr()))
    }

    /// The SRV records of `name`, in the server's order. Records that name no
    /// target or no port are left out.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without SRV records is an
    /// empty list.
    pub async fn srv(&self, name: &str) -> Result<Vec<SrvTarget>, ResolveError> {
        self.find_srv(name).await.map(|found| found.list)
    }

    async fn find_srv(&self, name: &str) -> Result<Records<SrvTarget>, ResolveError> {
        let found = self.records(name, RecordType::SRV).await?;
        let target = |data| match data {
            RData::SRV(srv) => Some(SrvTarget {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                host: system::text(&srv.target),
            }),
            _ => None,
        };
        // RFC 2782: "." says that there is decidedly no such service.
        let meant = |srv: &SrvTarget| !srv.host.is_empty() && srv.port != 0;
        Ok(found.filter_map(|data| target(data).filter(meant)))
    }

    /// The TXT records of `name`, the strings of each put together.
    ///
    /// # Errors
    /// [`ResolveError`] if there is no answer. A name without TXT records is an
    /// empty list.
    pub async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        let found = self.records(name, RecordType::TXT).await?;
        let found = found.filter_map(|data| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        Ok(found.list)
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Records<RData>, ResolveError> {
        let conf = self.conf();
        let mut search = Search::default();
        for name in names(&conf, name)? {
            if let Some(found) = search.take(self.exactly(&conf, &name, kind).await)? {
                return Ok(found);
            }
        }
        search.end()
    }

    /// The records of this very name, and of what it is an alias of; no others that
    /// an answer may have.
    async fn exactly(
        &self,
        conf: &Conf,
        name: &Name,
        kind: RecordType,
    ) -> Result<Records<RData>, Miss> {
        let mut asked = name.clone();
        for _ in 0..MAX_ALIASES {
            match self.ask(conf, &asked, kind).await? {
                Ok(found) => return Ok(of_the_name(&found)),
                Err(none) if !is_aliased_srv(&none, &asked, kind) => return Ok(Records::default()),
                Err(_) => match self.alias(conf, &asked).await? {
                    Some(target) => asked = target,
                    None => return Ok(Records::default()),
                },
            }
        }
        let text = format!("more than {MAX_ALIASES} CNAMEs lead from one to the next");
        Err(self.miss(name, kind, &text, false))
    }

    /// What the servers answer: records, or that there are none.
    async fn ask(
        &self,
        conf: &Conf,
        name: &Name,
        kind: RecordType,
    ) -> Result<Result<Lookup, NetError>, Miss> {
        let answer = conf.servers.ask(|addr| async move {
            match query(conf, addr, name, kind).await {
                Err(error) if error.is_no_records_found() => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(found) => Ok(Ok(found)),
            }
        });
        answer.await.map_err(|failures: Failures| {
            let refused = failures.has(ResponseCode::Refused);
            let doubt = if refused { self.asked.doubt() } else { "" };
            let text = match doubt {
                "" => failures.to_string(),
                doubt => format!("{failures} ({doubt})"),
            };
            let server_failure = failures.has(ResponseCode::ServFail);
            self.miss(name, kind, &text, server_failure)
        })
    }

    fn miss(&self, name: &Name, kind: RecordType, text: &str, server_failure: bool) -> Miss {
        let (asked, name) = (self.asked, system::text(name));
        Miss {
            server_failure,
            error: ResolveError(format!("DNS lookup of {kind} {name} {asked}: {text}")),
        }
    }

    async fn alias(&self, conf: &Conf, name: &Name) -> Result<Option<Name>, Miss> {
        let Ok(found) = self.ask(conf, name, RecordType::CNAME).await? else {
            return Ok(None);
        };
        let own = |record: &&Record| record.name == *found.query().name();
        let target = found.answers().iter().filter(own).find_map(|record| {
            let RData::CNAME(target) = &record.data else {
                return None;
            };
            Some(target.0.clone())
        });
        Ok(target)
    }
}

impl look::Lookup for Dns {
    fn asked(&self) -> ServerChoice {
        self.asked
    }

    async fn ips(&self, host: &str) -> Result<Records<IpAddr>, ResolveError> {
        self.find_ips(host).await
    }

    async fn srv(&self, name: &str) -> Result<Records<SrvTarget>, ResolveError> {
        self.find_srv(name).await
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

type Ips = Result<Records<IpAddr>, Miss>;

/// The other family's addresses, unless they are late and there are some already.
async fn soon(first: &Ips, second: impl Future<Output = Ips>) -> Ips {
    if !matches!(first, Ok(ips) if !ips.is_empty()) {
        return second.await;
    }
    let late = tokio::time::timeout(PATIENCE, second).await;
    late.unwrap_or_else(|_| Ok(Records::default()))
}

/// What `found` has of the name that was asked for, and of its aliases.
fn of_the_name(found: &Lookup) -> Records<RData> {
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
    let records = records
        .filter(|record| record.record_type() == kind && names.contains(&&record.name))
        .map(|record| record.data.clone());
    let ttl = found.answers().iter().map(|record| record.ttl).min();
    Records {
        list: records.collect(),
        ttl: ttl.map(|ttl| Duration::from_secs(ttl.into())),
    }
}

/// Whether there are SRV records behind a CNAME. hickory takes the target of such
/// a record for another name of the one that was asked for, and looks there.
fn is_aliased_srv(error: &NetError, asked: &Name, kind: RecordType) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return false;
    };
    kind == RecordType::SRV && none.query.name() != asked
}
