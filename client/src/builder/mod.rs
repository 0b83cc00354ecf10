//! From a target to a channel.

mod calls;
mod connections;
mod proxying;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Authority;

use self::proxying::Proxying;
use crate::channel::Channel;
use crate::control::{Control, MakePolicy, Published, Recipe};
use crate::endpoint::ConnectivityState;
use crate::error::{ConnectError, Error, TargetError};
use crate::grpclb::GrpclbConfig;
use crate::metrics::{Hook, Metrics};
use crate::policy::{Policy, Random, RoundRobin, Weighted};
use crate::resolve::{self, Resolve};
use crate::service_config::ServiceConfig;
use crate::subchannel::{Connect, ConnectOptions, Pool, System};
use crate::target::{Target, name_of_any_scheme, parse_balancer};
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

/// How long the first list may take before the fallback addresses are used, as
/// in gRPC.
const FALLBACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a channel may be unused before it is idle, as in gRPC.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long [`Builder::connect`] waits for DNS to say whether there is a
/// balancer, once RPCs could be sent without one.
const SRV_PATIENCE: Duration = Duration::from_millis(500);
/// How gRPC wants a client to call itself.
const USER_AGENT: &str = concat!("grpc-rust-lookaside/", env!("CARGO_PKG_VERSION"));

/// Builds a [`Channel`]. Every setting has gRPC's default.
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    target: String,
    authority: Option<String>,
    balancer: Option<String>,
    resolver: Option<Box<dyn Resolve>>,
    make_policy: Option<MakePolicy>,
    user_agent: Option<String>,
    fallback_timeout: Duration,
    report: bool,
    idle_timeout: Option<Duration>,
    service_config: Option<ServiceConfig>,
    txt_service_config: bool,
    options: ConnectOptions,
    hook: Option<Hook>,
    proxying: Proxying,
    system: System,
    connector: Option<Arc<dyn Connect>>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    #[cfg(feature = "tls")]
    balancer_tls: Option<ClientTls>,
}

impl Builder {
    pub(crate) fn new(target: String) -> Self {
        Self {
            target,
            authority: None,
            balancer: None,
            resolver: None,
            make_policy: None,
            user_agent: None,
            fallback_timeout: FALLBACK_TIMEOUT,
            report: true,
            idle_timeout: Some(IDLE_TIMEOUT),
            service_config: None,
            txt_service_config: false,
            options: ConnectOptions::default(),
            hook: None,
            proxying: Proxying::default(),
            system: System::default(),
            connector: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            balancer_tls: None,
        }
    }

    /// Uses the balancer at `address`, `host:port` or `ip:port`, and does not
    /// look in DNS for one. Nor does it look for the service: of a `dns:` target
    /// the balancer gets the name, and there are no fallback addresses; those of
    /// the other targets are the fallback.
    pub fn balancer(mut self, address: impl Into<String>) -> Self {
        self.balancer = Some(address.into());
        self
    }

    /// Without a balancer, spreads RPCs over all addresses in turn, which are looked
    /// up again every 30 s. The default is `pick_first`, as in gRPC.
    pub fn round_robin(self) -> Self {
        self.policy(|rng| Box::new(RoundRobin::new(rng)))
    }

    /// Without a balancer, spreads RPCs over all addresses at random.
    pub fn random(self) -> Self {
        self.policy(|_| Box::new(Random::new()))
    }

    /// Without a balancer, spreads RPCs over all addresses by the weights that the
    /// resolver gives them ([`Weighted`] says how). Of the resolvers of this crate
    /// none does: weights come with a resolver of one's own.
    pub fn weighted(self) -> Self {
        self.policy(|rng| Box::new(Weighted::new(rng)))
    }

    /// Without a balancer, uses the policy that `make` makes.
    pub fn policy(
        mut self,
        make: impl Fn(fastrand::Rng) -> Box<dyn Policy> + Send + 'static,
    ) -> Self {
        self.make_policy = Some(Box::new(make));
        self
    }

