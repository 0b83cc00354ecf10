//! gRPC's service config, as far as it is about load balancing: which policy a
//! channel uses, and how.
//!
//! It comes from the resolver (DNS can carry one in a TXT record, gRFC A2), or
//! from [`Builder::service_config`](crate::Builder::service_config) for where the
//! resolver has none.

use std::time::Duration;

/// A parsed service config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The first policy of `loadBalancingConfig` that is known here; `None` leaves
    /// the choice to the channel.
    pub policy: Option<PolicyConfig>,
}

/// A policy by its name in gRPC, and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyConfig {
    /// `pick_first`
    PickFirst(PickFirstConfig),
    /// `round_robin`
    RoundRobin,
    /// `grpclb`
    Grpclb(GrpclbPolicyConfig),
}

/// Settings of `pick_first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PickFirstConfig {
    /// Whether to try the addresses in random order (gRFC A62).
    pub shuffle_address_list: bool,
}

/// Settings of `grpclb`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GrpclbPolicyConfig {
    /// How RPCs are spread over the balancer's list.
    pub child: ChildPolicy,
    /// Name of the service in the request to the balancer, if it is not the
    /// channel's authority.
    pub service_name: Option<String>,
    /// How long the first list may take before the fallback addresses are used.
    pub initial_fallback_timeout: Option<Duration>,
}

/// How RPCs are spread over a balancer's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChildPolicy {
    /// In turn, by the list's repetitions: weights count.
    #[default]
    RoundRobin,
    /// All to the first backend that answers: weights do not count.
    PickFirst,
}
