//! One view of each backend from what several sources say of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::{BackendAddr, LabelMatch, Labels, Weight, Zone};

/// What kind of source says that a backend exists. The order is precedence: of two
/// sources that state the same field of a backend, the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// An operator, at run time.
    Override,
    /// `lookaside.toml`.
    File,
    /// The backend itself.
    Registration,
    /// etcd.
    Etcd,
    /// Consul.
    Consul,
    /// DNS.
    Dns,
}

impl SourceKind {
    /// Its name in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::File => "file",
            Self::Registration => "registration",
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Dns => "dns",
        }
    }
}

/// One source of a service's backends. Two prefixes of etcd are two sources: what one of
/// them no longer lists, the other may still list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// What it is. Precedence is by kind, then by name.
    pub kind: SourceKind,
    /// Which one of its kind, e.g. a prefix or a name in DNS; `None` where a service can
    /// have but one.
    pub name: Option<Arc<str>>,
}

impl From<SourceKind> for SourceId {
    /// The only source of its kind.
    fn from(kind: SourceKind) -> Self {
        Self { kind, name: None }
    }
}

impl fmt::Display for SourceId {
    /// `file`, or `etcd:/services/greeter/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &self.name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

/// Everything one source says of the backends of one service. It replaces what
/// the source said before. Clones share it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contribution {
    /// The backends, and what is stated of each.
    pub members: Arc<BTreeMap<BackendAddr, MemberFields>>,
}

impl FromIterator<(BackendAddr, MemberFields)> for Contribution {
    fn from_iter<T: IntoIterator<Item = (BackendAddr, MemberFields)>>(members: T) -> Self {
        Self {
            members: Arc::new(members.into_iter().collect()),
        }
    }
}

/// What a source states of a backend; `None` leaves it to the next source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberFields {
    /// Share relative to the others.
    pub weight: Option<Weight>,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// Whether it should get no new calls. One source that says so is enough.
    pub drain: Option<bool>,
    /// What else it is told by. Of two sources, each label is of the first that
    /// has it.
    pub labels: Labels,
    /// Which life of the backend this is (lease, registration or pod id).
    pub incarnation: Option<Arc<str>>,
}

/// A backend as all sources together see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// Where it is.
    pub addr: BackendAddr,
    /// Its weight; 1 if nobody states one.
    pub weight: Weight,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// Whether any source wants it drained.
    pub drain: bool,
    /// What else it is told by.
    pub labels: Labels,
    /// Which life it is in, if a source says.
    pub incarnation: Option<Arc<str>>,
}

/// Merges contributions, backends in the order of their addresses.
///
/// `matches` are the file's too: what they say comes behind what it says of a
/// backend by its address, and before all other sources.
pub(super) fn merge(
    contributions: &BTreeMap<SourceId, Contribution>,
    matches: &[LabelMatch],
) -> Vec<Merged> {
    let mut fields: BTreeMap<BackendAddr, MemberFields> = BTreeMap::new();
    let (first, others): (Vec<_>, Vec<_>) = contributions
        .iter()
        .partition(|(source, _)| source.kind <= SourceKind::File);
    if !matches.is_empty() {
        // A backend's labels may be of any source, so they are needed first.
        let all = contributions.values().flat_map(|c| &*c.members);
        for (addr, stated) in all {
            let field = fields.entry(*addr).or_default();
            field.labels = field.labels.or(&stated.labels);
        }
    }
    // In the map's order, which is precedence: a field once stated stays.
    for (_, contribution) in first {
        for (addr, stated) in &*contribution.members {
            fields.entry(*addr).or_default().fill(stated);
        }
    }
    for field in fields.values_mut() {
        let labels = field.labels.clone();
        for matched in matches.iter().filter(|m| labels.contain(&m.labels)) {
            field.fill(&MemberFields {
                weight: matched.weight,
                zone: matched.zone.clone(),
                drain: matched.drain,
                ..MemberFields::default()
            });
        }
    }
    for (_, contribution) in others {
        for (addr, stated) in &*contribution.members {
            fields.entry(*addr).or_default().fill(stated);
        }
    }
    let merged = fields.into_iter().map(|(addr, field)| Merged {
        addr,
        weight: field.weight.unwrap_or_default(),
        zone: field.zone,
        drain: field.drain == Some(true),
        labels: field.labels,
        incarnation: field.incarnation,
    });
    merged.collect()
}

