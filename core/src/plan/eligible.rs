//! Which backends are listed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Merged};
use crate::model::BackendAddr;

/// While fewer than this share of the backends are healthy, those that are not
/// are listed too: the few would break under the load of all, and it may be the
/// probes that are wrong.
const PANIC: f64 = 0.5;

/// Where a backend is in its life, as far as lists are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendState {
    /// Came into a service that was running, and was not found healthy yet.
    Joining,
    /// Gets calls.
    Serving,
    /// Gets calls, but there is a reason to doubt that it is there.
    Suspect,
    /// Its last probe failed.
    Unhealthy,
    /// Fails its calls, and is out for a while.
    Ejected,
    /// Gets no new calls, because an operator or the backend said so.
    Draining,
}

/// What a probe of a backend found last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It was not probed yet.
    #[default]
    Unknown,
    /// It is healthy.
    Good,
    /// It answers, but not that it is healthy, or it does not answer in time.
    Bad,
    /// Nobody listens: the connection was refused or reset.
    Refused,
}

/// What is known of a backend's health. A feeder fills it in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthFields {
    /// What its probes say, thresholds applied.
    pub probe: Probe,
    /// Whether something else broke, as a connection to it, and it is not
    /// probed since.
    pub suspect: bool,
}

impl BackendState {
    /// Every state, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Joining,
        Self::Serving,
        Self::Suspect,
        Self::Unhealthy,
        Self::Ejected,
        Self::Draining,
    ];

    /// Its name in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Suspect => "suspect",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }

    /// Whether a backend in this state gets calls for its own sake. In need
    /// others are listed too: see [`Member::listed`].
    #[must_use]
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Serving | Self::Suspect)
    }
}

/// What eligibility is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement<'a> {
    pub(super) health: &'a BTreeMap<BackendAddr, HealthFields>,
    /// Backends that need not prove that they are healthy before they are
    /// listed; `None` if none needs to.
    pub(super) admitted: Option<&'a BTreeSet<BackendAddr>>,
}

impl Judgement<'_> {
    fn probe(&self, addr: BackendAddr) -> Probe {
        self.health.get(&addr).map_or(Probe::Unknown, |h| h.probe)
    }

    /// The state of a backend, but for ejection.
    pub(super) fn state(&self, merged: &Merged) -> BackendState {
        if merged.drain || merged.weight.is_drained() {
            return BackendState::Draining;
        }
        let health = self.health.get(&merged.addr).copied().unwrap_or_default();
        let admitted = |admitted: &BTreeSet<_>| admitted.contains(&merged.addr);
        match health.probe {
            Probe::Bad | Probe::Refused => BackendState::Unhealthy,
            Probe::Unknown if !self.admitted.is_none_or(admitted) => BackendState::Joining,
            _ if health.suspect => BackendState::Suspect,
            _ => BackendState::Serving,
        }
    }

    /// Says which members are listed.
    pub(super) fn list(&self, members: &mut [Member]) {
        let panic = few_are_healthy(members);
        for member in members.iter_mut() {
            let in_need = match member.state {
                BackendState::Ejected => true,
                BackendState::Unhealthy => self.probe(member.addr) != Probe::Refused,
                _ => false,
            };
            member.listed = member.state.is_healthy() || (panic && in_need);
        }
        if members.iter().any(|member| member.listed) {
            return;
        }
        // A feeder that fails never empties a service: to call those that seem to
        // be gone is no worse than to call nobody.
        for member in members {
            member.listed = member.state != BackendState::Draining;
        }
    }
}

/// Whether so few of these are healthy that those that are not are listed too.
pub(super) fn few_are_healthy(members: &[Member]) -> bool {
    let count = |states: &[BackendState]| {
        let counted = members.iter().filter(|m| states.contains(&m.state));
        counted.count() as f64
    };
    let healthy = count(&[BackendState::Serving, BackendState::Suspect]);
    let others = count(&[BackendState::Unhealthy, BackendState::Ejected]);
    healthy < PANIC * (healthy + others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, Weight};

    fn addr(host: u8) -> BackendAddr {
        format!("10.0.0.{host}:80").parse().unwrap()
    }

    fn merged(host: u8, drain: bool) -> Merged {
        Merged {
            addr: addr(host),
            weight: Weight::ONE,
            zone: None,
            labels: Labels::default(),
            drain,
            incarnation: None,
        }
    }

    /// States and who is listed, of backends 0.. with these probes; the last is
    /// drained.
    fn judged(probes: &[Probe]) -> (Vec<BackendState>, Vec<bool>) {
        let fields = |probe: &Probe| HealthFields {
            probe: *probe,
            suspect: false,
        };
        let health = (1..).map(addr).zip(probes.iter().map(fields)).collect();
        let admitted = BTreeSet::new();
        let judgement = Judgement {
            health: &health,
            admitted: Some(&admitted),
        };
        let drained = probes.len() as u8 + 1;
        let merged = (1..=drained).map(|host| merged(host, host == drained));
        let members = merged.map(|merged| Member::new(&merged, judgement.state(&merged)));
        let mut members: Vec<Member> = members.collect();
        judgement.list(&mut members);
        let states = members.iter().map(|m| m.state).collect();
        (states, members.iter().map(|m| m.listed).collect())
    }

    #[test]
    fn who_joins_is_listed_after_a_good_probe() {
        let (states, listed) = judged(&[Probe::Good, Probe::Unknown]);
        assert_eq!(states[1], BackendState::Joining);
        assert_eq!(listed, [true, false, false]);
    }

    #[test]
    fn the_unhealthy_are_listed_while_they_are_most_but_never_the_refused_or_drained() {
        use Probe::{Bad, Good, Refused};
        let (_, listed) = judged(&[Good, Good, Bad, Refused]);
        assert_eq!(listed, [true, true, false, false, false]);
        let (_, listed) = judged(&[Good, Bad, Bad, Refused]);
        assert_eq!(listed, [true, true, true, false, false]);
    }

    #[test]
    fn a_service_is_never_empty_because_probes_fail() {
        let (_, listed) = judged(&[Probe::Refused, Probe::Refused]);
        assert_eq!(listed, [true, true, false]);
    }

    #[test]
    fn who_is_suspected_is_still_called() {
        let suspect = HealthFields {
            suspect: true,
            ..HealthFields::default()
        };
        let health = BTreeMap::from([(addr(1), suspect)]);
        let judgement = Judgement {
            health: &health,
            admitted: None,
        };
        let state = judgement.state(&merged(1, false));
        assert_eq!(state, BackendState::Suspect);
        assert!(state.is_healthy());
    }
}
