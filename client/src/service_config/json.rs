//! Reads gRPC's JSON form of a service config.

use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::method_json::{methods, throttling};
use super::{
    ChildPolicy, GrpclbPolicyConfig, PickFirstConfig, PolicyConfig, ServiceConfig,
    ServiceConfigError,
};

/// The policies that are known here, for the error text.
const KNOWN: &str = "pick_first, round_robin and grpclb";
/// The longest duration that protobuf knows, in seconds: about 10 000 years.
const MAX_SECONDS: u64 = 315_576_000_000;
/// How much of a wrong value is shown.
const SHOWN: usize = 40;
/// How many of the settings are told that are not known here.
const MAX_IGNORED: usize = 8;

/// The settings that are not known here.
#[derive(Default)]
pub(super) struct Ignored(Vec<String>);

impl Ignored {
    /// Takes note of what `object` has beside what is `known`.
    pub(super) fn note(&mut self, object: &Map<String, Value>, at: &str, known: &[&str]) {
        let unknown = object
            .iter()
            .filter(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
        for (key, _) in unknown {
            self.add(below(at, key));
        }
    }

    fn add(&mut self, setting: String) {
        if self.0.len() < MAX_IGNORED {
            self.0.push(setting);
        }
    }
}

impl FromStr for ServiceConfig {
    type Err = ServiceConfigError;

    /// Parses the JSON form, as the module describes it. An empty text says nothing.
    fn from_str(text: &str) -> Result<Self, ServiceConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str(text)
            .map_err(|fault| error("", format!("this is no JSON: {fault}")))?;
        from_value(&value, "")
    }
}

/// The service config that `value` is; errors are told to be below `at`.
pub(super) fn from_value(value: &Value, at: &str) -> Result<ServiceConfig, ServiceConfigError> {
    let config = object(value, at)?;
    let mut ignored = Ignored::default();
    let known = [
        "loadBalancingConfig",
        "loadBalancingPolicy",
        "methodConfig",
        "retryThrottling",
    ];
    ignored.note(config, at, &known);
    // Protobuf does not tell an empty text from a missing one.
    let name = field(config, "loadBalancingPolicy").filter(|name| *name != "");
    let policy = match (field(config, "loadBalancingConfig"), name) {
        (Some(list), _) => {
            let at = below(at, "loadBalancingConfig");
            Some(first_policy(list, &at, &mut ignored)?)
        }
        (None, Some(name)) => Some(legacy_policy(name, &below(at, "loadBalancingPolicy"))?),
        (None, None) => None,
    };
    let methods = match field(config, "methodConfig") {
        Some(list) => methods(list, &below(at, "methodConfig"), &mut ignored)?,
        None => vec![],
    };
    let retry_throttling = match field(config, "retryThrottling") {
        Some(value) => Some(throttling(
            value,
            &below(at, "retryThrottling"),
            &mut ignored,
        )?),
        None => None,
    };
    Ok(ServiceConfig {
        policy,
        methods,
        retry_throttling,
        ignored: ignored.0,
    })
}

fn first_policy(
    list: &Value,
    at: &str,
    ignored: &mut Ignored,
) -> Result<PolicyConfig, ServiceConfigError> {
    let entries = policies(list, at)?;
    for (name, settings, at) in &entries {
        match *name {
            "pick_first" => {
                ignored.note(settings, at, &["shuffleAddressList"]);
                return pick_first(settings, at).map(PolicyConfig::PickFirst);
            }
            "round_robin" => {
                ignored.note(settings, at, &[]);
                return Ok(PolicyConfig::RoundRobin);
            }
            "grpclb" => {
                let known = ["childPolicy", "serviceName", "initialFallbackTimeout"];
                ignored.note(settings, at, &known);
                return grpclb(settings, at).map(PolicyConfig::Grpclb);
            }
            _ => ignored.add(at.clone()),
        }
    }
    let names: Vec<_> = entries.iter().map(|(name, ..)| *name).collect();
    let found = match names[..] {
        [] => "the list is empty".to_owned(),
        _ => format!("none of {} is known here", shown(&names.join(", "))),
    };
    Err(error(at, format!("{found}; known are {KNOWN}")))
}

/// The form of before `loadBalancingConfig`: only a name, in any case.
fn legacy_policy(name: &Value, at: &str) -> Result<PolicyConfig, ServiceConfigError> {
    let name = string(name, at)?;
    match name.to_ascii_lowercase().as_str() {
        "pick_first" => Ok(PolicyConfig::PickFirst(PickFirstConfig::default())),
        "round_robin" => Ok(PolicyConfig::RoundRobin),
        "grpclb" => Ok(PolicyConfig::Grpclb(GrpclbPolicyConfig::default())),
        _ => {
            let name = shown(name);
            let reason = format!("{name} is not known here; known are {KNOWN}");
            Err(error(at, reason))
        }
    }
}

