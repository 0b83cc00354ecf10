//! Entries of backends that register, which are there only to drain them.
//!
//! A comment tells such an entry from that of a backend which the file lists: to
//! undrain the one removes it, and the other stays.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::document::{Found, Service, splice, tables};
use lookaside_core::model::BackendAddr;

/// The comment, behind the entry or its header.
const MARK: &str = "# registers itself; `lookaside undrain` removes this entry";

/// The text with an entry that drains this backend, which has none.
pub(super) fn add(service: &Service<'_>, backend: BackendAddr) -> String {
    let text = service.text;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let entry = format!("{{ address = \"{backend}\", drain = true }}, {MARK}");
    let Some(array) = service.table.get("backends") else {
        return add_first(service, &entry, newline);
    };
    let backends = tables(Some(array));
    if let Some((start, _)) = backends.last()
        && !text[*start..].starts_with('{')
    {
        let header_end = text[*start..].find("]]").map_or(0, |end| end + 2);
        let header = &text[*start..*start + header_end];
        let indent = indent_at(text, *start);
        let at = line_end(text, end_of(array));
        let lines = [
            "",
            "",
            &format!("{indent}{header} {MARK}"),
            &format!("{indent}address = \"{backend}\""),
            &format!("{indent}drain = true"),
        ];
        return splice(text, at..at, &lines.join(newline));
    }
    let open = array.span().start + 1;
    let line_end = line_end(text, open);
    let rest = text[open..line_end].trim();
    if rest.is_empty() || rest.starts_with('#') {
        let indent = backends.first().map(|(start, _)| indent_at(text, *start));
        let indent = indent.unwrap_or("  ");
        return splice(
            text,
            line_end..line_end,
            &format!("{newline}{indent}{entry}"),
        );
    }
    splice(text, open..open, &format!("{newline}  {entry}{newline}"))
}

/// The same where the service has no `backends`.
fn add_first(service: &Service<'_>, entry: &str, newline: &str) -> String {
    let text = service.text;
    let name = service.table.get("name");
    let name_end = name.map_or(service.start, |name| name.span().end);
    if text[service.start..].starts_with('{') {
        let key = format!(", backends = [{newline}  {entry}{newline}]");
        return splice(text, name_end..name_end, &key);
    }
    let name = name.map_or(service.start, |name| name.span().start);
    let indent = indent_at(text, name);
    let at = line_end(text, name_end);
    let lines = [
        "",
        &format!("{indent}backends = ["),
        &format!("{indent}  {entry}"),
        &format!("{indent}]"),
    ];
    splice(text, at..at, &lines.join(newline))
}

/// The text without an entry that [`add`] made; `None` if it is another, or has
/// been given more than an address and a drain.
pub(super) fn remove(service: &Service<'_>, found: &Found<'_>) -> Option<String> {
    let text = service.text;
    if found.entries.len() != 2 || found.value("drain").is_none() {
        return None;
    }
    let values = found.entries.iter();
    let last = values.map(|(_, value)| value.span().end).max()?;
    let range = if found.inline {
        let end = last + text[last..].find('}')? + 1;
        let line_end = line_end(text, end);
        let behind = text[end..line_end].trim().strip_prefix(',')?;
        if behind.trim() != MARK {
            return None;
        }
        match only(service) {
            Some(range) => range,
            None => {
                let start = line_start(text, found.start)?;
                start..behind_break(text, start, line_end)
            }
        }
    } else {
        let header_end = found.start + text[found.start..].find("]]")? + 2;
        let behind = &text[header_end..line_end(text, header_end)];
        if behind.trim() != MARK {
            return None;
        }
        let start = line_start(text, found.start)?;
        let before = &text[..start];
        let blank = before.strip_suffix('\n');
        let blank = blank.map(|before| before.strip_suffix('\r').unwrap_or(before));
        blank.map_or(start, str::len)..line_end(text, last)
    };
    Some(splice(text, range, ""))
}

/// The whole of `backends`, if nothing else is in it.
fn only(service: &Service<'_>) -> Option<Range<usize>> {
    let text = service.text;
    let (key, array) = service.table.get_key_value("backends")?;
    if tables(Some(array)).len() != 1 {
        return None;
    }
    let end = array.span().end;
    let start = key.span().start;
    if text[service.start..].starts_with('{') {
        let before = text[..start].strip_suffix(", ")?;
        return Some(before.len()..end);
    }
    let start = line_start(text, start)?;
    let line_end = line_end(text, end);
    text[end..line_end]
        .trim()
        .is_empty()
        .then_some(start..line_end)
}

/// Where an entry's line ends, with the break behind it if that came with it: to an
/// array that began on the line before.
fn behind_break(text: &str, start: usize, line_end: usize) -> usize {
    let rest = &text[line_end..];
    let broken = rest.strip_prefix('\r').unwrap_or(rest).strip_prefix('\n');
    match broken {
        Some(next)
            if text[..start].ends_with('[') && !next.starts_with([' ', '\t', '\r', '\n']) =>
        {
            text.len() - next.len()
        }
        _ => line_end,
    }
}

/// Where the break before the line of `at` begins, if only blanks are in between.
fn line_start(text: &str, at: usize) -> Option<usize> {
    let newline = text[..at].rfind('\n')?;
    let blank = text[newline..at].trim().is_empty();
    let start = newline - usize::from(text[..newline].ends_with('\r'));
    blank.then_some(start)
}

/// Where the line of `at` ends, before its break.
fn line_end(text: &str, at: usize) -> usize {
    let end = at + text[at..].find('\n').unwrap_or(text.len() - at);
    end - usize::from(text[at..end].ends_with('\r'))
}

/// The blanks that the line of `at` begins with.
fn indent_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &text[start..at];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// Where the last thing in a value ends.
fn end_of(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(end_of).max(),
        DeValue::Table(table) => table.iter().map(|(_, value)| end_of(value)).max(),
        _ => None,
    };
    inner.unwrap_or(0).max(value.span().end)
}
