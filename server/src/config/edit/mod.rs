//! Edits of the text that keep its comments and its layout.
//!
//! The parser says at which bytes a value stands, and only those are replaced:
//! whatever else is in the file, it stays as it is, to the byte. The result is
//! not judged here; [`parse`](super::parse) does that.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Lines, printable};
use super::nearest::nearest;
use crate::model::{BackendAddr, ServiceName, Weight};

/// A list of what there is ends after this many.
const MAX_LISTED: usize = 20;

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is no TOML.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// No service has this name or alias.
    #[error("there is no service `{name}`; {known}")]
    UnknownService {
        /// What was asked for.
        name: ServiceName,
        /// What may have been meant, and what there is.
        known: String,
    },
    /// The service has no such backend.
    #[error("service `{service}` has no backend {backend}; {known}")]
    UnknownBackend {
        /// The service's name in the text.
        service: String,
        /// What was asked for.
        backend: BackendAddr,
        /// What there is.
        known: String,
    },
    /// The backend is drained by its weight, and which it had is not known.
    #[error(
        "{backend} of service `{service}` has weight 0, which drains it; give it a weight above 0 \
         instead, as `lookaside weight {service} {backend} 1`"
    )]
    DrainedByWeight {
        /// The service's name in the text.
        service: String,
        /// The backend.
        backend: BackendAddr,
    },
}

/// The text with another weight for one backend of one service, which may be
/// named by an alias. A weight that is the same already stays as it is written.
///
/// # Errors
/// If the text is no TOML or has no such service or backend.
pub fn set_weight(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    weight: Weight,
) -> Result<String, EditError> {
    let document = read(text)?;
    let found = find(&document, text, service, backend)?;
    let Some(old) = found.value("weight") else {
        return Ok(found.insert("weight", &weight.to_string()));
    };
    if number(old.get_ref()) == Some(weight.value()) {
        return Ok(text.to_owned());
    }
    Ok(splice(text, old.span(), &weight.to_string()))
}

/// The text with one backend of one service drained, or no longer.
///
/// Undraining removes `drain`, so that it undoes draining to the byte; if a
/// comment would go with it, it writes `drain = false`.
///
/// # Errors
/// If the text is no TOML or has no such service or backend, or if the backend
/// to undrain has weight 0, which drains it too.
pub fn set_drain(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    drain: bool,
) -> Result<String, EditError> {
    let document = read(text)?;
    let found = find(&document, text, service, backend)?;
    let weightless = found.value("weight").and_then(|w| number(w.get_ref())) == Some(0.0);
    if !drain && weightless {
        return Err(EditError::DrainedByWeight {
            service: found.service,
            backend,
        });
    }
    let old = found.value("drain");
    let drained = old.is_some_and(|old| matches!(old.get_ref(), DeValue::Boolean(true)));
    Ok(match (old, drain) {
        _ if drained == drain => text.to_owned(),
        (None, _) => found.insert("drain", "true"),
        (Some(old), true) => splice(text, old.span(), "true"),
        (Some(old), false) => match found.alone("drain") {
            Some(range) => splice(text, range, ""),
            None => splice(text, old.span(), "false"),
        },
    })
}

/// One backend's table in the text.
struct Found<'a> {
    text: &'a str,
    service: String,
    entries: &'a DeTable<'a>,
    inline: bool,
    /// Where the value of `address` ends.
    address_end: usize,
}

impl<'a> Found<'a> {
    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    /// The text with a new key behind the address.
    fn insert(&self, key: &str, value: &str) -> String {
        let end = self.address_end;
        if self.inline {
            return splice(self.text, end..end, &format!(", {key} = {value}"));
        }
        let start = self.text[..end]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = &self.text[start..];
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        let line_end = end + self.text[end..].find('\n').unwrap_or(self.text.len() - end);
        let carriage = self.text[..line_end].ends_with('\r');
        let newline = if carriage { "\r\n" } else { "\n" };
        // In front of the line's own end, whichever it is, or of the file's.
        let at = line_end - usize::from(carriage);
        splice(
            self.text,
            at..at,
            &format!("{newline}{indent}{key} = {value}"),
        )
    }

