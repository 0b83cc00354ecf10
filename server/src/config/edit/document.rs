//! Where in the text a service and a backend stand.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::EditError;
use crate::config::error::{Lines, printable};
use crate::config::nearest::nearest;
use lookaside_core::model::{BackendAddr, ServiceName};

/// A list of what there is ends after this many.
const MAX_LISTED: usize = 20;

/// A text that is TOML.
pub(super) struct Document<'a> {
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

/// One service's table in the text.
pub(super) struct Service<'a> {
    pub(super) text: &'a str,
    /// Where it begins, be it with `{` or with its header.
    pub(super) start: usize,
    /// What it says, by key.
    pub(super) table: &'a DeTable<'a>,
    name: String,
}

impl<'a> Document<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, EditError> {
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, column) = Lines::new(text).locate(at);
            EditError::Syntax {
                line,
                column,
                message: printable(error.message()),
            }
        })?;
        Ok(Self { text, root })
    }

    /// The service with this name or alias.
    pub(super) fn service(&'a self, service: &ServiceName) -> Result<Service<'a>, EditError> {
        let services = tables(self.root.get_ref().get("service"));
        let named = |(_, table): &&InText<'_>| names(table).any(|name| name == *service);
        let Some((start, table)) = services.iter().find(named) else {
            let known = services.iter().flat_map(|(_, table)| names(table));
            let known: Vec<String> = known.map(|name| name.to_string()).collect();
            return Err(EditError::UnknownService {
                name: service.clone(),
                known: known_services(service, &known),
            });
        };
        let name = text_of(table.get("name")).unwrap_or(service.as_str());
        Ok(Service {
            text: self.text,
            start: *start,
            table,
            name: name.to_owned(),
        })
    }
}

impl<'a> Service<'a> {
    /// The backend with this address.
    pub(super) fn backend(&self, backend: BackendAddr) -> Result<Found<'a>, EditError> {
        let mut known = Vec::new();
        for (start, entries) in tables(self.table.get("backends")) {
            let Some(address) = entries.get("address") else {
                continue;
            };
            let Some(Ok(parsed)) = text_of(Some(address)).map(str::parse::<BackendAddr>) else {
                continue;
            };
            if parsed == backend {
                return Ok(Found {
                    text: self.text,
                    entries,
                    start,
                    // A table of its own begins at its header.
                    inline: self.text[start..].starts_with('{'),
                    address_end: address.span().end,
                });
            }
            known.push(parsed);
        }
        Err(EditError::UnknownBackend {
            service: self.name.clone(),
            backend,
            known: known_backends(backend, &known),
        })
    }

    /// Whether backends may register for it.
    pub(super) fn registers(&self) -> bool {
        self.table.contains_key("register")
    }
}

/// One backend's table in the text.
pub(super) struct Found<'a> {
    text: &'a str,
    /// What it says, by key.
    pub(super) entries: &'a DeTable<'a>,
    /// Where the table begins, be it with `{` or with its header.
    pub(super) start: usize,
    /// Whether it is a `{ … }`.
    pub(super) inline: bool,
    /// Where the value of `address` ends.
    address_end: usize,
}

impl<'a> Found<'a> {
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    /// The text with a new key behind the address.
    pub(super) fn insert(&self, key: &str, value: &str) -> String {
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
    pub(super) fn alone(&self, key: &str) -> Option<Range<usize>> {
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

/// A table, and at which byte it begins.
pub(super) type InText<'a> = (usize, &'a DeTable<'a>);

/// The tables of an array of them, of either form.
pub(super) fn tables<'a>(array: Option<&'a Spanned<DeValue<'a>>>) -> Vec<InText<'a>> {
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

pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
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

pub(super) fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..range.start], &text[range.end..])
}
