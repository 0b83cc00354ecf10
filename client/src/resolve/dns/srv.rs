//! SRV records, and the order in which RFC 2782 wants their targets tried.

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvTarget {
    /// Lower is to be tried first.
    pub priority: u16,
    /// Share among records of one priority.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// Host of the service, without trailing dot.
    pub host: String,
}

/// Puts `targets` into the order in which to try them: by priority, and within
/// one at random, each next one drawn by its share of the weight that is left.
/// A target of weight 0 comes behind those that have some, but for one case in
/// as many as there is weight.
pub(super) fn order(targets: &mut [SrvTarget], rng: &mut fastrand::Rng) {
    rng.shuffle(targets);
    targets.sort_by_key(|srv| (srv.priority, srv.weight != 0));
    for group in targets.chunk_by_mut(|a, b| a.priority == b.priority) {
        let mut left: u64 = group.iter().map(|srv| u64::from(srv.weight)).sum();
        for first in 0..group.len() {
            let drawn = rng.u64(0..=left);
            let mut sum = 0;
            let chosen = group[first..].iter().position(|srv| {
                sum += u64::from(srv.weight);
                sum >= drawn
            });
            // Behind the chosen one the order stays: weight 0 first.
            group[first..=first + chosen.unwrap_or(0)].rotate_right(1);
            left -= u64::from(group[first].weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(priority: u16, weight: u16, host: &str) -> SrvTarget {
        SrvTarget {
            priority,
            weight,
            port: 1,
            host: host.to_owned(),
        }
    }

    /// How often each host is first, of 10 000 draws.
    fn firsts(targets: &[SrvTarget]) -> std::collections::BTreeMap<String, usize> {
        let mut firsts = std::collections::BTreeMap::new();
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            let mut targets = targets.to_vec();
            order(&mut targets, &mut rng);
            *firsts.entry(targets[0].host.clone()).or_default() += 1;
        }
        firsts
    }

    #[test]
    fn a_lower_priority_is_tried_first_whatever_its_weight() {
        let all = [target(2, 100, "c"), target(0, 0, "a"), target(1, 9, "b")];
        let mut ordered = all.to_vec();
        order(&mut ordered, &mut fastrand::Rng::with_seed(7));
        let hosts: Vec<_> = ordered.iter().map(|srv| &*srv.host).collect();
        assert_eq!(hosts, ["a", "b", "c"]);
    }

    #[test]
    fn within_a_priority_the_weight_is_the_share_of_first_places() {
        let firsts = firsts(&[target(0, 10, "a"), target(0, 60, "b"), target(0, 30, "c")]);
        assert!((900..=1200).contains(&firsts["a"]), "{firsts:?}");
        assert!((5700..=6300).contains(&firsts["b"]), "{firsts:?}");
        assert!((2700..=3300).contains(&firsts["c"]), "{firsts:?}");
    }

    #[test]
    fn without_weights_all_are_alike() {
        let firsts = firsts(&[target(0, 0, "a"), target(0, 0, "b"), target(0, 0, "c")]);
        for (host, count) in firsts {
            assert!((3000..=3700).contains(&count), "{host}: {count}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_priorities_ascend(
            targets in prop::collection::vec((0u16..4, any::<u16>()), 0..40),
            seed: u64,
        ) {
            let targets: Vec<_> = targets
                .iter()
                .enumerate()
                .map(|(i, (priority, weight))| target(*priority, *weight, &i.to_string()))
                .collect();
            let mut ordered = targets.clone();
            order(&mut ordered, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(ordered.is_sorted_by_key(|srv| srv.priority));
            for srv in &targets {
                prop_assert_eq!(ordered.iter().filter(|o| *o == srv).count(), 1);
            }
        }
    }
}