    /// What to cut so that the key is gone and nothing else with it; `None` if
    /// a comment or a line break stands in between.
    fn alone(&self, key: &str) -> Option<Range<usize>> {
        let (key, value) = self.entries.get_key_value(key)?;
        if !self.inline {
            let start = self.text[..key.span().start].rfind('\n')?;
            let start = start - usize::from(self.text[..start].ends_with('\r'));
            let end = value.span().end;
            let line_end = end + self.text[end..].find('\n').unwrap_or(self.text.len() - end);
            let line_end = line_end - usize::from(self.text[..line_end].ends_with('\r'));
            let blank = self.text[end..line_end].trim().is_empty();
            return blank.then_some(start..line_end);
        }
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| (key.span().start, value.span().end))
            .collect();
        entries.sort_unstable();
        let index = entries
            .iter()
            .position(|(start, _)| *start == key.span().start)?;
        let range = match index.checked_sub(1) {
            Some(before) => entries[before].1..value.span().end,
            None => key.span().start..entries.get(1)?.0,
        };
        let cut = &self.text[range.clone()];
        (!cut.contains(['\n', '#'])).then_some(range)
    }
}

fn read(text: &str) -> Result<Spanned<DeTable<'_>>, EditError> {
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = Lines::new(text).locate(at);
        EditError::Syntax {
            line,
            column,
            message: printable(error.message()),
        }
    })
}

fn find<'a>(
    document: &'a Spanned<DeTable<'a>>,
    text: &'a str,
    service: &ServiceName,
    backend: BackendAddr,
) -> Result<Found<'a>, EditError> {
    let services = tables(document.get_ref().get("service"));
    let named = |(_, table): &&InText<'_>| names(table).any(|name| name == *service);
    let Some((_, table)) = services.iter().find(named) else {
        let known = services.iter().flat_map(|(_, table)| names(table));
        let known: Vec<String> = known.map(|name| name.to_string()).collect();
        return Err(EditError::UnknownService {
            name: service.clone(),
            known: known_services(service, &known),
        });
    };

    let service = text_of(table.get("name")).unwrap_or(service.as_str());
    let mut known = Vec::new();
    for (start, entries) in tables(table.get("backends")) {
        let Some(address) = entries.get("address") else {
            continue;
        };
        let Some(Ok(parsed)) = text_of(Some(address)).map(str::parse::<BackendAddr>) else {
            continue;
        };
        if parsed == backend {
            return Ok(Found {
                text,
                service: service.to_owned(),
                entries,
                // A table of its own begins at its header.
                inline: text[start..].starts_with('{'),
                address_end: address.span().end,
            });
        }
        known.push(parsed);
    }
    Err(EditError::UnknownBackend {
        service: service.to_owned(),
        backend,
        known: known_backends(backend, &known),
    })
}

/// A table, and at which byte it begins.
type InText<'a> = (usize, &'a DeTable<'a>);

/// The tables of an array of them, of either form.
fn tables<'a>(array: Option<&'a Spanned<DeValue<'a>>>) -> Vec<InText<'a>> {
    let array = array.and_then(|array| array.get_ref().as_array());
    let items = array.into_iter().flat_map(|array| array.iter());
    let tables = items.filter_map(|item| Some((item.span().start, item.get_ref().as_table()?)));
    tables.collect()
}

/// The names of a service, its own first.
fn names<'a>(table: &'a DeTable<'a>) -> impl Iterator<Item = ServiceName> {
    let name = text_of(table.get("name"));
    let aliases = table.get("aliases");
    let aliases = aliases.and_then(|aliases| aliases.get_ref().as_array());
    let aliases = aliases.into_iter().flat_map(|aliases| aliases.iter());
    let aliases = aliases.filter_map(|alias| alias.get_ref().as_str());
    let names = name.into_iter().chain(aliases);
    names.filter_map(|text| ServiceName::parse(text).ok())
}

fn text_of<'a>(value: Option<&'a Spanned<DeValue<'a>>>) -> Option<&'a str> {
    value?.get_ref().as_str()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn known_services(name: &ServiceName, known: &[String]) -> String {
    let meant = nearest(name.as_str(), known.iter().map(String::as_str));
    let meant = meant.map(|meant| format!("did you mean `{meant}`? "));
    let meant = meant.unwrap_or_default();
    match known {
        [] => "the file has none".to_owned(),
        _ => format!("{meant}there are {}", listed(known)),
    }
}

fn known_backends(addr: BackendAddr, known: &[BackendAddr]) -> String {
    let same_ip = known.iter().find(|other| other.ip() == addr.ip());
    let meant = same_ip.map(|meant| format!("did you mean {meant}? "));
    let meant = meant.unwrap_or_default();
    let known: Vec<String> = known.iter().map(BackendAddr::to_string).collect();
    match known.as_slice() {
        [] => "it has none".to_owned(),
        known => format!("{meant}it has {}", listed(known)),
    }
}

fn listed(items: &[String]) -> String {
    let more = items.len().saturating_sub(MAX_LISTED);
    let shown = &items[..items.len() - more];
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..range.start], &text[range.end..])
}

#[cfg(test)]
mod tests;
