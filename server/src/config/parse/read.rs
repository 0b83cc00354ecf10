//! Typed reading of TOML values that remembers where each stood.
//!
//! serde stops at the first fault of a table and forgets the key's path; here
//! every value is asked for by type, and what is wrong goes into [`Faults`]
//! while the rest is read on.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::error::{Faults, Place};
use crate::config::nearest::{list, nearest};
use lookaside_core::model::{BadServiceName, ServiceName};

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) place: Place,
    value: &'a DeValue<'a>,
}

/// A table of which keys are taken one by one.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) place: Place,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Node<'a> {
    /// The text, or a fault that shows `example`.
    pub(crate) fn text(&self, faults: &mut Faults, example: &str) -> Option<&'a str> {
        if let DeValue::String(text) = self.value {
            return Some(text);
        }
        self.wants(faults, "a string", example)
    }

    /// What the text says, by the type's own reading of it.
    pub(crate) fn parsed<T>(&self, faults: &mut Faults, example: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(faults, example)?;
        let parsed = text.parse();
        parsed
            .map_err(|error| faults.wrong(&self.place, error))
            .ok()
    }

    pub(crate) fn boolean(&self, faults: &mut Faults, example: &str) -> Option<bool> {
        if let DeValue::Boolean(value) = self.value {
            return Some(*value);
        }
        self.wants(faults, "true or false, without quotes,", example)
    }

    /// Whether it is true or false, if it is one of them.
    pub(crate) fn switch(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// A number, whole or not. NaN, infinities and what overflows come through
    /// as such, to be refused by who knows the range.
    pub(crate) fn number(&self, faults: &mut Faults, example: &str) -> Option<f64> {
        match self.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Integer(integer) => {
                let parsed = u32::from_str_radix(integer.as_str(), integer.radix());
                Some(parsed.map_or(f64::INFINITY, f64::from))
            }
            _ => None,
        }
        .or_else(|| self.wants(faults, "a number", example))
    }

    /// A port, 1 to 65535.
    pub(crate) fn port(&self, faults: &mut Faults, example: &str) -> Option<u16> {
        let DeValue::Integer(integer) = self.value else {
            return self.wants(faults, "a port number", example);
        };
        let port = u16::from_str_radix(integer.as_str(), integer.radix());
        match port {
            Ok(port) if port > 0 => Some(port),
            _ => {
                let found = integer.as_str();
                let message = format!("{found} is no port; write a number from 1 to 65535");
                faults.wrong(&self.place, message);
                None
            }
        }
    }

    /// What a backend is called in `:authority`.
    pub(crate) fn authority(&self, faults: &mut Faults) -> Option<String> {
        let authority = self.text(faults, "\"greeter.example.com\"")?;
        let message = match ServiceName::parse(authority) {
            // Only names of services are that short.
            Ok(_) | Err(BadServiceName::TooLong { .. })
                if authority.parse::<http::uri::Authority>().is_ok() =>
            {
                return Some(authority.to_owned());
            }
            Err(
                error @ (BadServiceName::Target { .. }
                | BadServiceName::Path(_)
                | BadServiceName::EmptyLabel(_)
                | BadServiceName::LongLabel { .. }
                | BadServiceName::Port { .. }),
            ) => error.to_string(),
            _ => format!(
                "`{authority}` is not an authority; write a host name, with a port or without"
            ),
        };
        faults.wrong(&self.place, message);
        None
    }

    /// A whole number from `least` to `most`, both included.
    pub(crate) fn whole(
        &self,
        faults: &mut Faults,
        example: &str,
        (least, most): (u32, u32),
    ) -> Option<u32> {
        let DeValue::Integer(integer) = self.value else {
            return self.wants(faults, "a whole number", example);
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix());
        match number {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let found = integer.as_str();
                let message =
                    format!("{found} is out of range; write a number from {least} to {most}");
                faults.wrong(&self.place, message);
                None
            }
        }
    }

    /// A duration from `least` to `most`, both included, in whole `unit`s.
    pub(crate) fn duration(
        &self,
        faults: &mut Faults,
        example: &str,
        (least, most): (Duration, Duration),
        unit: Duration,
    ) -> Option<Duration> {
        let DeValue::String(text) = self.value else {
            return self.wants(faults, "a duration with its unit, as a string,", example);
        };
        let Ok(duration) = humantime::parse_duration(text) else {
            let message =
                format!("`{text}` is no duration; write a number and its unit, as {example}");
            faults.wrong(&self.place, message);
            return None;
        };
        let show = humantime::format_duration;
        if duration < least || duration > most {
            let (least, most) = (show(least), show(most));
            let message =
                format!("`{text}` is out of range; write {least} to {most}, as {example}");
            faults.wrong(&self.place, message);
            return None;
        }
        if !duration.as_nanos().is_multiple_of(unit.as_nanos()) {
            let unit = if unit.as_secs() > 0 {
                "seconds"
            } else {
                "milliseconds"
            };
            let message =
                format!("`{text}` is finer than can be said; write whole {unit}, as {example}");
            faults.wrong(&self.place, message);
            return None;
        }
        Some(duration)
    }

    /// The items, each with its index in its path.
    pub(crate) fn array(&self, faults: &mut Faults, example: &str) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.value else {
            return self.wants(faults, "an array", example);
        };
        let items = array.iter().enumerate().map(|(index, item)| Node {
            place: Place {
                key: format!("{}[{index}]", self.place.key),
                span: item.span(),
            },
            value: item.get_ref(),
        });
        Some(items.collect())
    }

    /// The items if it is an array, else itself as the only one.
    pub(crate) fn one_or_more(&self, faults: &mut Faults) -> Vec<Self> {
        match self.value {
            DeValue::Array(_) => self.array(faults, "").unwrap_or_default(),
            _ => vec![self.clone()],
        }
    }

    pub(crate) fn table(&self, faults: &mut Faults, example: &str) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value else {
            return self.wants(faults, "a table", example);
        };
        Some(Table::new(self.place.clone(), entries))
    }

    fn wants<T>(&self, faults: &mut Faults, wanted: &str, example: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("this is {found}, but {wanted} belongs here, as {example}");
        faults.wrong(&self.place, message);
        None
    }
}

