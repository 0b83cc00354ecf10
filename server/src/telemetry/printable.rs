//! Text of peers and files, made safe to print: it stays on its line, and
//! neither moves a cursor nor turns the order of what stands beside it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Where escaped text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// On a line of plain text: a newline in it is escaped, too.
    Line,
    /// Lines of plain text: newlines and tabs stay.
    Lines,
    /// A line of plain text that this program has colored: `ESC [ digits m` stays.
    ColoredLine,
    /// A line of JSON: escapes are JSON's own.
    JsonLine,
}

/// The text with every character escaped that a reader does not see as it is:
/// control characters, and those that separate lines, turn the order of writing
/// or take no room.
#[must_use]
pub fn escape(text: &str, escapes: Escapes) -> Cow<'_, str> {
    let Some(first) = text.find(is_hidden) else {
        return Cow::Borrowed(text);
    };
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(c) = rest.chars().next() {
        if let Some(color) = color(rest).filter(|_| escapes == Escapes::ColoredLine) {
            escaped.push_str(color);
            rest = &rest[color.len()..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match (c, escapes) {
            ('\n' | '\t', Escapes::Lines) => escaped.push(c),
            (c, _) if !is_hidden(c) => escaped.push(c),
            (c, Escapes::JsonLine) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String does not fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            (c, _) => escaped.extend(c.escape_default()),
        }
    }
    Cow::Owned(escaped)
}

/// The text on one line, escaped, and cut after so many characters.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    // What is cut off is not escaped first: it may be megabytes.
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    let mut printable = escape(&text[..end.unwrap_or(text.len())], Escapes::Line).into_owned();
    if let Some((longer, _)) = printable.char_indices().nth(most) {
        printable.truncate(longer);
        printable.push('…');
    } else if end.is_some() {
        printable.push('…');
    }
    printable
}

/// Whether a reader does not see the character, or sees others elsewhere for it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                // Without width; from left to right and back.
                | '\u{200b}'..='\u{200f}'
                // Separators of lines and paragraphs; embedding and overriding.
                | '\u{2028}'..='\u{202e}'
                // Without width; isolating.
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                // Tags.
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The color that the text begins with.
fn color(text: &str) -> Option<&str> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    codes[end..].starts_with('m').then(|| &text[..end + 3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "a\n\u{1b}[2J\u{9b}\u{202e}\u{2028}\u{e0041}\u{7f}é";

    #[test]
    fn what_a_reader_does_not_see_is_escaped() {
        let line = "a\\n\\u{1b}[2J\\u{9b}\\u{202e}\\u{2028}\\u{e0041}\\u{7f}é";
        assert_eq!(escape(HOSTILE, Escapes::Line), line);
        assert_eq!(escape(HOSTILE, Escapes::ColoredLine), line);
        let lines = escape(HOSTILE, Escapes::Lines);
        assert_eq!(lines, line.replacen("\\n", "\n", 1));
    }

    #[test]
    fn colors_stay_where_this_program_colors() {
        let text = "\u{1b}[2mold\u{1b}[0m \u{1b}[1;31mred\u{1b}[m \u{1b}[2J";
        let escaped = text.replace("\u{1b}[2J", "\\u{1b}[2J");
        assert_eq!(escape(text, Escapes::ColoredLine), escaped);
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc…");
        assert_eq!(printable("é\n", 2), "é\\…");
        assert_eq!(printable(&"x".repeat(9999), 500).chars().count(), 501);
    }

    proptest! {
        #[test]
        fn json_means_the_same_and_shows_nothing_hidden(text: String, more in "[\\p{Cc}\\p{Cf}]{0,9}") {
            let text = text + &more;
            let json = serde_json::to_string(&text).unwrap();
            let escaped = escape(&json, Escapes::JsonLine);
            prop_assert!(!escaped.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn nothing_hidden_is_left_and_nothing_is_escaped_twice(
            text in "[a-z\\p{Cc}\\p{Cf}\\p{Zl}]{0,40}", most in 0usize..50,
        ) {
            let escaped = escape(&text, Escapes::Line);
            prop_assert!(!escaped.chars().any(is_hidden));
            prop_assert_eq!(escape(&escaped, Escapes::Line), escaped.clone());
            prop_assert!(printable(&text, most).chars().count() <= most + 1);
        }
    }
}
