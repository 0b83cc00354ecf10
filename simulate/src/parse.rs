//! How a scenario is written in TOML: ranges of its values, and what is wrong with one.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use lookaside_core::model::OverloadDrops;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::bars::{Bar, Figure};
use crate::scenario::{Event, EventKind, Scenario};

const HOUR: Duration = Duration::from_secs(3600);

/// A day is long enough for a simulation.
const DAY: Duration = Duration::from_secs(86_400);

/// The first fault of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct BadScenario {
    /// Name of the file, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Scenario {
    /// Reads a scenario. `file` is only for messages.
    ///
    /// # Errors
    /// The first fault with its place, and what would be right.
    pub fn parse(text: &str, file: &str) -> Result<Self, BadScenario> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or(text);
            let line = before.rsplit('\n').next().unwrap_or(before);
            BadScenario {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: line.chars().count() + 1,
                message: message(error.message()),
            }
        })
    }
}

/// serde's words made plain, with the nearest of the names that it lists.
fn message(words: &str) -> String {
    let types = words.strip_prefix("invalid type: ");
    if let Some((found, expected)) = types.and_then(|types| types.split_once(", expected ")) {
        let table = expected.starts_with("struct ");
        return format!(
            "expected {}, got {found}",
            if table { "a table" } else { expected }
        );
    }
    let mut quoted = words.split('`').skip(1).step_by(2);
    let unknown = ["unknown field", "unknown variant"].iter();
    let is_unknown = unknown.into_iter().any(|start| words.starts_with(start));
    let Some(word) = quoted.next().filter(|_| is_unknown) else {
        return words.to_owned();
    };
    let far = |known: &&str| strsim::osa_distance(word, known);
    let nearest = quoted
        .min_by_key(far)
        .filter(|known| far(known) * 3 <= known.len());
    let words = words.replacen("unknown field", "unknown key", 1);
    match nearest {
        Some(nearest) => format!("{words}; did you mean `{nearest}`?"),
        None => words,
    }
}

/// A whole number or any other; `nan` and infinities are left to who knows the range.
struct Number;

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }
}

fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: RangeInclusive<f64>,
) -> Result<f64, D::Error> {
    let found = deserializer.deserialize_any(Number)?;
    if range.contains(&found) {
        return Ok(found);
    }
    let (least, most) = (range.start(), range.end());
    let message = format!("{found} is out of range; write a number from {least} to {most}");
    Err(D::Error::custom(message))
}

/// Readers of numbers in a range.
macro_rules! numbers {
    ($($name:ident $range:expr;)*) => {$(
        pub(crate) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
            number(deserializer, $range)
        }
    )*};
}

numbers! {
    sigma 0.0..=2.0;
    variation 0.0..=10.0;
    load 0.001..=10.0;
    wave 0.0..=0.9;
    share 0.0..=1.0;
    rate 0.1..=100_000.0;
}

fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: RangeInclusive<u64>,
) -> Result<u64, D::Error> {
    let (least, most) = (*range.start() as f64, *range.end() as f64);
    let found = number(deserializer, least..=most)?;
    if found.fract() == 0.0 {
        return Ok(found as u64);
    }
    let message = format!("{found} is not a whole number; write one from {least} to {most}");
    Err(D::Error::custom(message))
}

/// Readers of whole numbers in a range.
macro_rules! wholes {
    ($($name:ident $range:expr;)*) => {$(
        pub(crate) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
            Ok(whole(deserializer, $range)? as usize)
        }
    )*};
}

wholes! {
    backends 2..=5000;
    clients 1..=10_000;
    subset 0..=5000;
}

/// Every number that is whole in TOML's and in ours.
pub(crate) fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    whole(deserializer, 0..=1 << 53)
}

fn duration_in<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: RangeInclusive<Duration>,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let show = humantime::format_duration;
    let message = match humantime::parse_duration(&text) {
        Ok(found) if range.contains(&found) => return Ok(found),
        Ok(_) => format!(
            "`{text}` is out of range; write {} to {}",
            show(*range.start()),
            show(*range.end())
        ),
        Err(_) => format!("`{text}` is not a duration; write a number and its unit, e.g. \"5s\""),
    };
    Err(D::Error::custom(message))
}

/// How long a scenario lasts.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_in(deserializer, Duration::from_secs(60)..=DAY)
}

/// How often something is done.
pub(crate) fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_in(deserializer, Duration::from_millis(100)..=HOUR)
}

/// How long something takes.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_in(deserializer, Duration::ZERO..=HOUR)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OverloadTable {
    utilization: f64,
    max: Option<f64>,
}

