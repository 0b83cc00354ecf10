//! The whole balancer: everything bound first, then run, then ended in order.
//!
//! The end has four steps: not ready any more; no new connections, and GOAWAY
//! on the old ones; streams end one by one, spread over the configured time, so
//! that clients reach the other balancers one by one; whatever is left is
//! closed.

mod addresses;
mod ending;
mod error;
mod feeders;
mod grpc_services;
mod limits;

pub use addresses::Addresses;
pub use error::AppError;

use ending::{ended_early, part_ended, port_ended};
use limits::Limits;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{Admin, AdminMetrics, AdminState};
use crate::balance_load::{BalanceLoad, BalanceLoadMetrics, Dispatch};
use crate::catalogue::{Catalogue, CatalogueMetrics};
use crate::certificate::Certificates;
use crate::config::{Config, warnings};
use crate::discovery::file::{ConfigFile, ConfigMetrics, apply};
use crate::dns::{Dns, DnsMetrics, ZoneSettings};
use crate::net::{self, Listener, NetMetrics, Options, Shutdown, TlsFiles, TlsPaths};
use crate::registration::{Registrar, RegistrationMetrics};
use crate::state::{self, StateFile, StateMetrics};
use crate::subchannel::{SubchannelMetrics, Subchannels};
use crate::telemetry::MetricsRegistry;

/// After the streams have ended, connections have this long to close.
const CLOSE_AFTER: Duration = Duration::from_secs(2);

/// What is not in the configuration file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppOptions {
    /// Let a changed file remove all services or most of them, or all backends of a
    /// service; and be ready without services.
    pub allow_empty: bool,
    /// Read the file again on SIGHUP.
    pub follow_sighup: bool,
}

/// A balancer that is bound and not run yet.
#[derive(Debug)]
pub struct App {
    config_file: ConfigFile,
    catalogue: Arc<Catalogue>,
    state: Option<StateFile>,
    metrics: MetricsRegistry,
    listener: Listener,
    certificates: Certificates,
    tls: Option<Arc<TlsFiles>>,
    admin: Admin,
    dns: Option<(Dns, SocketAddr)>,
    hangup: Option<Signal>,
}

/// The parts that run as long as the process; the first to end ends it.
/// The part that has the clients.
const PORT: &str = "the balancer port";