impl<'a> Table<'a> {
    pub(crate) fn new(place: Place, entries: &'a DeTable<'a>) -> Self {
        Self {
            place,
            entries,
            known: Vec::new(),
        }
    }

    /// The value of a key that may be there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.push(key);
        let (key, value) = self.entries.get_key_value(key)?;
        Some(self.node(key, value))
    }

    /// The value of a key that must be there.
    pub(crate) fn require(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
        example: &str,
    ) -> Option<Node<'a>> {
        let node = self.take(key);
        if node.is_none() {
            let message = format!("`{key}` is missing; write {key} = {example}");
            faults.clash(&self.place, message);
        }
        node
    }

    /// Every entry, in the order of the file, for a table whose keys are the
    /// operator's.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Node<'a>)> {
        let entries = self.entries.iter();
        let mut entries: Vec<_> = entries
            .map(|(key, value)| (key.get_ref().as_ref(), self.node(key, value)))
            .collect();
        entries.sort_by_key(|(_, node)| node.place.span.start);
        entries
    }

    /// Faults for the keys nobody took. Those in `later` are promised, but not
    /// yet there.
    pub(crate) fn finish(self, faults: &mut Faults, later: &[&str]) {
        for (key, value) in self.entries {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let mut place = self.node(key, value).place;
            place.span = key.span();
            if later.contains(&name) {
                let message = "not yet supported by this version; remove it";
                faults.wrong(&place, message);
                continue;
            }
            let meant = nearest(name, self.known.iter().copied());
            let meant = meant.map(|key| format!("did you mean `{key}`? "));
            let message = format!(
                "unknown key `{name}`; {}known here: {}",
                meant.unwrap_or_default(),
                list(self.known.iter().copied())
            );
            faults.wrong(&place, message);
        }
    }

    fn node(
        &self,
        key: &Spanned<toml::de::DeString<'a>>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Node<'a> {
        Node {
            place: Place {
                key: join(&self.place.key, key.get_ref()),
                span: value.span(),
            },
            value: value.get_ref(),
        }
    }
}

/// The path of `key` in the table at `path`, quoted if TOML would want it so.
fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.chars().all(bare) {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}
