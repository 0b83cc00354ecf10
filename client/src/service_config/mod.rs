//! gRPC's service config: which policy a channel uses, and how, and what holds for
//! the RPCs of single methods.
//!
//! It comes from the resolver (DNS can carry one in a TXT record, gRFC A2), or
//! from [`Builder::service_config`](crate::Builder::service_config) for where the
//! resolver has none.
//!
//! ```
//! use lookaside_client::service_config::{PolicyConfig, ServiceConfig};
//!
//! let config: ServiceConfig = r#"{
//!     "loadBalancingConfig": [
//!         { "some_policy_of_tomorrow": {} },
//!         { "grpclb": { "childPolicy": [{ "round_robin": {} }] } },
//!         { "round_robin": {} }
//!     ]
//! }"#.parse()?;
//! assert!(matches!(config.policy, Some(PolicyConfig::Grpclb(_))));
//! # Ok::<(), lookaside_client::service_config::ServiceConfigError>(())
//! ```
//!
//! | key | what it may be |
//! |---|---|
//! | `loadBalancingConfig` | list of policies, `{"name": {settings}}` each; the first that is known here counts |
//! | `loadBalancingPolicy` | one name, in any case; only where the key above is missing; `""` is as good as missing |
//! | `methodConfig` | list of [`MethodConfig`]: `name` (list of `service` and `method`), `timeout`, `waitForReady`, `retryPolicy` |
//! | `retryThrottling` | `maxTokens`, `tokenRatio` |
//! | anything else | accepted, ignored, and logged once by the channel: `healthCheckConfig`, … |
//!
//! | policy | its settings |
//! |---|---|
//! | `pick_first` | `shuffleAddressList`: true or false |
//! | `round_robin` | |
//! | `grpclb` | `childPolicy`: list like the one above; the first of `round_robin` and `pick_first` counts, and `round_robin` if none is there. `serviceName`: text. `initialFallbackTimeout`: `"3s"`, above 0 |
//!
//! Settings that a policy does not have are ignored, and logged once; `null` is as good
//! as a missing key, as everywhere in protobuf's JSON, and an empty text as no service
//! config. Everything else that is not as
//! it should be is an error that says where; so is a list without a policy that
//! is known here, as in all of gRPC's clients.

mod json;
mod method;
mod method_json;
mod txt;

use std::time::Duration;

pub use self::method::{MethodConfig, MethodName, RetryPolicy, RetryThrottling};

/// A parsed service config.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The first policy of `loadBalancingConfig` that is known here; `None` leaves
    /// the choice to the channel.
    pub policy: Option<PolicyConfig>,
    /// What holds for single methods: see [`ServiceConfig::method`].
    pub methods: Vec<MethodConfig>,
    /// When to stop trying again.
    pub retry_throttling: Option<RetryThrottling>,
    /// What it says that is not known here, like `healthCheckConfig`; some of it, if
    /// it is much.
    pub ignored: Vec<String>,
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

/// What is wrong with a service config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service config: {at}{sep}{reason}", sep = if .at.is_empty() { "" } else { ": " })]
pub struct ServiceConfigError {
    /// Where, like `loadBalancingConfig[0].grpclb`; empty if all of it is meant.
    pub at: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

#[cfg(test)]
mod tests;
