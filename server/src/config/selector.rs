//! Which series of a metric count.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A metric's name and the labels that a series of it must have, written as
/// Prometheus writes them: `grpc_server_handled_total{grpc_code="OK"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// The metric's name.
    pub name: String,
    /// Labels and their values; a series may have others beside them.
    pub labels: BTreeMap<String, String>,
}

/// Why a text is no [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` selects nothing; write a metric's name, with labels or without, as \
     requests_total{{code=\"500\"}} (only = is known, and values are quoted)"
)]
pub struct BadSelector(String);

impl Selector {
    /// Whether a series of this name and these labels is meant.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.name == name && self.labels.iter().all(|(k, v)| labels.get(k) == Some(v))
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector(text.to_owned());
        let (name, labels, rest) = series(text.trim()).ok_or_else(bad)?;
        if !rest.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            labels,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (name, value)) in self.labels.iter().enumerate() {
            f.write_str(if i == 0 { "{" } else { "," })?;
            write!(f, "{name}={value:?}")?;
        }
        f.write_str(if self.labels.is_empty() { "" } else { "}" })
    }
}

/// The series that a text begins with: name, labels, and the rest of the text.
/// `None` if it begins with none.
#[must_use]
pub fn series(text: &str) -> Option<(&str, BTreeMap<String, String>, &str)> {
    let (name, rest) = word(text, |c| c == ':')?;
    let mut labels = BTreeMap::new();
    let Some(mut rest) = rest.trim_start().strip_prefix('{') else {
        return Some((name, labels, rest));
    };
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((name, labels, rest));
        }
        let (label, after) = word(rest, |_| false)?;
        let after = after.trim_start().strip_prefix('=')?;
        let after = after.trim_start().strip_prefix('"')?;
        let (value, after) = quoted(after)?;
        labels.insert(label.to_owned(), value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// A name at the beginning, and what is behind it.
fn word(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let end = text.find(|c| !inside(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let first = word.chars().next()?;
    (!first.is_ascii_digit()).then_some((word, rest))
}

/// A value up to its closing quote, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_alone_means_all_its_series_and_labels_some() {
        let all: Selector = "requests_total".parse().unwrap();
        let some: Selector = r#"requests_total{ code="500", why = "a\"b" }"#.parse().unwrap();
        let labels = BTreeMap::from([
            ("code".to_owned(), "500".to_owned()),
            ("why".to_owned(), "a\"b".to_owned()),
            ("pod".to_owned(), "x".to_owned()),
        ]);
        for selector in [&all, &some] {
            assert!(selector.matches("requests_total", &labels), "{selector}");
            assert!(!selector.matches("requests", &labels), "{selector}");
        }
        assert!(all.matches("requests_total", &BTreeMap::new()));
        assert!(!some.matches("requests_total", &BTreeMap::new()));
        assert_eq!(some.to_string().parse::<Selector>(), Ok(some));
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        for bad in [
            "",
            "5xx",
            "a b",
            "a{",
            "a{b}",
            "a{b=c}",
            "a{b=\"c\"",
            "a{b=~\"c\"}",
            "a{b=\"c\"}}",
            "rate(a)",
            "{a=\"b\"}",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Selector>();
        }

        #[test]
        fn what_is_shown_is_read_again(
            name in "[a-z_:][a-z0-9_:]{0,8}", label in "[a-z_]{1,4}", value in "[ -~]{0,12}",
        ) {
            let selector = Selector { name, labels: BTreeMap::from([(label, value)]) };
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }
    }
}
