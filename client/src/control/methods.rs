//! What the service config says of RPCs, as they meet it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::service_config::{MethodConfig, RetryThrottling, ServiceConfig};

/// The method configs in force.
#[derive(Debug)]
pub(crate) struct Methods {
    config: ServiceConfig,
    throttle: Option<Arc<Throttle>>,
}

/// A channel's tokens for trying again (gRFC A6).
#[derive(Debug)]
pub(crate) struct Throttle {
    settings: RetryThrottling,
    /// In thousandths.
    tokens: AtomicU32,
}

impl Methods {
    /// Those of `config`, if it says anything of RPCs; tokens stay what they are
    /// `before` if their settings do.
    pub(super) fn new(config: Option<&ServiceConfig>, before: Option<&Self>) -> Option<Self> {
        let config = config.filter(|config| !config.methods.is_empty())?;
        let kept = before.and_then(|before| before.throttle.clone());
        let throttle = config.retry_throttling.map(|settings| match kept {
            Some(throttle) if throttle.settings == settings => throttle,
            _ => Arc::new(Throttle::new(settings)),
        });
        Some(Self {
            config: config.clone(),
            throttle,
        })
    }

    /// Whether these are those of `config`.
    pub(super) fn are_of(&self, config: Option<&ServiceConfig>) -> bool {
        config.is_some_and(|config| {
            config.methods == self.config.methods
                && config.retry_throttling == self.config.retry_throttling
        })
    }

    /// What holds for the method at `path`.
    pub(crate) fn of(&self, path: &str) -> Option<&MethodConfig> {
        self.config.method(path)
    }

    pub(crate) fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.as_ref()
    }
}

impl Throttle {
    fn new(settings: RetryThrottling) -> Self {
        Self {
            settings,
            tokens: AtomicU32::new(settings.max_tokens * 1000),
        }
    }

    /// An RPC did not fail.
    pub(crate) fn succeeded(&self) {
        // At least one: the ratio is 0.001 or more.
        let back = (self.settings.token_ratio * 1000.0).round().clamp(1.0, 1e6);
        let most = self.settings.max_tokens * 1000;
        self.change(|tokens| most.min(tokens.saturating_add(back as u32)));
    }

    /// An RPC failed in a way that might be tried again. Says whether it may be.
    pub(crate) fn failed(&self) -> bool {
        self.change(|tokens| tokens.saturating_sub(1000)) > self.settings.max_tokens * 500
    }

    fn change(&self, change: impl Fn(u32) -> u32) -> u32 {
        let order = Ordering::Relaxed;
        let changed = self
            .tokens
            .fetch_update(order, order, |tokens| Some(change(tokens)));
        // It never refuses.
        changed.map_or_else(|tokens| tokens, &change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(text: &str, before: Option<&Methods>) -> Option<Methods> {
        let config: ServiceConfig = text.parse().unwrap();
        Methods::new(Some(&config), before)
    }

    const THROTTLED: &str = r#"{"methodConfig":[{"name":[{}]}],
        "retryThrottling":{"maxTokens":10,"tokenRatio":0.5}}"#;

    #[test]
    fn with_half_of_the_tokens_nothing_is_tried_again() {
        let methods = methods(THROTTLED, None).unwrap();
        let throttle = methods.throttle().unwrap();
        let allowed: Vec<_> = (0..6).map(|_| throttle.failed()).collect();
        assert_eq!(allowed, [true, true, true, true, false, false]);
        // Two that succeed give one back.
        for _ in 0..4 {
            throttle.succeeded();
        }
        assert!(!throttle.failed());
        for _ in 0..100 {
            throttle.succeeded();
        }
        assert!(throttle.failed());
        for _ in 0..100 {
            throttle.failed();
        }
        assert!(!throttle.failed());
    }

    #[test]
    fn tokens_outlive_a_change_of_something_else() {
        let before = methods(THROTTLED, None).unwrap();
        for _ in 0..9 {
            before.throttle().unwrap().failed();
        }
        let other = THROTTLED.replace("[{}]", r#"[{"service":"a"}]"#);
        let after = methods(&other, Some(&before)).unwrap();
        assert!(!after.throttle().unwrap().failed());
        let more = THROTTLED.replace("10", "20");
        let after = methods(&more, Some(&before)).unwrap();
        assert!(after.throttle().unwrap().failed());
    }

    #[test]
    fn a_config_that_says_nothing_of_rpcs_costs_them_nothing() {
        assert!(methods("{}", None).is_none());
        assert!(methods(r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#, None).is_none());
    }
}
