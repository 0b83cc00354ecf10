//! What is compared, and the backends that make the difference.

use std::net::SocketAddr;
use std::time::Duration;

use crate::balancer::{service, weighted};

/// Backends of a service.
pub(super) const BACKENDS: usize = 6;

/// The first so many lose half of their permits half-way.
pub(super) const LOSERS: usize = 2;

/// Calls of the last one take so many times as long.
pub(super) const SLOWER: u32 = 2;

/// Who says what share each backend gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Policy {
    /// Each backend once in the list.
    #[value(name = "round_robin")]
    RoundRobin,
    /// An operator who knows the machines, and not what will happen.
    #[value(name = "static")]
    Static,
    /// The policy of that name.
    #[value(name = "weighted_round_robin")]
    WeightedRoundRobin,
    /// The policy of that name.
    #[value(name = "feedback")]
    Feedback,
    /// An operator who knows everything at once: the floor.
    #[value(name = "oracle")]
    Oracle,
}

impl Policy {
    pub(super) const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::Static,
        Self::WeightedRoundRobin,
        Self::Feedback,
        Self::Oracle,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Static => "static",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::Feedback => "feedback",
            Self::Oracle => "oracle",
        }
    }

    /// The service in its balancer's file, before the change or after it.
    pub(super) fn service(self, addrs: &[SocketAddr], interval: Duration, changed: bool) -> String {
        let asked = |policy: &str| {
            let interval = humantime(interval);
            let load = format!("load = {{ kind = \"orca\", interval = \"{interval}\" }}");
            service(&format!("policy = \"{policy}\"\n{load}"), addrs)
        };
        let known = |changed: bool| {
            let weights = (0..).map(|index| 2.0 * capacity(index, changed));
            let backends: Vec<_> = addrs.iter().copied().zip(weights).collect();
            weighted("", &backends)
        };
        match self {
            Self::RoundRobin => service("", addrs),
            Self::Static => known(false),
            Self::Oracle => known(changed),
            Self::WeightedRoundRobin | Self::Feedback => asked(self.as_str()),
        }
    }
}

/// What a backend can do, in calls at a time by how long one takes: 1 is a machine
/// that is neither slow nor has lost anything.
pub(super) fn capacity(index: usize, changed: bool) -> f64 {
    if index + 1 == BACKENDS {
        1.0 / f64::from(SLOWER)
    } else if changed && index < LOSERS {
        0.5
    } else {
        1.0
    }
}

/// What all of them can do.
pub(super) fn capacities(changed: bool) -> f64 {
    (0..BACKENDS).map(|index| capacity(index, changed)).sum()
}

fn humantime(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lose_half_and_one_is_slow_all_the_time() {
        assert_eq!((capacities(false), capacities(true)), (5.5, 4.5));
        let addrs: Vec<SocketAddr> = (1..=6).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let text = Policy::Oracle.service(&addrs, Duration::ZERO, true);
        let weights: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split("weight = ").nth(1))
            .collect();
        assert_eq!(weights, ["1 },", "1 },", "2 },", "2 },", "2 },", "1 },"]);
    }
}
