//! What the balancer answers: clients, backends that register, DNS and operators.

use std::sync::Arc;

use super::limits::Limits;
use super::parts::{PORT, Parts};
use super::serving::Serving;
use super::{AppError, CLOSE_AFTER, Tokens, grpc_services};
use crate::admin::{Admin, AdminMetrics, AdminState};
use crate::balance_load::{BalanceLoad, BalanceLoadMetrics, Dispatch};
use crate::catalogue::Catalogue;
use crate::dns::{Dns, DnsMetrics, ZoneFollower};
use crate::net::{self, Listener, NetMetrics, Options, Shutdown, TlsFiles};
use crate::registration::{Registrar, RegistrationMetrics};
use crate::rollout::Rollout;
use crate::subchannel::Permits;
use crate::telemetry::MetricsRegistry;

/// What fronts are made of.
pub(super) struct Fronts {
    pub(super) listener: Listener,
    pub(super) tls: Option<Arc<TlsFiles>>,
    pub(super) admin: Admin,
    pub(super) dns: Option<Dns>,
    pub(super) rollout: Rollout,
    /// To open sockets by.
    pub(super) permits: Permits,
}

impl Fronts {
    /// Returns the method whose streams end first at the end.
    pub(super) fn spawn(
        self,
        parts: &mut Parts,
        catalogue: &Arc<Catalogue>,
        metrics: &MetricsRegistry,
        tokens: &Tokens,
    ) -> Result<BalanceLoad, AppError> {
        let config = self.rollout.config();
        let Tokens {
            draining,
            goaway,
            end,
        } = tokens;
        let limits = Limits::new(&config.limits, &config.admin, net::Limits::default());
        metrics.register(|registry| limits.register(registry));

        if let Some(dns) = self.dns {
            let part = self.rollout.part("DNS");
            let follower = ZoneFollower::new(part, self.listener.local_addr());
            let follower = follower.map_err(|error| AppError::Ended {
                part: "the DNS server",
                reason: error.to_string(),
            })?;
            let served = dns.run(
                Arc::clone(catalogue),
                follower.subscribe(),
                metrics.register(DnsMetrics::register),
                end.clone(),
            );
            parts.spawn("the DNS server", served);
            let followed = follower.run(end.clone());
            parts.spawn_unfailing("the follower of DNS settings", followed);
        }
        let registrar = Registrar::new(
            Arc::clone(catalogue),
            &config,
            self.permits,
            draining.clone(),
            metrics.register(RegistrationMetrics::register),
        );
        let part = self.rollout.part("registration");
        let registered = registrar.clone().run(part, end.clone());
        parts.spawn_unfailing("the keeper of registrations", registered);
        let serving = Serving::default();
        let routes = grpc_services::routes(&registrar, &serving);
        let routes = routes.map_err(|error| AppError::Ended {
            part: "reflection",
            reason: error.to_string(),
        })?;
        let reported = grpc_services::report_health(
            Arc::clone(catalogue),
            serving,
            draining.clone(),
            end.clone(),
        );
        parts.spawn_unfailing("the health reporter", reported);

        let balance_load = BalanceLoad::new(
            Arc::clone(catalogue),
            config.balancer.report_interval,
            limits.streams,
            metrics.register(BalanceLoadMetrics::register),
        );
        let part = self.rollout.part("BalanceLoad");
        let followed = balance_load.clone().follow(part, end.clone());
        parts.spawn_unfailing("the follower of BalanceLoad settings", followed);
        let options = Options {
            tls: self.tls,
            limits: limits.net,
            shutdown: Shutdown {
                token: goaway.clone(),
                goaway_over: config.balancer.shutdown / 2,
                deadline: config.balancer.shutdown + CLOSE_AFTER,
            },
            metrics: metrics.register(NetMetrics::register),
        };
        let service = Dispatch::new(balance_load.clone(), routes);
        parts.spawn(PORT, net::serve(self.listener, service, options));

        // Last: its first page has every metric.
        let state = AdminState {
            catalogue: Arc::clone(catalogue),
            rollout: self.rollout.clone(),
            metrics: metrics.clone(),
            draining: draining.clone(),
        };
        let admin_metrics = metrics.register(AdminMetrics::register);
        let admin = self
            .admin
            .run(state, limits.admin, admin_metrics, end.clone());
        parts.spawn_unfailing("the admin port", admin);
        Ok(balance_load)
    }
}
