//! Where a key stands in a text.

use toml::de::{DeTable, DeValue};

use super::error::Lines;

/// Line and column of the value at a path like `service[0].register.token_file`;
/// `None` if there is none, or the path has quoted keys.
#[must_use]
pub fn locate(text: &str, key: &str) -> Option<(usize, usize)> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut table = document.get_ref();
    let mut segments = key.split('.').peekable();
    while let Some(segment) = segments.next() {
        let mut parts = segment.split('[');
        let mut value = table.get(parts.next()?)?;
        for index in parts {
            let index: usize = index.strip_suffix(']')?.parse().ok()?;
            let DeValue::Array(items) = value.get_ref() else {
                return None;
            };
            value = items.get(index)?;
        }
        if segments.peek().is_none() {
            return Some(Lines::new(text).locate(value.span().start));
        }
        let DeValue::Table(inner) = value.get_ref() else {
            return None;
        };
        table = inner;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_paths() {
        let text = "a = 1\n[b]\nc = [1, 2]\n[[d]]\n[[d]]\ne = { f = \"x\" }\n";
        for (key, place) in [
            ("a", Some((1, 5))),
            ("b.c", Some((3, 5))),
            ("b.c[1]", Some((3, 9))),
            ("d[1].e.f", Some((6, 11))),
            ("d[2]", None),
            ("d[0].e", None),
            ("a.b", None),
            ("", None),
        ] {
            assert_eq!(locate(text, key), place, "{key}");
        }
    }
}
