//! One view of each backend from what several sources say of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{BackendAddr, Weight, Zone};

/// Who says that a backend exists. The order is precedence: of two sources
/// that state the same field of a backend, the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
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

impl Source {
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

/// Everything one source says of the backends of one service. It replaces what
/// the source said before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contribution {
    /// The backends, and what is stated of each.
    pub members: BTreeMap<BackendAddr, MemberFields>,
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
    /// Which life it is in, if a source says.
    pub incarnation: Option<Arc<str>>,
}

/// Merges contributions, backends in the order of their addresses.
pub(super) fn merge(contributions: &BTreeMap<Source, Contribution>) -> Vec<Merged> {
    let mut fields: BTreeMap<BackendAddr, MemberFields> = BTreeMap::new();
    // In the map's order, which is precedence: a field once stated stays.
    for contribution in contributions.values() {
        for (addr, stated) in &contribution.members {
            let field = fields.entry(*addr).or_default();
            field.weight = field.weight.or(stated.weight);
            field.zone = field.zone.take().or_else(|| stated.zone.clone());
            let life = field.incarnation.take();
            field.incarnation = life.or_else(|| stated.incarnation.clone());
            let drain = field.drain == Some(true) || stated.drain == Some(true);
            field.drain = Some(drain);
        }
    }
    let merged = fields.into_iter().map(|(addr, field)| Merged {
        addr,
        weight: field.weight.unwrap_or_default(),
        zone: field.zone,
        drain: field.drain == Some(true),
        incarnation: field.incarnation,
    });
    merged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contribution(fields: MemberFields) -> Contribution {
        let addr = "10.0.0.1:80".parse().unwrap();
        Contribution {
            members: BTreeMap::from([(addr, fields)]),
        }
    }

    fn weight(weight: f64) -> Option<Weight> {
        Some(Weight::new(weight).unwrap())
    }

    #[test]
    fn the_first_source_that_states_a_field_wins() {
        let merged = merge(&BTreeMap::from([
            (
                Source::Dns,
                contribution(MemberFields {
                    weight: weight(2.0),
                    zone: Some("b".into()),
                    ..MemberFields::default()
                }),
            ),
            (
                Source::File,
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
        let merged = merge(&BTreeMap::from([
            (Source::File, drain(Some(false))),
            (Source::Registration, drain(Some(true))),
        ]));
        assert!(merged[0].drain);
        assert_eq!(merged[0].weight, Weight::ONE);
    }
}
