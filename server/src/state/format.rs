//! The file's text. A first line says what it is and has a checksum of the rest,
//! which is JSON:
//!
//! ```text
//! lookaside-state 1 0f1e2d3c4b5a6978
//! {"saved_unix_ms":…,"services":{"greeter.example.com":{"age_ms":0,"plan":{…}}}}
//! ```
//!
//! The clock on the wall says but how long ago it was saved, and that is bounded:
//! one that was set back makes it new, not negative.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalogue::{LONGEST_MEMORY, Remembered};
use lookaside_core::model::ServiceName;
use lookaside_core::plan::SavedPlan;

/// What every such file begins with.
const MAGIC: &str = "lookaside-state ";

/// The version of what follows; raised when an older one cannot be read any
/// more.
const VERSION: &str = "1";

/// What a file said.
#[derive(Debug)]
pub struct Decoded {
    /// How long ago it was saved.
    pub age: Duration,
    /// What each service had learned.
    pub services: Vec<(ServiceName, Remembered)>,
    /// Services of which it cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Something else.
    #[error(
        "it is no state of a balancer, and is left as it is; name another file in balancer.state"
    )]
    Foreign,
    /// Written by a balancer of another version.
    #[error(
        "it has format {0}, and this balancer reads {VERSION}; it will be replaced, so keep a copy \
         if you mean to go back to the version that wrote it"
    )]
    Version(String),
    /// Cut short or changed.
    #[error("it is damaged ({0}); it will be replaced")]
    Damaged(String),
    /// Of a catalogue that was.
    #[error("it was saved {} ago, and says nothing of now; it will be replaced", hours(*.0))]
    TooOld(Duration),
}

#[derive(Serialize, Deserialize)]
struct Body<T> {
    saved_unix_ms: u64,
    services: BTreeMap<String, T>,
}

#[derive(Serialize)]
struct Written<'a> {
    age_ms: u64,
    plan: &'a SavedPlan,
}

#[derive(Deserialize)]
struct Read {
    age_ms: u64,
    plan: SavedPlan,
}

/// Whether a file that begins so may be replaced: it is ours, or empty.
pub(super) fn is_ours(beginning: &[u8]) -> bool {
    beginning.is_empty() || beginning.starts_with(MAGIC.as_bytes())
}

/// How many bytes [`is_ours`] needs.
pub(super) const BEGINNING: u64 = MAGIC.len() as u64;

/// The text for what services have learned; `now` is the wall's time.
///
/// # Errors
/// If something learned is no plain data.
pub fn encode(
    services: &BTreeMap<ServiceName, Remembered>,
    now: SystemTime,
) -> Result<Vec<u8>, serde_json::Error> {
    let written = services.iter().map(|(name, remembered)| {
        let written = Written {
            age_ms: millis(remembered.age()),
            plan: &remembered.plan,
        };
        (name.to_string(), written)
    });
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let body = serde_json::to_vec(&Body {
        saved_unix_ms: millis(since.unwrap_or_default()),
        services: written.collect(),
    })?;
    let mut text = format!("{MAGIC}{VERSION} {:016x}\n", xxh3_64(&body)).into_bytes();
    text.extend(body);
    Ok(text)
}

/// What a file says, read at `now`. One service that cannot be read is none of
/// the others' concern.
///
/// # Errors
/// If it is not what [`encode`] makes, or too old.
pub fn decode(text: &[u8], now: SystemTime) -> Result<Decoded, Unusable> {
    if !text.starts_with(MAGIC.as_bytes()) {
        return Err(Unusable::Foreign);
    }
    let damaged = |what: &str| Unusable::Damaged(what.to_owned());
    let line = text.iter().position(|byte| *byte == b'\n');
    let line = line.ok_or_else(|| damaged("it is cut short"))?;
    let (head, body) = (&text[MAGIC.len()..line], &text[line + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| damaged("its first line is no text"))?;
    let (version, sum) = head.split_once(' ').unwrap_or((head, ""));
    if version != VERSION {
        let version = version.chars().filter(|c| c.is_ascii_graphic()).take(16);
        return Err(Unusable::Version(version.collect()));
    }
    if sum != format!("{:016x}", xxh3_64(body)) {
        return Err(damaged(
            "its checksum is wrong: it is cut short or was changed",
        ));
    }
    let body: Body<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
    let saved = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(body.saved_unix_ms));
    let age = saved.and_then(|saved| now.duration_since(saved).ok());
    let age = age.unwrap_or_default();
    if age >= LONGEST_MEMORY {
        return Err(Unusable::TooOld(age));
    }
    let mut decoded = Decoded {
        age,
        services: Vec::new(),
        unreadable: Vec::new(),
    };
    for (name, value) in body.services {
        let service = ServiceName::parse(&name).map_err(|error| error.to_string());
        let read = serde_json::from_value::<Read>(value).map_err(|error| error.to_string());
        match service.and_then(|service| Ok((service, read?))) {
            Ok((service, read)) => {
                let ago = age.saturating_add(Duration::from_millis(read.age_ms));
                let remembered = Remembered::new(read.plan, ago);
                decoded.services.push((service, remembered));
            }
            Err(error) => decoded.unreadable.push((name, error)),
        }
    }
    Ok(decoded)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hours(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    format!("{hours} hours")
}
