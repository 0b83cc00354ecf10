//! What a service config says of single methods: `methodConfig` and
//! `retryThrottling`, by the rules of gRFC A6.

use std::time::Duration;

use tonic::Code;

use super::ServiceConfig;

/// What holds for the RPCs of some methods.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct MethodConfig {
    /// Which methods; without any it is for none.
    pub names: Vec<MethodName>,
    /// The longest time an RPC may take. The application's own counts if it is
    /// shorter.
    pub timeout: Option<Duration>,
    /// Whether RPCs wait for a connection, unless the application says.
    pub wait_for_ready: Option<bool>,
    /// How RPCs that fail are tried again.
    pub retry_policy: Option<RetryPolicy>,
}

/// Which methods a [`MethodConfig`] is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MethodName {
    /// All of which nothing else is said.
    Any,
    /// Those of this service of which nothing else is said.
    Service(String),
    /// This one.
    Method {
        /// Full name of the service, like `helloworld.Greeter`.
        service: String,
        /// Name of the method, like `SayHello`.
        method: String,
    },
}

/// How RPCs that fail are tried again (gRFC A6).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often an RPC is sent, the first time included: 2 to 5.
    pub max_attempts: u32,
    /// The pause before the second attempt; each is up to a fifth longer or shorter.
    pub initial_backoff: Duration,
    /// The longest pause of all.
    pub max_backoff: Duration,
    /// By what the pause grows with each attempt; above 0.
    pub backoff_multiplier: f64,
    /// The codes after which there is another attempt.
    pub retryable_codes: Vec<Code>,
}

/// When a channel stops trying again (gRFC A6).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RetryThrottling {
    /// Tokens at the beginning and at most, 1 to 1000. An RPC that fails takes one;
    /// with half or less of them there are no more attempts.
    pub max_tokens: u32,
    /// Tokens that an RPC gives back that does not fail; above 0, in thousandths.
    pub token_ratio: f64,
}

impl ServiceConfig {
    /// What holds for the method at `path`, like `/helloworld.Greeter/SayHello`: what
    /// names it, or its service, or all.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&MethodConfig> {
        let (of_service, of_method) = path.strip_prefix('/')?.rsplit_once('/')?;
        let rank = |name: &MethodName| match name {
            MethodName::Any => Some(1),
            MethodName::Service(service) => (service == of_service).then_some(2),
            MethodName::Method { service, method } => {
                (service == of_service && method == of_method).then_some(3)
            }
        };
        let ranked = self.methods.iter().filter_map(|config| {
            let rank = config.names.iter().filter_map(rank).max()?;
            Some((rank, config))
        });
        ranked
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, config)| config)
    }
}
