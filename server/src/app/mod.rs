//! The whole balancer: everything bound first, then run, then ended in order.
//!
//! The end has four steps: not ready any more; no new connections, and GOAWAY
//! on the old ones; streams end one by one, spread over the configured time, so
//! that clients reach the other balancers one by one; whatever is left is
//! closed.

mod addresses;
mod error;
mod feeders;
mod fronts;
mod grpc_services;
mod limits;
mod parts;
mod serving;

pub use addresses::Addresses;
pub use error::AppError;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::feeders::Feeders;
use self::fronts::Fronts;
use self::parts::Parts;
use crate::admin::Admin;
use crate::catalogue::{Catalogue, CatalogueMetrics};
use crate::certificate::Certificates;
use crate::config::warnings;
use crate::discovery::file::{ConfigFile, apply};
use crate::dns::Dns;
use crate::net::{Listener, TlsFiles, TlsPaths};
use crate::state::{self, StateFile};
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

/// The steps of the end, each cancelled when it begins.
#[derive(Debug, Default)]
struct Tokens {
    /// Not ready any more.
    draining: CancellationToken,
    /// No new connections, and GOAWAY on the old ones.
    goaway: CancellationToken,
    /// All streams have ended.
    end: CancellationToken,
}

impl App {
    /// Reads the configuration and binds every port. Connections that come
    /// before [`Self::run`] wait in the kernel.
    ///
    /// # Errors
    /// If the configuration is invalid or a port cannot be bound.
    pub async fn bind(config: &Path, options: AppOptions) -> Result<Self, AppError> {
        let config_file = ConfigFile::load(config)?.allow_empty(options.allow_empty);
        let config = config_file.rollout().config();
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
        let config = self.config_file.rollout().config();
        let (catalogue, metrics) = (self.catalogue, self.metrics);
        let tokens = Tokens::default();
        let mut parts = Parts::default();
        let subchannels = Subchannels::new(
            metrics.register(SubchannelMetrics::register),
            self.certificates,
        );
        let fronts = Fronts {
            listener: self.listener,
            tls: self.tls,
            admin: self.admin,
            dns: self.dns.map(|(dns, _)| dns),
            rollout: self.config_file.rollout(),
            permits: subchannels.permits().clone(),
        };
        let feeders = Feeders {
            config_file: self.config_file,
            hangup: self.hangup,
            state: self.state,
            subchannels,
        };
        parts.spawn_unfailing("the log of backends", {
            let (catalogue, end) = (Arc::clone(&catalogue), tokens.end.clone());
            async move { catalogue.backend_log().run(end).await }
        });
        feeders.spawn(&mut parts, &catalogue, &metrics, &tokens);
        let balance_load = fronts.spawn(&mut parts, &catalogue, &metrics, &tokens)?;
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
            error = parts.failed() => return Err(error),
        }
        tokens.draining.cancel();
        tokens.goaway.cancel();
        balance_load.end_streams(config.balancer.shutdown).await;
        // It ends with its last connection, at its deadline at the latest.
        let port = parts.port_ended().await;
        tokens.end.cancel();
        let rest = parts.all_ended().await;
        info!("ended");
        port.and(rest)
    }
}