type Parts = JoinSet<(&'static str, Result<(), String>)>;

impl App {
    /// Reads the configuration and binds every port. Connections that come
    /// before [`Self::run`] wait in the kernel.
    ///
    /// # Errors
    /// If the configuration is invalid or a port cannot be bound.
    pub async fn bind(config: &Path, options: AppOptions) -> Result<Self, AppError> {
        let config_file = ConfigFile::load(config)?.allow_empty(options.allow_empty);
        let config = config_file.config();
        let bind = |key: &'static str| move |error| AppError::Bind { key, error };
        let tls = config.balancer.tls.clone();
        let metrics = MetricsRegistry::default();
        let certificates = metrics.register(Certificates::register);
        let tls = tls.map(|tls| {
            let paths = TlsPaths {
                cert: tls.cert,
                key: tls.key,
                client_ca: tls.client_ca,
                client_crl: tls.client_crl,
            };
            TlsFiles::load(paths, certificates.clone())
        });
        let tls = tls.transpose()?.map(Arc::new);
        let listener = Listener::bind(config.balancer.listen).map_err(bind("balancer.listen"))?;
        let admin = Admin::bind(config.admin.listen).await;
        let admin = admin.map_err(bind("admin.listen"))?;
        let dns = match &config.dns {
            Some(dns) => {
                let dns = Dns::bind(dns).await.map_err(bind("dns.listen"))?;
                let addr = dns.local_addr().map_err(bind("dns.listen"))?;
                Some((dns, addr))
            }
            None => None,
        };
        let hangup = options.follow_sighup.then(|| signal(SignalKind::hangup()));
        let hangup = hangup.transpose().map_err(bind("SIGHUP"))?;
        // Before anybody can ask: a name that is configured is never unknown.
        let catalogue = Catalogue::new(metrics.register(CatalogueMetrics::register));
        // Before there are services: each takes what is its own when it begins.
        let state = config.balancer.state.clone();
        let state = state.map(|path| StateFile::load(path, &catalogue));
        state::recommend(&config);
        if config.services.is_empty() && !options.allow_empty {
            // As good as no configuration: nobody is told that a name is unknown.
            warn!(
                file = %config_file.path().display(),
                "the configuration has no service: not ready, and streams are held, until it \
                 has one; to be ready without services, run `lookaside serve --allow-empty`"
            );
        } else {
            apply(&config, &catalogue);
        }
        for warning in warnings(&config) {
            warn!("{warning}");
        }
        Ok(Self {
            config_file,
            catalogue,
            state,
            metrics,
            certificates,
            listener,
            tls,
            admin,
            dns,
            hangup,
        })
    }

    /// Where everything listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            balancer: self.listener.local_addr(),
            admin: self.admin.local_addr(),
            dns: self.dns.as_ref().map(|(_, addr)| *addr),
        }
    }

    /// The services.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Runs until `stop`, then shuts down in order.
    ///
    /// # Errors
    /// If a part ends that should run as long as the process; the error names
    /// it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), AppError> {
        let addresses = self.addresses();
        let config = self.config_file.config();
        let Self {
            catalogue, metrics, ..
        } = self;
        // Cancelled in this order at the end.
        let (draining, goaway, end) = Default::default();
        let mut parts = Parts::new();
        let limits = Limits::new(&config.limits, &config.admin, net::Limits::default());
        metrics.register(|registry| limits.register(registry));

        let balance_load = BalanceLoad::new(
            Arc::clone(&catalogue),
            config.balancer.report_interval,
            limits.streams,
            metrics.register(BalanceLoadMetrics::register),
        );
        let subchannels = Subchannels::new(
            metrics.register(SubchannelMetrics::register),
            self.certificates.clone(),
        );
        let registrar = Registrar::new(
            Arc::clone(&catalogue),
            &config,
            subchannels.seats().clone(),
            CancellationToken::clone(&draining),
            metrics.register(RegistrationMetrics::register),
        );
        spawn(&mut parts, "the keeper of registrations", {
            let kept = registrar.clone().run(CancellationToken::clone(&end));
            async move {
                kept.await;
                Ok::<_, Infallible>(())
            }
        });
        spawn(&mut parts, "the log of backends", {
            let (catalogue, end) = (Arc::clone(&catalogue), CancellationToken::clone(&end));
            async move {
                catalogue.backend_log().run(end).await;
                Ok::<_, Infallible>(())
            }
        });
        feeders::spawn_all(
            &mut parts,
            &catalogue,
            &self.config_file,
            subchannels,
            &metrics,
            &end,
        );
        if let Some(state) = self.state {
            let metrics = metrics.register(StateMetrics::register);
            let (catalogue, draining) =
                (Arc::clone(&catalogue), CancellationToken::clone(&draining));
            let end = CancellationToken::clone(&end);
            spawn(&mut parts, "the keeper of state", async move {
                state.keep(catalogue, metrics, draining, end).await;
                Ok::<_, Infallible>(())
            });
        }
        let zone = zone_settings(&config, &addresses).map_err(|reason| AppError::Ended {
            part: "the DNS server",
            reason,
        })?;
        let zone = watch::Sender::new(zone);
        if let Some((dns, _)) = self.dns {
            let (catalogue, zone) = (Arc::clone(&catalogue), zone.subscribe());
            let end = CancellationToken::clone(&end);
            let metrics = metrics.register(DnsMetrics::register);
            spawn(
                &mut parts,
                "the DNS server",
                dns.run(catalogue, zone, metrics, end),
            );
        }
        spawn(&mut parts, "the follower of the configuration", {
            let follower = Follower {
                in_force: self.config_file.subscribe(),
                balance_load: balance_load.clone(),
                registrar: registrar.clone(),
                addresses,
                zone,
            };
            follower.run(CancellationToken::clone(&end))
        });
        spawn(&mut parts, "the configuration watcher", {
            let catalogue = Arc::clone(&catalogue);
            let metrics = metrics.register(ConfigMetrics::register);
            let (hangup, end) = (hangups(self.hangup), CancellationToken::clone(&end));
            self.config_file.run(catalogue, hangup, end, metrics)
        });
        spawn(&mut parts, "the admin port", {
            let state = AdminState {
                catalogue: Arc::clone(&catalogue),
                metrics: metrics.clone(),
                draining: CancellationToken::clone(&draining),
            };
            let metrics = metrics.register(AdminMetrics::register);
            let admin = self.admin.run(state, limits.admin, metrics, end.clone());
            async move {
                admin.await;
                Ok::<_, Infallible>(())
            }
        });
        let (routes, health) =
            grpc_services::routes(&registrar).map_err(|error| AppError::Ended {
                part: "reflection",
                reason: error.to_string(),
            })?;
        spawn(&mut parts, "the health reporter", {
            let reported = grpc_services::report_health(
                Arc::clone(&catalogue),
                health,
                draining.clone(),
                end.clone(),
            );
            async move {
                reported.await;
                Ok::<_, Infallible>(())
            }
        });
        spawn(&mut parts, PORT, {
            let service = Dispatch::new(balance_load.clone(), routes);
            let options = Options {
                tls: self.tls,
                limits: limits.net,
                shutdown: Shutdown {
                    token: CancellationToken::clone(&goaway),
                    goaway_over: config.balancer.shutdown / 2,
                    deadline: config.balancer.shutdown + CLOSE_AFTER,
                },
                metrics: metrics.register(NetMetrics::register),
            };
            net::serve(self.listener, service, options)
        });
        info!(
            balancer = %addresses.balancer,
            admin = %addresses.admin,
            dns = addresses.dns.map(tracing::field::display),
            tls = config.balancer.tls.is_some(),
            services = config.services.len(),
            "listening"
        );

        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = parts.join_next() => return Err(ended_early(ended)),
        }
        draining.cancel();
        goaway.cancel();
        balance_load.end_streams(config.balancer.shutdown).await;
        // It ends with its last connection, at its deadline at the latest.
        let failed = port_ended(&mut parts).await;
        end.cancel();
        let mut failed = failed.err();
        while let Some(ended) = parts.join_next().await {
            failed = failed.or_else(|| part_ended(ended).err());
        }
        info!("ended");
        failed.map_or(Ok(()), Err)
    }
}

