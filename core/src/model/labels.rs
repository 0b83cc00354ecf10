//! What else a backend is told by: its version, its kind of machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Weight, Zone};

/// Labels of one backend: names and values, at most 16, each of at most 63 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<BTreeMap<Box<str>, Box<str>>>>);

/// Why texts are no [`Labels`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// Too many.
    #[error("there are {0}; a backend has at most {max}", max = Labels::MAX)]
    TooMany(usize),
    /// A name or a value that is none.
    #[error(
        "`{0}` cannot be in a label; names have 1 to {max} bytes, values at most {max}, without \
         control characters",
        max = Labels::MAX_LEN
    )]
    Text(String),
}

/// What an operator says of all backends with certain labels, wherever they are
/// learned.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMatch {
    /// A backend that has all of these is meant.
    pub labels: Labels,
    /// Its weight.
    pub weight: Option<Weight>,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// Whether it should get no new calls.
    pub drain: Option<bool>,
}

impl Labels {
    /// As many as a backend may have.
    pub const MAX: usize = 16;

    /// Bytes of a name, and of a value.
    pub const MAX_LEN: usize = 63;

    /// From names and values; of a name that is there twice, the last counts.
    ///
    /// # Errors
    /// If there are too many, or one is too long, has no name, or has control
    /// characters. Of several faults it is always the same that is told.
    pub fn new<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BadLabels> {
        let labels: BTreeMap<&str, &str> = labels.into_iter().collect();
        if labels.len() > Self::MAX {
            return Err(BadLabels::TooMany(labels.len()));
        }
        let good = |text: &str| text.len() <= Self::MAX_LEN && !text.chars().any(char::is_control);
        for (name, value) in &labels {
            for text in [name, value] {
                if !good(text) {
                    let shown = text.chars().take(Self::MAX_LEN);
                    return Err(BadLabels::Text(shown.collect()));
                }
            }
            if name.is_empty() {
                return Err(BadLabels::Text(String::new()));
            }
        }
        if labels.is_empty() {
            return Ok(Self::default());
        }
        let owned = labels.into_iter().map(|(k, v)| (k.into(), v.into()));
        Ok(Self(Some(Arc::new(owned.collect()))))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.0.iter().flat_map(|labels| labels.iter());
        labels.map(|(name, value)| (&**name, &**value))
    }

    /// The value of the label of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.as_ref()?.get(name)?;
        Some(value)
    }

    /// Whether all of `wanted` are among them, with the same values.
    #[must_use]
    pub fn contain(&self, wanted: &Self) -> bool {
        let mut wanted = wanted.iter();
        wanted.all(|(name, value)| self.get(name) == Some(value))
    }

    /// These, and of `others` those of other names, as far as there is room.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        match (&self.0, &others.0) {
            (_, None) => self.clone(),
            (None, Some(_)) => others.clone(),
            (Some(own), Some(others)) => {
                let mut all = BTreeMap::clone(own);
                for (name, value) in others.iter() {
                    if all.len() < Self::MAX && !all.contains_key(name) {
                        all.insert(name.clone(), value.clone());
                    }
                }
                Self(Some(Arc::new(all)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<const N: usize>(labels: [(&str, &str); N]) -> Labels {
        Labels::new(labels).unwrap()
    }

    #[test]
    fn a_backend_is_meant_if_it_has_all_labels_of_a_match() {
        let backend = labels([("version", "v2"), ("tier", "gold")]);
        assert!(backend.contain(&labels([("version", "v2")])));
        assert!(backend.contain(&backend));
        assert!(backend.contain(&Labels::default()));
        assert!(!backend.contain(&labels([("version", "v1")])));
        assert!(!backend.contain(&labels([("version", "v2"), ("tier", "")])));
        assert!(!Labels::default().contain(&labels([("version", "v2")])));
    }

    #[test]
    fn of_two_sources_each_label_is_of_the_first_that_has_it() {
        let first = labels([("version", "v2")]);
        let second = labels([("version", "v1"), ("tier", "gold")]);
        let both = labels([("version", "v2"), ("tier", "gold")]);
        assert_eq!(first.or(&second), both);
        assert_eq!(first.or(&Labels::default()), first);
        assert_eq!(Labels::default().or(&second), second);
        let many: Vec<String> = (0..16).map(|n| n.to_string()).collect();
        let many = Labels::new(many.iter().map(|n| (n.as_str(), ""))).unwrap();
        assert_eq!(many.or(&second).iter().count(), Labels::MAX);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let many = Labels::new(many.iter().map(|n| (n.as_str(), "")));
        assert_eq!(many, Err(BadLabels::TooMany(17)));
        let long = "x".repeat(64);
        for bad in [("", "v2"), (&long, ""), ("version", &long), ("a", "b\n")] {
            assert!(Labels::new([bad]).is_err(), "{bad:?}");
        }
    }
}