    /// Resolves by `resolver`. The target then is only the service's name, of any
    /// scheme: `example:///greeter`, `example:greeter` and `greeter` all have the
    /// authority `greeter`. What the resolver says of balancers and service config
    /// counts: [`Builder::balancer`] beside it is an error, and
    /// [`Builder::txt_service_config`] of no effect.
    ///
    /// Where targets come from a configuration and may be of several schemes, a
    /// function that looks at the scheme is all the registry it takes:
    ///
    /// ```
    /// use lookaside_client::resolve::{FixedResolver, Resolution};
    /// use lookaside_client::{Builder, Channel};
    ///
    /// fn channel(target: &str) -> Builder {
    ///     let builder = Channel::builder(target);
    ///     match target.split_once(":///") {
    ///         Some(("example", name)) => builder.resolver(lookup(name)),
    ///         // dns, ipv4, ipv6, static, unix and unix-abstract.
    ///         _ => builder,
    ///     }
    /// }
    /// # fn lookup(_: &str) -> FixedResolver { FixedResolver::new(Resolution::default()) }
    /// # drop(channel("example:///greeter"));
    /// ```
    ///
    /// `examples/src/bin/custom_resolver.rs` is a whole one.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Box::new(resolver));
        self
    }

    /// Calls the service `authority`, `host[:port]`, instead of by the target's
    /// name: towards backends, and in the request to the balancer.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// How long the balancer's first list may take before the fallback addresses
    /// are used; 10 s by default. Not waited for if the balancer refuses.
    pub fn fallback_timeout(mut self, timeout: Duration) -> Self {
        self.fallback_timeout = timeout;
        self
    }

    /// Whether to report call counts to a balancer that asks for them; it is on
    /// by default.
    pub fn report_stats(mut self, report: bool) -> Self {
        self.report = report;
        self
    }

    /// What to do where the resolver has no service config of its own. Its method
    /// configs (timeout, waiting for a connection, retries) hold for every RPC; its
    /// policy comes before [`Builder::policy`] and its like. A balancer that DNS names is
    /// followed unless the config names another policy than `grpclb`.
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.service_config = Some(config);
        self
    }

    /// Whether to look in DNS for a service config too: in the TXT records of
    /// `_grpc_config.<host>` (gRFC A2), which come before
    /// [`Builder::service_config`]. Off by default, as in C++ and Java. No RPC
    /// waits for the answer; [`Builder::connect`] does, for half a second.
    pub fn txt_service_config(mut self, look: bool) -> Self {
        self.txt_service_config = look;
        self
    }

    /// How long a channel may be without an RPC before it closes its connections
    /// and the balancer's stream: it is idle then, and the next RPC wakes it. At
    /// most twice that time passes. 30 minutes by default, as in gRPC; `None` is
    /// never.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Calls backends over TLS. Their certificate has to be for the service's
    /// name, that is for the host of the target or of [`Builder::authority`], or
    /// for [`ClientTls::server_name`]. Says nothing about the balancer. Without
    /// it, RPCs go out in plain text.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Calls balancers over TLS. Their certificate has to be for the balancer's
    /// name: the target of the SRV record that led there, or the host given to
    /// [`Builder::balancer`]. Says nothing about backends. Without it, the stream
    /// to the balancer goes out in plain text.
    #[cfg(feature = "tls")]
    pub fn balancer_tls(mut self, tls: ClientTls) -> Self {
        self.balancer_tls = Some(tls);
        self
    }

    /// Starts the channel and returns at once. RPCs wait until there is a
    /// connection, and fail while none can be had.
    ///
    /// # Errors
    /// [`Error`] if a setting is malformed or the system's DNS configuration
    /// cannot be read; [`Error::NoRuntime`] outside a tokio runtime, which the channel's
    /// tasks need. RPCs may be sent from anywhere.
    pub fn connect_lazy(self) -> Result<Channel, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::NoRuntime);
        }
        let mut options = self.options.clone();
        options.connector = self.opens(&options);
        // A stream is silent for hours; only pings tell whether the balancer is
        // still there.
        let mut balancer_options = ConnectOptions {
            timeout: options.timeout,
            keepalive_interval: Some(Duration::from_secs(20)),
            keepalive_timeout: Duration::from_secs(10),
            keepalive_while_idle: true,
            ..ConnectOptions::default()
        };
        balancer_options.connector = self.opens(&balancer_options);
        let (resolver, name) = match self.resolver {
            Some(_) if self.balancer.is_some() => {
                return Err(Error::Target(TargetError {
                    target: self.target,
                    reason: "a resolver of one's own names the balancers itself, by \
                             Resolution::with_balancers; leave Builder::balancer out"
                        .to_owned(),
                }));
            }
            Some(resolver) => (resolver, name_of_any_scheme(&self.target).to_owned()),
            None => {
                let target: Target = self.target.parse()?;
                let name = target.authority();
                let resolver = match &self.balancer {
                    Some(balancer) => {
                        let (host, port) = parse_balancer(balancer)?;
                        resolve::for_balancer(host, port, &target)?
                    }
                    None => {
                        let own = self.connector.is_some();
                        match self.proxying.apply(&target, own, &mut options)? {
                            Some(proxy) => resolve::for_target(&proxy, false)?,
                            None => resolve::for_target(&target, self.txt_service_config)?,
                        }
                    }
                };
                (resolver, name)
            }
        };
        let name = self.authority.unwrap_or(name);
        let authority: Authority = name.parse().map_err(|error| TargetError {
            target: self.target.clone(),
            reason: format!("{name:?} is no authority: {error}"),
        })?;
        #[cfg(feature = "tls")]
        let options = options
            .over(self.tls, authority.host())
            .map_err(|error| named("Builder::tls", error))?;
        // Each balancer is called by its own name.
        #[cfg(feature = "tls")]
        let balancer_options = balancer_options
            .over(self.balancer_tls, "")
            .map_err(|error| named("Builder::balancer_tls", error))?;
        let user_agent = match self.user_agent {
            Some(own) => format!("{own} {USER_AGENT}"),
            None => USER_AGENT.to_owned(),
        };
        let Ok(agent) = HeaderValue::from_str(&user_agent) else {
            return Err(Error::Header {
                what: "user agent",
                value: user_agent,
            });
        };
        let mut rng = fastrand::Rng::new();
        let metrics = Arc::<Metrics>::default();
        let scheme = options.scheme();
        let published = Published::new(Arc::clone(&metrics), self.hook);
        published.configure(self.service_config.as_ref());
        let control = Control {
            resolver,
            pool: Pool::new(options, rng.fork(), Arc::clone(&metrics)),
            recipe: Recipe {
                target: self.target,
                make_policy: self.make_policy,
                grpclb: GrpclbConfig {
                    name,
                    user_agent: agent.clone(),
                    fallback_timeout: self.fallback_timeout,
                    report: self.report,
                    connect: balancer_options,
                    metrics,
                },
                service_config: self.service_config,
                rng,
            },
            idle_timeout: self.idle_timeout,
        };
        Ok(Channel::start(control, published, scheme, authority, agent))
    }

    /// Starts the channel and waits until RPCs can be sent.
    ///
    /// # Errors
    /// [`Error::Connect`] with the reason if no connection can be had, and what
    /// [`Builder::connect_lazy`] fails with. A service that may come later is for
    /// `connect_lazy`.
    pub async fn connect(self) -> Result<Channel, Error> {
        let channel = self.connect_lazy()?;
        let mut progress = channel.published().subscribe();
        let patience = tokio::time::sleep(SRV_PATIENCE);
        tokio::pin!(patience);
        let mut patient = true;
        loop {
            let now = *progress.borrow_and_update();
            match now.state {
                ConnectivityState::Ready if now.settled || !patient => return Ok(channel),
                ConnectivityState::TransientFailure | ConnectivityState::Shutdown
                    if now.settled =>
                {
                    return Err(Error::Connect(reason(&channel)));
                }
                _ => {}
            }
            tokio::select! {
                changed = progress.changed() => {
                    if changed.is_err() {
                        return Err(Error::Connect(reason(&channel)));
                    }
                }
                () = &mut patience, if patient => patient = false,
            }
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("target", &self.target)
            .field("balancer", &self.balancer)
            .finish_non_exhaustive()
    }
}

fn reason(channel: &Channel) -> ConnectError {
    let output = channel.published().output();
    let picker = &output.picker;
    let text = picker.failure().unwrap_or("no connection").to_owned();
    match picker.cause() {
        Some(cause) => ConnectError::clone(cause).told(text),
        None => ConnectError::other(text),
    }
}

#[cfg(feature = "tls")]
fn named(setting: &str, error: Error) -> Error {
    match error {
        Error::Tls(reason) => Error::Tls(format!("{setting}: {reason}")),
        other => other,
    }
}