/// Applies what a changed file says beside the services.
struct Follower {
    in_force: watch::Receiver<Arc<Config>>,
    balance_load: BalanceLoad,
    registrar: Registrar,
    addresses: Addresses,
    zone: watch::Sender<Arc<ZoneSettings>>,
}

impl Follower {
    async fn run(mut self, end: CancellationToken) -> Result<(), Infallible> {
        // The channel closes only at the end.
        while let Some(Ok(())) = end.run_until_cancelled(self.in_force.changed()).await {
            let config = Arc::clone(&self.in_force.borrow_and_update());
            let interval = config.balancer.report_interval;
            self.balance_load.set_report_interval(interval);
            self.balance_load.follow_services();
            self.registrar.configure(&config);
            match zone_settings(&config, &self.addresses) {
                Ok(settings) => {
                    self.zone.send_if_modified(|known| {
                        let changed = *known != settings;
                        *known = settings;
                        changed
                    });
                }
                Err(reason) => warn!(reason, "DNS goes on to answer as before"),
            }
        }
        end.cancelled().await;
        Ok(())
    }
}

/// What DNS answers beside the services; of no effect without `[dns]`.
fn zone_settings(config: &Config, addresses: &Addresses) -> Result<Arc<ZoneSettings>, String> {
    let advertise = addresses.advertised(&config.balancer.advertise);
    let dns = config.dns.clone().unwrap_or_default();
    match ZoneSettings::new(&dns, &advertise) {
        Ok(settings) => Ok(Arc::new(settings)),
        Err(error) => Err(error.to_string()),
    }
}

fn spawn<E: std::fmt::Display>(
    parts: &mut Parts,
    name: &'static str,
    part: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    parts.spawn(async move { (name, part.await.map_err(|error| error.to_string())) });
}

/// SIGHUPs as a stream; none if they are not followed.
fn hangups(hangup: Option<Signal>) -> impl Stream<Item = ()> + Send {
    match hangup {
        Some(signal) => stream::unfold(signal, async |mut signal| {
            signal.recv().await?;
            Some(((), signal))
        })
        .boxed(),
        None => stream::pending().boxed(),
    }
}
