//! From names to addresses: of the backends, and of the balancer if there is
//! one.
//!
//! A [`Resolve`] yields a stream of [`Resolution`]s, each of which replaces the
//! one before it. The stream says when it learns something; the channel asks
//! for more through [`Reresolve`], when a connection failed or the balancer went
//! away, and every 24 s while it spreads RPCs or follows a balancer; the resolver
//! decides when that is (the DNS resolver looks again at most every 24 to 30 s, and an
//! early wish is kept, not dropped).

#[cfg(feature = "dns")]
mod balancer_at;
#[cfg(feature = "dns")]
mod dns;
mod fixed;
#[cfg(feature = "dns")]
mod listed;
#[cfg(feature = "dns")]
mod schedule;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{FutureExt as _, Stream};
use tokio::sync::Notify;

#[cfg(feature = "dns")]
pub use self::balancer_at::BalancerAt;
#[cfg(feature = "dns")]
pub use self::dns::{Dns, DnsResolver, SrvTarget};
pub use self::fixed::FixedResolver;
#[cfg(feature = "dns")]
use self::listed::ListedResolver;
use crate::endpoint::Endpoint;
use crate::error::{Error, ResolveError};
use crate::service_config::ServiceConfig;
use crate::target::{DEFAULT_PORT, Target};

/// Turns the name of a service into addresses, now and whenever they change.
pub trait Resolve: Send + 'static {
    /// Starts to resolve, also again after the channel was idle. Dropping the stream
    /// ends it. An error replaces no addresses: what was known stays in use. So it
    /// does if the stream ends, which is an error too: one that has said all it knows
    /// stays pending.
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream;
}

/// What [`Resolve::resolve`] yields.
pub type ResolutionStream =
    Pin<Box<dyn Stream<Item = Result<Resolution, ResolveError>> + Send + 'static>>;

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Resolution {
    /// Its backends. With a balancer these are the fallback addresses.
    pub endpoints: Vec<Endpoint>,
    /// Its balancers.
    pub balancers: Balancers,
    /// How its owner wants RPCs to be balanced, if the resolver knows: it comes
    /// before what the application chose.
    pub service_config: Option<ServiceConfig>,
    /// Whether more is on its way: a query that says where RPCs go, or how, has
    /// no answer yet. [`Builder::connect`](crate::Builder::connect) waits for it,
    /// if not for long.
    pub pending: bool,
}

/// What is known of a service's balancers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balancers {
    /// There are none.
    #[default]
    Absent,
    /// Not known yet, or no longer known for sure; changes nothing.
    Unknown,
    /// These, in the order to try them.
    Known(Vec<BalancerAddress>),
}

/// Where a balancer is, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerAddress {
    /// Where to connect.
    pub addr: SocketAddr,
    /// Its name: `:authority` of the stream and, with TLS, the name in the
    /// certificate. Without port and trailing dot if it comes from DNS.
    pub authority: String,
}

/// The channel's wish that the resolver looks again.
#[derive(Debug, Clone, Default)]
pub struct Reresolve(Arc<Notify>);

impl Reresolve {
    /// Asks for another look. Wishes between two looks count once.
    pub fn request(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        self.0.notified().await;
    }

    /// Takes back what was asked so far: the look that begins now is the answer.
    pub fn forget(&self) {
        let _ = self.requested().now_or_never();
    }
}

impl From<Vec<Endpoint>> for Resolution {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            balancers: Balancers::Absent,
            service_config: None,
            pending: false,
        }
    }
}

impl Resolution {
    /// The same with this service config.
    #[must_use]
    pub fn with_service_config(mut self, config: ServiceConfig) -> Self {
        self.service_config = Some(config);
        self
    }

    /// The same with these balancers, in the order to try them.
    #[must_use]
    pub fn with_balancers(mut self, balancers: Vec<BalancerAddress>) -> Self {
        self.balancers = Balancers::Known(balancers);
        self
    }
}

/// The resolver for a target; one that asks DNS looks for a service config too, if
/// `txt_service_config` says so.
///
/// # Errors
/// [`Error::Resolve`] if there are names to look up, and the crate was built without
/// its feature `dns`.
pub fn for_target(target: &Target, txt_service_config: bool) -> Result<Box<dyn Resolve>, Error> {
    match target {
        Target::Static(addresses) => {
            let endpoints: Vec<_> = addresses.iter().cloned().map(Endpoint::new).collect();
            Ok(Box::new(FixedResolver::new(endpoints.into())))
        }
        Target::Dns { host, port, .. } if host.parse::<IpAddr>().is_ok() => {
            let ip = host.parse().into_iter();
            let endpoint = |ip| Endpoint::new(SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT)));
            let endpoints: Vec<_> = ip.map(endpoint).collect();
            Ok(Box::new(FixedResolver::new(endpoints.into())))
        }
        names => for_names(names, txt_service_config),
    }
}

/// The resolver for a service whose balancer is `host:port`, and is not to be looked
/// for. The addresses of the target, if it lists some, are the fallback.
///
/// # Errors
/// As [`for_target`].
pub(crate) fn for_balancer(
    host: String,
    port: u16,
    target: &Target,
) -> Result<Box<dyn Resolve>, Error> {
    let ip = host.parse::<IpAddr>();
    let addresses = match target {
        Target::Static(addresses) => Some(&addresses[..]),
        Target::Dns { .. } => Some(&[][..]),
        Target::Listed(_) => None,
    };
    if let (Ok(ip), Some(addresses)) = (ip, addresses) {
        let endpoints: Vec<_> = addresses.iter().cloned().map(Endpoint::new).collect();
        let balancer = BalancerAddress {
            addr: SocketAddr::new(ip, port),
            authority: host,
        };
        let known = Resolution::from(endpoints).with_balancers(vec![balancer]);
        return Ok(Box::new(FixedResolver::new(known)));
    }
    #[cfg(feature = "dns")]
    return Ok(Box::new(BalancerAt::new(host, port, target)?));
    #[cfg(not(feature = "dns"))]
    Err(without_dns(&host))
}

#[cfg(feature = "dns")]
fn for_names(target: &Target, txt_service_config: bool) -> Result<Box<dyn Resolve>, Error> {
    match target {
        Target::Static(_) => for_target(target, txt_service_config),
        Target::Dns {
            server, host, port, ..
        } => {
            let resolver = DnsResolver::new(Dns::of(*server)?, host, *port);
            Ok(Box::new(resolver.txt_service_config(txt_service_config)))
        }
        Target::Listed(hosts) => Ok(Box::new(ListedResolver::new(Dns::system()?, hosts))),
    }
}

#[cfg(not(feature = "dns"))]
fn for_names(target: &Target, _txt_service_config: bool) -> Result<Box<dyn Resolve>, Error> {
    Err(without_dns(&target.authority()))
}

#[cfg(not(feature = "dns"))]
fn without_dns(name: &str) -> Error {
    Error::Resolve(ResolveError(format!(
        "{name:?} cannot be looked up: lookaside-client is built without its feature \"dns\"; \
         enable it, give IP addresses, or set Builder::resolver"
    )))
}
