//! Service configs in DNS: gRFC A2's choices, of which a client takes the first
//! that is meant for it.

use serde_json::{Map, Value};

use super::json::{below, error, field, from_value, object, string, wrong};
use super::{ServiceConfig, ServiceConfigError};

/// How a TXT record begins that carries service configs.
const ATTRIBUTE: &[u8] = b"grpc_config=";
/// What a choice calls a client like this one, in any case.
const LANGUAGE: &str = "rust";

impl ServiceConfig {
    /// The service config that `records`, the TXT records of
    /// `_grpc_config.<host>`, have for this client. The strings of one record are
    /// to be put together before.
    ///
    /// The first record that begins with `grpc_config=` counts; behind that stands
    /// a list of choices (gRFC A2):
    ///
    /// ```json
    /// [{ "clientLanguage": ["rust"], "percentage": 10, "clientHostname": ["canary-1"],
    ///    "serviceConfig": { "loadBalancingConfig": [{ "round_robin": {} }] } }]
    /// ```
    ///
    /// The first choice counts of which every condition holds; a condition that is
    /// missing holds. `clientLanguage` holds if `rust` is in it, `clientHostname`
    /// if `hostname` is, and `percentage`, 0 to 100, for that many of 100 clients:
    /// `rng` draws one number for each choice that has it, so that the same seed
    /// and the same list lead to the same choice.
    ///
    /// `None` if no record is about service configs, or no choice is meant for
    /// this client.
    ///
    /// # Errors
    /// [`ServiceConfigError`] if a choice is malformed. Service configs of choices
    /// that are not meant for this client are not looked at.
    pub fn from_txt<R: AsRef<[u8]>>(
        records: impl IntoIterator<Item = R>,
        hostname: &str,
        rng: &mut fastrand::Rng,
    ) -> Result<Option<Self>, ServiceConfigError> {
        for record in records {
            if let Some(json) = record.as_ref().strip_prefix(ATTRIBUTE) {
                return choose(json, hostname, rng);
            }
        }
        Ok(None)
    }
}

fn choose(
    json: &[u8],
    hostname: &str,
    rng: &mut fastrand::Rng,
) -> Result<Option<ServiceConfig>, ServiceConfigError> {
    let at = "grpc_config";
    let choices: Value = serde_json::from_slice(json)
        .map_err(|fault| error(at, format!("this is no JSON: {fault}")))?;
    let Value::Array(choices) = choices else {
        let wanted = "a list of choices, like [{\"serviceConfig\":{…}}]";
        return Err(wrong(at, &choices, wanted));
    };
    let mut chosen = None;
    for (i, choice) in choices.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let choice = object(choice, &at)?;
        // All of them, matched or not: the draws must not depend on the match.
        let meant = [
            lists(choice, "clientLanguage", LANGUAGE, &at)?,
            lists(choice, "clientHostname", hostname, &at)?,
            draws(choice, &at, rng)?,
        ];
        if chosen.is_none() && meant.iter().all(|meant| *meant) {
            let at = below(&at, "serviceConfig");
            let config = field(choice, "serviceConfig")
                .ok_or_else(|| error(&at, "a choice needs one, and it is missing".to_owned()))?;
            chosen = Some(from_value(config, &at)?);
        }
    }
    Ok(chosen)
}

/// Whether the list `key` of `choice` is missing or has `own` in it.
fn lists(
    choice: &Map<String, Value>,
    key: &str,
    own: &str,
    at: &str,
) -> Result<bool, ServiceConfigError> {
    let at = below(at, key);
    let Some(list) = field(choice, key) else {
        return Ok(true);
    };
    let Value::Array(names) = list else {
        return Err(wrong(&at, list, "a list of texts, [\"…\"]"));
    };
    let mut found = false;
    for (i, name) in names.iter().enumerate() {
        found |= string(name, &format!("{at}[{i}]"))?.eq_ignore_ascii_case(own);
    }
    Ok(found)
}

/// Whether `choice` has no percentage, or this client falls under it.
fn draws(
    choice: &Map<String, Value>,
    at: &str,
    rng: &mut fastrand::Rng,
) -> Result<bool, ServiceConfigError> {
    let Some(share) = field(choice, "percentage") else {
        return Ok(true);
    };
    match share.as_u64() {
        Some(share @ 0..=100) => Ok(rng.u64(0..100) < share),
        _ => Err(wrong(
            &below(at, "percentage"),
            share,
            "a whole number, 0 to 100",
        )),
    }
}
