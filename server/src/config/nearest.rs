//! What somebody may have meant.

use std::collections::BTreeSet;

use strsim::osa_distance;

/// A word longer than this is no slip of the finger, and comparing it is work.
const MAX_WORD: usize = 130;

/// The candidate nearest to `word`, if it is near enough to be meant: a third
/// of the word may differ.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.chars().count() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let candidates = candidates.into_iter().filter(|c| c.len() <= MAX_WORD);
    let (distance, best) = candidates
        .map(|candidate| (osa_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let longer = word.chars().count().max(best.chars().count());
    // Another ending, as `backend` for `backends` or `report` for
    // `report_interval`, is near whatever it lacks.
    let stem = word.len() >= 3 && (best.starts_with(&word) || word.starts_with(best));
    (stem || distance * 3 <= longer).then_some(best)
}

/// `a`, `b` and `c`: what there is, in order, each in backquotes.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: BTreeSet<&str> = items.into_iter().collect();
    let last = items.len().saturating_sub(1);
    let mut text = String::new();
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            text.push_str(if i == last { " and " } else { ", " });
        }
        text.push('`');
        text.push_str(item);
        text.push('`');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["address", "weight", "zone", "drain"];
        for (word, meant) in [
            ("adress", "address"),
            ("wieght", "weight"),
            ("Weight", "weight"),
            ("addr", "address"),
            ("weights", "weight"),
        ] {
            assert_eq!(nearest(word, keys), Some(meant), "{word}");
        }
        for word in ["", "cluster", "w", "port"] {
            assert_eq!(nearest(word, keys), None, "{word}");
        }
    }

    #[test]
    fn lists_read_like_sentences() {
        assert_eq!(list([]), "");
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["b", "a", "c"]), "`a`, `b` and `c`");
    }
}