fn pick_first(
    settings: &Map<String, Value>,
    at: &str,
) -> Result<PickFirstConfig, ServiceConfigError> {
    let shuffle_address_list = match field(settings, "shuffleAddressList") {
        None => false,
        Some(Value::Bool(shuffle)) => *shuffle,
        Some(other) => {
            let at = below(at, "shuffleAddressList");
            return Err(wrong(&at, other, "true or false"));
        }
    };
    Ok(PickFirstConfig {
        shuffle_address_list,
    })
}

fn grpclb(
    settings: &Map<String, Value>,
    at: &str,
) -> Result<GrpclbPolicyConfig, ServiceConfigError> {
    let mut child = ChildPolicy::default();
    if let Some(list) = field(settings, "childPolicy") {
        let entries = policies(list, &below(at, "childPolicy"))?;
        let known = entries.iter().find_map(|(name, ..)| match *name {
            "round_robin" => Some(ChildPolicy::RoundRobin),
            "pick_first" => Some(ChildPolicy::PickFirst),
            _ => None,
        });
        child = known.unwrap_or_default();
    }
    let service_name = match field(settings, "serviceName") {
        Some(name) => Some(string(name, &below(at, "serviceName"))?),
        None => None,
    };
    let initial_fallback_timeout = match field(settings, "initialFallbackTimeout") {
        Some(text) => Some(duration(text, &below(at, "initialFallbackTimeout"))?),
        None => None,
    };
    Ok(GrpclbPolicyConfig {
        child,
        // Protobuf does not tell an empty text from a missing one.
        service_name: service_name
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        initial_fallback_timeout,
    })
}

/// A policy's name, its settings, and where they stand.
type Entry<'a> = (&'a str, &'a Map<String, Value>, String);

/// The entries of a list of policies.
fn policies<'a>(list: &'a Value, at: &str) -> Result<Vec<Entry<'a>>, ServiceConfigError> {
    let Value::Array(entries) = list else {
        return Err(wrong(at, list, "a list, like [{\"round_robin\":{}}]"));
    };
    let entry = |(i, entry): (usize, &'a Value)| {
        let at = format!("{at}[{i}]");
        let Value::Object(entry) = entry else {
            return Err(wrong(&at, entry, "one policy, like {\"round_robin\":{}}"));
        };
        let mut keys = entry.iter();
        match (keys.next(), keys.next()) {
            (Some((name, settings)), None) => {
                let at = below(&at, name);
                Ok((name.as_str(), object(settings, &at)?, at))
            }
            _ => {
                let count = entry.len();
                let reason = format!(
                    "an entry names one policy, like {{\"round_robin\":{{}}}}; this one has \
                     {count} keys"
                );
                Err(error(&at, reason))
            }
        }
    };
    entries.iter().enumerate().map(entry).collect()
}

/// Protobuf's JSON form of a duration, above zero: seconds, up to nine decimals,
/// and `s`.
pub(super) fn duration(value: &Value, at: &str) -> Result<Duration, ServiceConfigError> {
    let wanted = "a duration above 0, like \"3s\" or \"0.5s\"";
    let parsed = value.as_str().and_then(|text| {
        let (seconds, decimals) = {
            let digits = text.strip_suffix('s')?;
            digits.split_once('.').unwrap_or((digits, "0"))
        };
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
        if !number(seconds) || !number(decimals) || decimals.len() > 9 {
            return None;
        }
        let seconds = seconds.parse().ok().filter(|s| *s <= MAX_SECONDS)?;
        let nanos = format!("{decimals:0<9}").parse().ok()?;
        let duration = Duration::new(seconds, nanos);
        (!duration.is_zero()).then_some(duration)
    });
    parsed.ok_or_else(|| wrong(at, value, wanted))
}

/// The value of `key`, unless it is missing or null.
pub(super) fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

pub(super) fn object<'a>(
    value: &'a Value,
    at: &str,
) -> Result<&'a Map<String, Value>, ServiceConfigError> {
    value
        .as_object()
        .ok_or_else(|| wrong(at, value, "an object, {…}"))
}

pub(super) fn string<'a>(value: &'a Value, at: &str) -> Result<&'a str, ServiceConfigError> {
    value
        .as_str()
        .ok_or_else(|| wrong(at, value, "a text, \"…\""))
}

pub(super) fn below(at: &str, key: &str) -> String {
    let key = shown(key);
    match at {
        "" => key,
        _ => format!("{at}.{key}"),
    }
}

/// `value` is not the `wanted`.
pub(super) fn wrong(at: &str, value: &Value, wanted: &str) -> ServiceConfigError {
    let value = shown(&value.to_string());
    error(at, format!("{value} is not {wanted}"))
}

pub(super) fn error(at: &str, reason: String) -> ServiceConfigError {
    ServiceConfigError {
        at: at.to_owned(),
        reason,
    }
}

/// The beginning of `text`: it may come from anywhere and be of any length.
pub(super) fn shown(text: &str) -> String {
    let mut rest = text.chars();
    let start: String = rest.by_ref().take(SHOWN).collect();
    match rest.next() {
        Some(_) => format!("{start}…"),
        None => start,
    }
}
