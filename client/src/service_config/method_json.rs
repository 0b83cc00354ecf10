//! Reads `methodConfig` and `retryThrottling`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};
use tonic::Code;

use super::json::{Ignored, below, duration, error, field, object, string, wrong};
use super::{MethodConfig, MethodName, RetryPolicy, RetryThrottling, ServiceConfigError};

/// More attempts are as many as these (gRFC A6).
const MAX_ATTEMPTS: u32 = 5;
/// The most tokens there can be (gRFC A6).
const MAX_TOKENS: f64 = 1000.0;

pub(super) fn methods(
    list: &Value,
    at: &str,
    ignored: &mut Ignored,
) -> Result<Vec<MethodConfig>, ServiceConfigError> {
    let mut seen = BTreeSet::new();
    let mut methods = vec![];
    for (i, config) in array(list, at)?.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let config = object(config, &at)?;
        let known = ["name", "timeout", "waitForReady", "retryPolicy"];
        ignored.note(config, &at, &known);
        let mut names = vec![];
        if let Some(list) = field(config, "name") {
            let at = below(&at, "name");
            for (i, name) in array(list, &at)?.iter().enumerate() {
                let at = format!("{at}[{i}]");
                let name = method_name(object(name, &at)?, &at)?;
                if !seen.insert(name.clone()) {
                    return Err(error(&at, "this is named before".to_owned()));
                }
                names.push(name);
            }
        }
        let timeout = match field(config, "timeout") {
            Some(text) => Some(duration(text, &below(&at, "timeout"))?),
            None => None,
        };
        let wait_for_ready = match field(config, "waitForReady") {
            None => None,
            Some(Value::Bool(wait)) => Some(*wait),
            Some(other) => {
                return Err(wrong(&below(&at, "waitForReady"), other, "true or false"));
            }
        };
        let retry_policy = match field(config, "retryPolicy") {
            Some(policy) => Some(retry_policy(policy, &below(&at, "retryPolicy"), ignored)?),
            None => None,
        };
        methods.push(MethodConfig {
            names,
            timeout,
            wait_for_ready,
            retry_policy,
        });
    }
    Ok(methods)
}

fn method_name(name: &Map<String, Value>, at: &str) -> Result<MethodName, ServiceConfigError> {
    // Protobuf does not tell an empty text from a missing one.
    let text = |key| match field(name, key) {
        None => Ok(""),
        Some(text) => string(text, &below(at, key)),
    };
    match (text("service")?, text("method")?) {
        ("", "") => Ok(MethodName::Any),
        ("", _) => {
            let reason = "a method needs its service beside it, and that is missing";
            Err(error(at, reason.to_owned()))
        }
        (service, "") => Ok(MethodName::Service(service.to_owned())),
        (service, method) => Ok(MethodName::Method {
            service: service.to_owned(),
            method: method.to_owned(),
        }),
    }
}

fn retry_policy(
    policy: &Value,
    at: &str,
    ignored: &mut Ignored,
) -> Result<RetryPolicy, ServiceConfigError> {
    let policy = object(policy, at)?;
    let known = [
        "maxAttempts",
        "initialBackoff",
        "maxBackoff",
        "backoffMultiplier",
        "retryableStatusCodes",
    ];
    ignored.note(policy, at, &known);
    let needed = |key| {
        let at = below(at, key);
        let value = field(policy, key);
        let value = value.ok_or_else(|| {
            error(
                &at,
                "a retry policy needs this, and it is missing".to_owned(),
            )
        });
        value.map(|value| (value, at))
    };
    let (attempts, attempts_at) = needed("maxAttempts")?;
    let max_attempts = match number(attempts) {
        Some(count) if count >= 2.0 && count.fract() == 0.0 => (2..MAX_ATTEMPTS)
            .find(|n| f64::from(*n) >= count)
            .unwrap_or(MAX_ATTEMPTS),
        _ => return Err(wrong(&attempts_at, attempts, "a whole number, 2 or more")),
    };
    let backoff = |key| -> Result<Duration, ServiceConfigError> {
        let (text, at) = needed(key)?;
        duration(text, &at)
    };
    let (multiplier, multiplier_at) = needed("backoffMultiplier")?;
    let backoff_multiplier = number(multiplier).filter(|number| *number > 0.0);
    let backoff_multiplier =
        backoff_multiplier.ok_or_else(|| wrong(&multiplier_at, multiplier, "a number above 0"))?;
    let (codes, codes_at) = needed("retryableStatusCodes")?;
    let mut retryable_codes = vec![];
    for (i, value) in array(codes, &codes_at)?.iter().enumerate() {
        let at = format!("{codes_at}[{i}]");
        let wanted = "a status code, like \"UNAVAILABLE\" or 14";
        retryable_codes.push(code(value).ok_or_else(|| wrong(&at, value, wanted))?);
    }
    if retryable_codes.is_empty() {
        return Err(error(&codes_at, "the list is empty".to_owned()));
    }
    Ok(RetryPolicy {
        max_attempts,
        initial_backoff: backoff("initialBackoff")?,
        max_backoff: backoff("maxBackoff")?,
        backoff_multiplier,
        retryable_codes,
    })
}

pub(super) fn throttling(
    value: &Value,
    at: &str,
    ignored: &mut Ignored,
) -> Result<RetryThrottling, ServiceConfigError> {
    let throttling = object(value, at)?;
    ignored.note(throttling, at, &["maxTokens", "tokenRatio"]);
    let value = |key| {
        let missing = || error(&below(at, key), "it is missing".to_owned());
        field(throttling, key).ok_or_else(missing)
    };
    let (tokens, ratio) = (value("maxTokens")?, value("tokenRatio")?);
    let whole = number(tokens).filter(|n| (1.0..=MAX_TOKENS).contains(n) && n.fract() == 0.0);
    let max_tokens = whole.and_then(|n| (1..=1000).find(|whole| f64::from(*whole) >= n));
    let max_tokens = max_tokens
        .ok_or_else(|| wrong(&below(at, "maxTokens"), tokens, "a whole number, 1 to 1000"))?;
    // More decimals than three do not count.
    let token_ratio = number(ratio).map(|ratio| (ratio * 1000.0).floor() / 1000.0);
    let token_ratio = token_ratio.filter(|ratio| *ratio > 0.0);
    let token_ratio = token_ratio
        .ok_or_else(|| wrong(&below(at, "tokenRatio"), ratio, "a number, 0.001 or more"))?;
    Ok(RetryThrottling {
        max_tokens,
        token_ratio,
    })
}

/// Protobuf's JSON form of a number: it may be a text.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// A code by its name, in any case, or its number.
fn code(value: &Value) -> Option<Code> {
    let number = match value {
        Value::String(name) => {
            let name = name.to_ascii_uppercase();
            i32::try_from(CODES.iter().position(|code| *code == name)?).ok()?
        }
        other => i32::try_from(other.as_i64()?).ok()?,
    };
    let known = usize::try_from(number).is_ok_and(|number| number < CODES.len());
    known.then(|| Code::from_i32(number))
}

/// By their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn array<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, ServiceConfigError> {
    value
        .as_array()
        .ok_or_else(|| wrong(at, value, "a list, […]"))
}
