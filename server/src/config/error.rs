//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::ops::Range;

use crate::telemetry;

/// A message is cut at this many characters: a value quoted in it may be as
/// long as the file.
const MAX_MESSAGE: usize = 500;

/// Of more faults than this, only the number is told: so many are one mistake,
/// and the log is read by people.
const MAX_FAULTS: usize = 100;

/// One fault, at its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 for the file as a whole.
    pub column: usize,
    /// The key, as `service[1].backends[0].weight`, counted from 0; empty for
    /// the whole file.
    pub key: String,
    /// What is wrong, and what would be right. One line, printable.
    pub message: String,
}

/// Everything found wrong with one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Name of the file, as it was given.
    pub file: String,
    /// The faults, in the order of the file; after a hundred, how many more.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// One fault of the file as a whole.
    #[must_use]
    pub fn whole(file: &str, message: &str) -> Self {
        Self {
            file: file.to_owned(),
            errors: vec![ConfigError {
                line: 0,
                column: 0,
                key: String::new(),
                message: printable(message),
            }],
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// One line a fault: `file:line:column: key: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file)?;
            if error.line > 0 {
                write!(f, "{}:{}:", error.line, error.column)?;
            }
            write!(f, " ")?;
            if !error.key.is_empty() {
                write!(f, "{}: ", error.key)?;
            }
            write!(f, "{}", error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a key or value stands, and by which path one gets there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As in [`ConfigError::key`].
    pub(crate) key: String,
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
}

/// Collects faults while a text is read.
#[derive(Debug)]
pub(crate) struct Faults {
    found: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    at: usize,
    kind: Kind,
    key: String,
    message: String,
}

/// What a fault rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The text is no TOML here.
    Syntax,
    /// What stands here is wrong whatever stands elsewhere.
    Local,
    /// Something is missing, or does not go with something elsewhere.
    Relation,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { found: Vec::new() }
    }

    /// The text is no TOML from byte `at`.
    pub(super) fn syntax(&mut self, at: usize, message: String) {
        self.push(Kind::Syntax, at, String::new(), message);
    }

    /// What stands at `place` is wrong.
    pub(crate) fn wrong(&mut self, place: &Place, message: impl ToString) {
        let key = place.key.clone();
        self.push(Kind::Local, place.span.start, key, message.to_string());
    }

    /// What stands at `place` lacks something, or does not go with what stands
    /// elsewhere.
    pub(crate) fn clash(&mut self, place: &Place, message: impl ToString) {
        let key = place.key.clone();
        self.push(Kind::Relation, place.span.start, key, message.to_string());
    }

    fn push(&mut self, kind: Kind, at: usize, key: String, message: String) {
        self.found.push(Fault {
            at,
            kind,
            key,
            message,
        });
    }

    /// The faults as errors, in the order of the file; `None` if there is none.
    ///
    /// Behind the first fault in syntax it is guesswork what stands where, so
    /// only the syntax is judged there; and something that seems to be missing
    /// may be what could not be read.
    pub(super) fn into_errors(mut self, text: &str, file: &str) -> Option<ConfigErrors> {
        let syntax = self.found.iter().filter(|f| f.kind == Kind::Syntax);
        if let Some(first) = syntax.map(|f| f.at).min() {
            let line_start = text[..first.min(text.len())]
                .rfind('\n')
                .map_or(0, |n| n + 1);
            self.found.retain(|fault| match fault.kind {
                Kind::Syntax => true,
                Kind::Local => fault.at < line_start,
                Kind::Relation => false,
            });
        }
        self.found.sort_by_key(|fault| fault.at);
        // What is not closed is told by every reader on the way out of it; the first
        // to speak knew best where it was.
        self.found
            .dedup_by(|later, first| later.kind == Kind::Syntax && first.at == later.at);
        if let Some(more) = self.found.len().checked_sub(MAX_FAULTS).filter(|n| *n > 0) {
            self.found.truncate(MAX_FAULTS);
            let at = self.found[MAX_FAULTS - 1].at;
            let message = format!("there are {more} more faults behind this one");
            self.push(Kind::Local, at, String::new(), message);
        }
        let mut lines = Lines::new(text);
        let errors: Vec<_> = self
            .found
            .into_iter()
            .map(|fault| {
                let (line, column) = lines.locate(fault.at);
                ConfigError {
                    line,
                    column,
                    key: printable(&fault.key),
                    message: printable(&fault.message),
                }
            })
            .collect();
        (!errors.is_empty()).then(|| ConfigErrors {
            file: file.to_owned(),
            errors,
        })
    }
}

/// Turns ascending byte offsets into lines and columns in one pass.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    line: usize,
    line_start: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            line: 1,
            line_start: 0,
        }
    }

    /// Line and column of byte `at`, which is no less than the last one asked.
    pub(super) fn locate(&mut self, at: usize) -> (usize, usize) {
        let bytes = self.text.as_bytes();
        let at = at.min(bytes.len());
        let mut next = self.line_start;
        while let Some(found) = bytes.get(next..at).and_then(newline) {
            next += found + 1;
            self.line += 1;
            self.line_start = next;
        }
        // Not the byte before a character's boundary counts, but the character.
        let column = bytes[self.line_start..at]
            .iter()
            .filter(|byte| (**byte as i8) >= -0x40)
            .count();
        (self.line, column + 1)
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// The text on one line, without control characters, and not endless.
pub(super) fn printable(text: &str) -> String {
    telemetry::printable(text, MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_newlines() {
        let text = "a\nöx = 1\r\n\nz";
        let mut lines = Lines::new(text);
        assert_eq!(lines.locate(0), (1, 1));
        assert_eq!(lines.locate(2), (2, 1));
        assert_eq!(lines.locate(4), (2, 2));
        assert_eq!(lines.locate(text.find('z').unwrap()), (4, 1));
        assert_eq!(lines.locate(usize::MAX), (4, 2));
    }

    #[test]
    fn a_message_is_one_short_printable_line() {
        assert_eq!(printable("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(printable(&"x".repeat(9999)).chars().count(), 501);
    }

    proptest! {
        #[test]
        fn every_offset_has_a_place(text: String, at: usize) {
            let (line, column) = Lines::new(&text).locate(at % (text.len() + 2));
            prop_assert!(line >= 1 && column >= 1);
        }
    }
}
