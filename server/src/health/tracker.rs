//! From what probes find to what is thought of a backend. Pure.

use crate::wait::NoAnswer;
use lookaside_core::plan::{HealthFields, Probe};

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Finding {
    /// It says that it is well, or does what only one that is well does.
    Good,
    /// It says itself that it should not be called.
    NotServing,
    /// No answer in time.
    Timeout,
    /// Nothing: the balancer itself was late.
    Late,
    /// Nothing: the balancer itself lacked what it takes to ask.
    OwnFault,
    /// An answer that says nothing of its health, or no connection.
    Failed,
    /// Nobody listens.
    Refused,
    /// Something broke, and what that means is not known yet.
    Doubt,
}

impl Finding {
    /// Every finding.
    pub(super) const ALL: [Self; 8] = [
        Self::Good,
        Self::NotServing,
        Self::Timeout,
        Self::Late,
        Self::OwnFault,
        Self::Failed,
        Self::Refused,
        Self::Doubt,
    ];

    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NotServing => "not_serving",
            Self::Timeout => "timeout",
            Self::Late => "late",
            Self::OwnFault => "own_fault",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Doubt => "doubt",
        }
    }
}

impl From<NoAnswer> for Finding {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Timeout => Self::Timeout,
            NoAnswer::Late => Self::Late,
        }
    }
}

/// What is thought of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HealthTracker {
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    verdict: HealthFields,
    good: u32,
    bad: u32,
}

impl HealthTracker {
    /// Nothing is known yet.
    pub(super) fn new(unhealthy_threshold: u32, healthy_threshold: u32) -> Self {
        Self {
            unhealthy_threshold,
            healthy_threshold,
            verdict: HealthFields::default(),
            good: 0,
            bad: 0,
        }
    }

    /// What is thought now.
    pub(super) fn verdict(&self) -> HealthFields {
        self.verdict
    }

    /// What is thought once this was found. A definite answer counts at once; one
    /// that did not come only counts when it did not again and again.
    pub(super) fn found(&mut self, found: Finding) -> HealthFields {
        match found {
            Finding::Good => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                if self.verdict.probe == Probe::Good || self.good >= self.healthy_threshold {
                    self.verdict.probe = Probe::Good;
                    self.verdict.suspect = false;
                }
            }
            Finding::Late | Finding::OwnFault => {}
            Finding::NotServing => self.is(Probe::Bad),
            Finding::Refused => self.is(Probe::Refused),
            Finding::Timeout | Finding::Failed => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                if self.bad >= self.unhealthy_threshold {
                    self.is(Probe::Bad);
                }
            }
            Finding::Doubt => {
                self.verdict.suspect |= matches!(self.verdict.probe, Probe::Good | Probe::Unknown);
            }
        }
        self.verdict
    }

    fn is(&mut self, probe: Probe) {
        self.good = 0;
        self.verdict = HealthFields {
            probe,
            suspect: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probes(judge: &mut HealthTracker, found: &[Finding]) -> Vec<Probe> {
        let found = found.iter();
        found.map(|found| judge.found(*found).probe).collect()
    }

    #[test]
    fn what_is_definite_counts_at_once_and_silence_by_threshold() {
        use Finding::{Failed, Good, NotServing, Refused, Timeout};
        let mut judge = HealthTracker::new(3, 1);
        assert_eq!(
            probes(&mut judge, &[Good, NotServing, Good, Refused, Good]),
            [
                Probe::Good,
                Probe::Bad,
                Probe::Good,
                Probe::Refused,
                Probe::Good
            ]
        );
        assert_eq!(
            probes(&mut judge, &[Timeout, Failed, Good, Timeout, Timeout]),
            [Probe::Good; 5]
        );
        assert_eq!(probes(&mut judge, &[Failed]), [Probe::Bad]);
    }

    #[test]
    fn who_was_out_needs_as_many_good_answers_in_a_row_as_the_operator_says() {
        use Finding::{Good, NotServing, Timeout};
        let mut judge = HealthTracker::new(1, 3);
        assert_eq!(
            probes(&mut judge, &[Good, Good, NotServing, Good, Good, Timeout]),
            [
                Probe::Unknown,
                Probe::Unknown,
                Probe::Bad,
                Probe::Bad,
                Probe::Bad,
                Probe::Bad
            ]
        );
        assert_eq!(
            probes(&mut judge, &[Good, Good, Good]),
            [Probe::Bad, Probe::Bad, Probe::Good]
        );
    }

    #[test]
    fn a_doubt_is_over_with_the_next_good_answer_and_takes_nobody_out() {
        let mut judge = HealthTracker::new(3, 1);
        judge.found(Finding::Good);
        let doubted = judge.found(Finding::Doubt);
        assert!(doubted.suspect);
        assert_eq!(doubted.probe, Probe::Good);
        assert!(judge.found(Finding::Timeout).suspect);
        assert!(!judge.found(Finding::Good).suspect);
        judge.found(Finding::Refused);
        assert!(!judge.found(Finding::Doubt).suspect);
    }

    proptest! {
        #[test]
        fn doubt_and_too_little_silence_never_take_out_whoever_is_good(
            kinds in prop::collection::vec(0u8..5, 0..100), threshold in 1u32..5,
        ) {
            let mut judge = HealthTracker::new(threshold, 1);
            judge.found(Finding::Good);
            let mut silent = 0;
            for kind in kinds {
                let found = [
                    Finding::Good,
                    Finding::Doubt,
                    Finding::Timeout,
                    Finding::Late,
                    Finding::OwnFault,
                ];
                let found = found[usize::from(kind)];
                silent = match found {
                    Finding::Good => 0,
                    Finding::Timeout => silent + 1,
                    _ => silent,
                };
                let verdict = judge.found(found);
                if verdict.probe != Probe::Good {
                    prop_assert!(silent >= threshold);
                }
            }
        }
    }
}
