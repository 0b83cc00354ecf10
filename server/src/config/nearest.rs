//! What somebody may have meant.

use std::collections::BTreeSet;

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
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
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

/// How many characters to insert, delete, replace or swap with the next.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best = (above[j] + 1)
                .min(row[j - 1] + 1)
                .min(above[j - 1] + usize::from(!same));
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(a in ".{0,8}", b in ".{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
