//! Trying again by a service config's `retryPolicy` (gRFC A6).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tonic::Code;

use crate::backoff::jittered;
use crate::control::Throttle;
use crate::service_config::RetryPolicy;

/// Says how often an RPC was sent before.
const ATTEMPTS_KEY: &str = "grpc-previous-rpc-attempts";
/// Says when the server wants to see it again, in milliseconds; anything else than
/// a number is never.
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";
/// The share of a pause by which it may be longer or shorter.
const JITTER: f64 = 0.2;

/// One RPC's attempts.
#[derive(Debug)]
pub(super) struct Retries {
    policy: RetryPolicy,
    throttle: Option<Arc<Throttle>>,
    /// Those that were made.
    attempts: u32,
    /// The attempts since the server last said when to come.
    growth: u32,
}

impl Retries {
    pub(super) fn new(policy: RetryPolicy, throttle: Option<Arc<Throttle>>) -> Self {
        Self {
            policy,
            throttle,
            attempts: 1,
            growth: 0,
        }
    }

    /// The RPC ended with this code: whether, and after which pause, it is to be sent
    /// again. `headers` are what the server said with it.
    pub(super) fn after(&mut self, code: Code, headers: Option<&HeaderMap>) -> Option<Duration> {
        let pushback = headers.and_then(|headers| headers.get(PUSHBACK_KEY));
        let never = pushback.is_some_and(|value| milliseconds(value).is_none());
        if !self.note(code, never) || never || self.attempts >= self.policy.max_attempts {
            return None;
        }
        self.attempts += 1;
        if let Some(wanted) = pushback.and_then(milliseconds) {
            self.growth = 0;
            return Some(wanted);
        }
        let growth = self
            .policy
            .backoff_multiplier
            .powi(i32::try_from(self.growth).unwrap_or(8));
        self.growth += 1;
        let longest = self.policy.max_backoff.as_secs_f64();
        let pause = (self.policy.initial_backoff.as_secs_f64() * growth).min(longest);
        let pause = Duration::try_from_secs_f64(pause).unwrap_or(self.policy.max_backoff);
        Some(jittered(pause, JITTER, &mut fastrand::Rng::new()))
    }

    /// How the RPC ended counts for the channel. Says whether it might be sent again.
    pub(super) fn note(&self, code: Code, never: bool) -> bool {
        let retryable = self.policy.retryable_codes.contains(&code);
        match &self.throttle {
            Some(throttle) if code == Code::Ok => throttle.succeeded(),
            Some(throttle) if retryable || never => return throttle.failed() && retryable,
            _ => {}
        }
        retryable
    }

    /// Says in `headers` which attempt this is.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if self.attempts > 1 {
            headers.insert(ATTEMPTS_KEY, HeaderValue::from(self.attempts - 1));
        }
    }
}

/// The code in `headers`, if the RPC ends with them.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get("grpc-status")?;
    Some(Code::from_bytes(code.as_bytes()))
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    let digits = value.to_str().ok()?;
    let number = digits.bytes().all(|b| b.is_ascii_digit());
    let milliseconds: u32 = number.then(|| digits.parse().ok())??;
    Some(Duration::from_millis(milliseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_config::ServiceConfig;

    fn retries() -> Retries {
        let config: ServiceConfig = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{
            "maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"0.3s","backoffMultiplier":2,
            "retryableStatusCodes":["UNAVAILABLE"]}}]}"#
            .parse()
            .unwrap();
        let policy = config.method("/a/b").unwrap().retry_policy.clone();
        Retries::new(policy.unwrap(), None)
    }

    fn pushback(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            PUSHBACK_KEY.parse().unwrap(),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_attempts_end() {
        let mut retries = retries();
        for wanted in [0.1, 0.2, 0.3] {
            let pause = retries
                .after(Code::Unavailable, None)
                .unwrap()
                .as_secs_f64();
            assert!((wanted * 0.79..=wanted * 1.21).contains(&pause), "{pause}");
        }
        assert_eq!(retries.after(Code::Unavailable, None), None);
        let mut headers = HeaderMap::new();
        retries.mark(&mut headers);
        assert_eq!(headers[ATTEMPTS_KEY], "3");
    }

    #[test]
    fn other_codes_are_final() {
        for code in [Code::Ok, Code::Internal, Code::Cancelled] {
            assert_eq!(retries().after(code, None), None);
        }
    }

    #[test]
    fn the_server_says_when_or_that_never() {
        let mut retries = retries();
        retries.after(Code::Unavailable, None).unwrap();
        let later = pushback("1500");
        let pause = retries.after(Code::Unavailable, Some(&later));
        assert_eq!(pause, Some(Duration::from_millis(1500)));
        // Then pauses begin anew.
        let pause = retries.after(Code::Unavailable, None).unwrap();
        assert!(pause < Duration::from_millis(130), "{pause:?}");
        for never in ["-1", "soon", "", "99999999999"] {
            let mut retries = self::retries();
            assert_eq!(
                retries.after(Code::Unavailable, Some(&pushback(never))),
                None
            );
        }
    }
}
