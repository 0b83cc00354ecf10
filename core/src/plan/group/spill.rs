//! How calls of a zone's clients are shared among the zones of backends.
//!
//! A zone keeps its calls while its backends have the capacity; what is over
//! goes to zones with capacity left, in proportion to what they have left. So
//! every backend gets what its weight says of all calls, and no call crosses
//! zones that need not. Envoy's zone-aware routing does the same.

/// A zone may be asked for so much more than its share before it sends calls
/// away: zones that are meant to be alike hardly ever are to the last stream.
const TOLERANCE: f64 = 1.02;

/// The share of each zone's calls that goes to each zone of backends.
///
/// `demand` is each zone's share of all calls, `capacity` each zone's share of
/// all backends' weight. The zones of `demand` are the first of `capacity`;
/// behind them may stand zones that have backends, but no clients. Rows sum to 1
/// where there is any capacity.
pub(super) fn spill(demand: &[f64], capacity: &[f64]) -> Vec<Vec<f64>> {
    let wanted = |zone: usize| demand.get(zone).copied().unwrap_or_default();
    let fits = |zone: usize| wanted(zone) <= capacity[zone] * TOLERANCE;
    let left: Vec<f64> = (0..capacity.len())
        .map(|zone| (capacity[zone] - wanted(zone)).max(0.0))
        .collect();
    let rest: f64 = left.iter().sum();
    let row = |zone: usize| {
        let local = if fits(zone) && capacity[zone] > 0.0 {
            1.0
        } else if wanted(zone) > 0.0 {
            capacity[zone] / wanted(zone)
        } else {
            0.0
        };
        let others = |other: usize| {
            if rest > 0.0 {
                left[other] / rest
            } else {
                capacity[other]
            }
        };
        let away: f64 = (0..capacity.len()).filter(|o| *o != zone).map(others).sum();
        // Nobody has anything: what is over stays.
        let local = if away > 0.0 { local } else { 1.0 };
        let share = |other: usize| {
            if other == zone {
                local
            } else if local < 1.0 {
                (1.0 - local) * others(other) / away
            } else {
                0.0
            }
        };
        (0..capacity.len()).map(share).collect()
    };
    (0..demand.len()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(each: &[f64]) -> Vec<f64> {
        let sum: f64 = each.iter().sum();
        each.iter().map(|share| share / sum).collect()
    }

    #[test]
    fn what_is_over_goes_where_capacity_is_left() {
        let rows = spill(&[0.6, 0.3, 0.1], &[0.3, 0.4, 0.2, 0.1]);
        let near = |row: &[f64], wanted: [f64; 4]| {
            row.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        // Of the half that is over, the others have 0.1, 0.1 and 0.1 left.
        assert!(
            near(&rows[0], [0.5, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]),
            "{rows:?}"
        );
        assert!(near(&rows[1], [0.0, 1.0, 0.0, 0.0]));
        assert!(near(&rows[2], [0.0, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn a_zone_without_backends_gets_those_of_others() {
        assert_eq!(spill(&[0.5, 0.5], &[0.0, 1.0]), [[0.0, 1.0], [0.0, 1.0]]);
        assert_eq!(spill(&[0.0, 1.0], &[0.0, 1.0])[0], [0.0, 1.0]);
        assert_eq!(spill(&[0.0, 0.0], &[1.0, 0.0]), [[1.0, 0.0], [1.0, 0.0]]);
    }

    proptest! {
        #[test]
        fn every_zone_of_backends_gets_its_share(
            demand in proptest::collection::vec(0.0..1.0, 1..6),
            capacity in proptest::collection::vec(0.0..1.0, 6..9),
        ) {
            prop_assume!(demand.iter().sum::<f64>() > 0.01);
            prop_assume!(capacity.iter().sum::<f64>() > 0.01);
            let (demand, capacity) = (shares(&demand), shares(&capacity));
            let rows = spill(&demand, &capacity);
            for (zone, row) in rows.iter().enumerate() {
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                if demand[zone] <= capacity[zone] && capacity[zone] > 0.0 {
                    prop_assert_eq!(row[zone], 1.0);
                }
            }
            for (zone, capacity) in capacity.iter().enumerate() {
                let got: f64 = rows.iter().zip(&demand).map(|(row, d)| d * row[zone]).sum();
                prop_assert!((got - capacity).abs() < 0.021, "{got} of {capacity}");
            }
        }
    }
}