pub(crate) fn overload<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OverloadDrops>, D::Error> {
    let table = OverloadTable::deserialize(deserializer)?;
    let max = table.max.unwrap_or(OverloadDrops::MAX);
    let drops = OverloadDrops::new(table.utilization, max);
    drops.map(Some).map_err(D::Error::custom)
}

#[derive(serde::Deserialize)]
struct Limit(#[serde(deserialize_with = "limit")] f64);

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.0..=1e6)
}

pub(crate) fn bars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bar>, D::Error> {
    let limits = BTreeMap::<Figure, Limit>::deserialize(deserializer)?;
    let bars = limits.into_iter().map(|(figure, limit)| Bar {
        figure,
        limit: limit.0,
    });
    Ok(bars.collect())
}

/// Events, by time.
pub(crate) fn events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Event>, D::Error> {
    let mut events = Vec::<Event>::deserialize(deserializer)?;
    events.sort_by_key(|event| event.at);
    Ok(events)
}

/// An event as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventTable {
    #[serde(deserialize_with = "moment")]
    at: Duration,
    kind: EventKind,
    #[serde(default = "all", deserialize_with = "variation")]
    share: f64,
    by: Option<f64>,
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration_in(deserializer, Duration::ZERO..=DAY)
}

fn all() -> f64 {
    1.0
}

impl TryFrom<EventTable> for Event {
    type Error = String;

    fn try_from(table: EventTable) -> Result<Self, String> {
        let EventTable {
            at,
            kind,
            share,
            by,
        } = table;
        let (least, most, usual) = kind.by();
        let name = kind.as_str();
        let by = by
            .or(usual)
            .ok_or_else(|| format!("`by` is missing; `{name}` needs it, e.g. by = 0.4"))?;
        // A liar may say what is no number.
        let free = kind == EventKind::Liar && !by.is_finite();
        if !free && !(least..=most).contains(&by) {
            return Err(format!(
                "{by} is out of range; `by` of `{name}` is {least} to {most}"
            ));
        }
        Ok(Self {
            at,
            kind,
            share,
            by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "antagonists"
seed = 7
duration = "1800s"
backends = 100
capacity_sigma = 0.35
request_cost_cv = 1.0
load = 0.55
diurnal = 0.15
subset_skew_sigma = 0.2
clients = 200
push_delay = "3s"
report = { interval = "5s", jitter = 0.2, loss = 0.0, delay = "0s" }
policies = ["round_robin", "weighted_round_robin", "feedback"]
[[event]]
at = "900s"
kind = "slow"
share = 0.2
by = 0.4
"#;

    fn errors(text: &str) -> String {
        Scenario::parse(text, "a.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_whole_scenario_is_read() {
        let scenario = Scenario::parse(WHOLE, "a.toml").unwrap();
        let event = Event {
            at: Duration::from_secs(900),
            kind: EventKind::Slow,
            share: 0.2,
            by: 0.4,
        };
        let wanted = Scenario {
            name: "antagonists".to_owned(),
            seed: 7,
            events: vec![event],
            ..Scenario::default()
        };
        assert_eq!(scenario, wanted);
    }

    #[test]
    fn a_slip_is_told_with_its_line_and_what_would_be_right() {
        let slip = errors(&WHOLE.replace("push_delay", "push_dealy"));
        assert!(
            slip.starts_with("a.toml:12:1: unknown key `push_dealy`"),
            "{slip}"
        );
        assert!(slip.contains("did you mean `push_delay`?"), "{slip}");
        let kind = errors("[[event]]\nat = \"1s\"\nkind = \"slwo\"\n");
        assert!(
            kind.contains("a.toml:3:8:") && kind.contains("`slow`"),
            "{kind}"
        );
        let by = errors("[[event]]\nat = \"1s\"\nkind = \"slow\"\n");
        assert!(by.contains("`by` is missing"), "{by}");
        let policy = errors("policies = [\"a58\"]\n");
        assert!(
            policy.contains("unknown variant `a58`, expected one of"),
            "{policy}"
        );
        let table = errors("report = 5");
        assert!(
            table.ends_with("expected a table, got integer `5`"),
            "{table}"
        );
        for bad in [
            "backends = 1",
            "load = nan",
            "seed = 1.5",
            "duration = \"1s\"",
            "report = 5",
        ] {
            assert!(errors(bad).starts_with("a.toml:1:"), "{bad}");
        }
    }

    #[test]
    fn a_liar_may_say_what_is_no_number() {
        let text = "[[event]]\nat = \"1s\"\nkind = \"liar\"\nby = nan\n";
        let scenario = Scenario::parse(text, "a.toml").unwrap();
        assert!(scenario.events[0].by.is_nan());
    }
}