impl MemberFields {
    /// Takes what is not stated yet from a source that comes later.
    fn fill(&mut self, stated: &Self) {
        self.weight = self.weight.or(stated.weight);
        self.zone = self.zone.take().or_else(|| stated.zone.clone());
        let life = self.incarnation.take();
        self.incarnation = life.or_else(|| stated.incarnation.clone());
        let drain = self.drain == Some(true) || stated.drain == Some(true);
        self.drain = Some(drain);
        self.labels = self.labels.or(&stated.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contribution(fields: MemberFields) -> Contribution {
        let addr = "10.0.0.1:80".parse().unwrap();
        Contribution::from_iter([(addr, fields)])
    }

    fn merge_all(contributions: BTreeMap<SourceId, Contribution>) -> Vec<Merged> {
        merge(&contributions, &[])
    }

    fn weight(weight: f64) -> Option<Weight> {
        Some(Weight::new(weight).unwrap())
    }

    #[test]
    fn the_first_source_that_states_a_field_wins() {
        let merged = merge_all(BTreeMap::from([
            (
                SourceKind::Dns.into(),
                contribution(MemberFields {
                    weight: weight(2.0),
                    zone: Some("b".into()),
                    ..MemberFields::default()
                }),
            ),
            (
                SourceKind::File.into(),
                contribution(MemberFields {
                    weight: weight(5.0),
                    ..MemberFields::default()
                }),
            ),
        ]));
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].weight.value(), 5.0);
        assert_eq!(merged[0].zone.as_deref(), Some("b"));
    }

    #[test]
    fn any_source_can_drain_and_none_can_undrain_for_it() {
        let drain = |drain| {
            contribution(MemberFields {
                drain,
                ..MemberFields::default()
            })
        };
        let merged = merge_all(BTreeMap::from([
            (SourceKind::File.into(), drain(Some(false))),
            (SourceKind::Registration.into(), drain(Some(true))),
        ]));
        assert!(merged[0].drain);
        assert_eq!(merged[0].weight, Weight::ONE);
    }

    #[test]
    fn what_is_said_by_labels_comes_behind_the_files_own_word_and_before_the_backends() {
        let labels = |version| Labels::new([("version", version)]).unwrap();
        let said = |version, weight| {
            contribution(MemberFields {
                labels: labels(version),
                weight,
                ..MemberFields::default()
            })
        };
        let matches = ["v1", "v2", "v2"].map(|version| LabelMatch {
            labels: labels(version),
            weight: weight(if version == "v2" { 0.5 } else { 7.0 }),
            zone: None,
            drain: None,
        });
        let merged = |file: Option<Weight>, own| {
            let file = file.map(|_| {
                contribution(MemberFields {
                    weight: file,
                    ..MemberFields::default()
                })
            });
            let file = file.map(|file| (SourceKind::File.into(), file));
            let own = (SourceKind::Registration.into(), said("v2", own));
            let merged = merge(&file.into_iter().chain([own]).collect(), &matches);
            assert_eq!(merged[0].labels, labels("v2"));
            merged[0].weight.value()
        };
        assert_eq!(merged(None, None), 0.5);
        assert_eq!(merged(None, weight(3.0)), 0.5);
        assert_eq!(merged(weight(2.0), weight(3.0)), 2.0);
        let drained = LabelMatch {
            drain: Some(true),
            weight: None,
            ..matches[1].clone()
        };
        let own = BTreeMap::from([(SourceKind::Registration.into(), said("v2", weight(3.0)))]);
        let merged = merge(&own, &[drained]);
        assert!(merged[0].drain);
        assert_eq!(merged[0].weight.value(), 3.0);
    }
}
