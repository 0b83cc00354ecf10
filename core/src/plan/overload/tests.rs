//! Drops rise and fall smoothly, and stop at their bound.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn at(seconds: f64) -> Moment {
    Moment::new(Duration::from_secs_f64(seconds))
}

fn load(utilization: f64, covered: f64) -> ServiceLoad {
    ServiceLoad {
        utilization: Some(utilization),
        covered,
        time_constant: 10.0,
        window: 5.0,
    }
}

const UNHEARD: ServiceLoad = ServiceLoad {
    utilization: None,
    covered: 0.0,
    time_constant: 0.0,
    window: 0.0,
};

fn drops() -> OverloadDrops {
    OverloadDrops::new(0.9, 0.5).unwrap()
}

/// A service whose backends queue, or shed, what they cannot do; reports come
/// `delay` ticks late, smoothed over ten seconds.
#[derive(Debug)]
struct Plant {
    overload: Overload,
    drops: OverloadDrops,
    /// What the backends are asked for, as a share of what they can do.
    demand: f64,
    /// Whether what is beyond a backend's limit shows, as failures.
    sheds: bool,
    smoothed: f64,
    late: VecDeque<f64>,
    delay: usize,
    seconds: f64,
    share: f64,
    pushes: u32,
}

impl Plant {
    fn new(drops: OverloadDrops, delay: usize) -> Self {
        Self {
            overload: Overload::default(),
            drops,
            demand: 0.5,
            sheds: true,
            smoothed: 0.5,
            late: VecDeque::new(),
            delay,
            seconds: 0.0,
            share: 0.0,
            pushes: 0,
        }
    }

    fn meets(&self) -> f64 {
        self.demand * (1.0 - self.share)
    }

    fn tick(&mut self) {
        self.seconds += 5.0;
        let meets = self.meets();
        let shown = match (meets > 1.0, self.sheds) {
            (true, true) => 1.0 + (1.0 - 1.0 / meets),
            (true, false) => 1.0,
            _ => meets,
        };
        self.late.push_back(shown);
        if self.late.len() > self.delay {
            let arrived = self.late.pop_front().unwrap();
            self.smoothed += pull(5.0, 10.0) * (arrived - self.smoothed);
        }
        let smoothed = self.smoothed;
        let now = at(self.seconds);
        let share = self
            .overload
            .step(|| load(smoothed, 1.0), Some(self.drops), now);
        if share != self.share {
            self.pushes += 1;
        }
        self.share = share;
        self.overload.published(share, now);
    }

    /// So many seconds; the most and the least that was dropped.
    fn run(&mut self, seconds: u32) -> (f64, f64) {
        let mut range = (self.share, self.share);
        for _ in 0..seconds / 5 {
            self.tick();
            range = (range.0.max(self.share), range.1.min(self.share));
        }
        range
    }
}

#[test]
fn a_peak_of_seconds_drops_nothing() {
    let mut plant = Plant::new(drops(), 0);
    plant.run(60);
    plant.demand = 1.5;
    assert_eq!(plant.run(15), (0.0, 0.0));
    plant.demand = 0.5;
    assert_eq!(plant.run(300), (0.0, 0.0));
}

#[test]
fn the_excess_is_dropped_and_no_more_however_late_reports_are() {
    for delay in 0..=4 {
        for sheds in [true, false] {
            for demand in [1.0, 1.2, 1.5] {
                let mut plant = Plant::new(drops(), delay);
                plant.sheds = sheds;
                plant.run(60);
                plant.demand = demand;
                let (most, _) = plant.run(600);
                let wanted = 1.0 - 0.9 / demand;
                let what = format!("{delay} ticks late, {demand}, sheds: {sheds}");
                assert!(most <= wanted + 0.06, "{what}: {most} of {wanted}");
                let pushes = plant.pushes;
                let (high, low) = plant.run(600);
                assert!(high - low <= 0.03, "{what}: {low} to {high}");
                assert!((plant.meets() - 0.9).abs() <= 0.03, "{what}: {plant:?}");
                assert!(plant.pushes - pushes <= 6, "{what}: quiet at last");
            }
        }
    }
}

#[test]
fn it_ends_when_the_excess_does_and_falls_step_by_step() {
    for delay in 0..=4 {
        let mut plant = Plant::new(drops(), delay);
        plant.demand = 1.6;
        plant.run(900);
        assert!(plant.share > 0.4, "{plant:?}");
        plant.demand = 0.6;
        let mut last = plant.share;
        for _ in 0..60 {
            plant.tick();
            assert!(plant.share <= last && last - plant.share <= 0.12);
            last = plant.share;
        }
        assert_eq!(plant.share, 0.0, "{delay} ticks late");
        assert_eq!(plant.overload.observe(at(plant.seconds)).dropping, None);
    }
}

#[test]
fn few_reports_hold_it_and_none_end_it() {
    let mut plant = Plant::new(drops(), 0);
    plant.demand = 1.4;
    plant.run(600);
    let (held, mut now) = (plant.share, plant.seconds);
    let mut step = |overload: &mut Overload, load: ServiceLoad| {
        now += 5.0;
        overload.step(|| load, Some(drops()), at(now))
    };
    let mut few = plant.overload.clone();
    for _ in 0..5 {
        assert_eq!(step(&mut few, load(9.0, 0.4)), held);
    }
    let ticks = (0..20).map(|_| step(&mut few, load(9.0, 0.4)));
    assert_eq!(
        ticks.last(),
        Some(0.0),
        "held for half a minute, then let go"
    );
    let mut none = plant.overload;
    let ticks = (0..9).map(|_| step(&mut none, UNHEARD));
    assert_eq!(ticks.last(), Some(0.0), "by a twelfth in five seconds");
}

#[test]
fn without_a_bound_nothing_is_dropped_and_nothing_remembered() {
    let mut plant = Plant::new(drops(), 0);
    plant.demand = 2.0;
    plant.run(300);
    let now = at(plant.seconds);
    assert!(plant.overload.step(|| UNHEARD, Some(drops()), now) > 0.0);
    assert_eq!(plant.overload.step(|| UNHEARD, None, now), 0.0);
    assert_eq!(plant.overload, Overload::default());
}

#[test]
fn a_restart_goes_on_with_the_share_it_had() {
    let mut plant = Plant::new(drops(), 2);
    plant.demand = 1.5;
    plant.run(200);
    let now = at(plant.seconds);
    let mut saved = plant.overload.clone();
    saved.rebase(now, Moment::ZERO);
    let text = serde_json::to_string(&saved).unwrap();
    let mut loaded: Overload = serde_json::from_str(&text).unwrap();
    assert!(loaded.is_sound());
    loaded.rebase(Moment::ZERO, now);
    assert_eq!(loaded, plant.overload);
}

#[test]
fn overload_drops_its_share_of_what_the_operator_leaves() {
    let category = |name| DropCategory::new(name).unwrap();
    let operator = [DropShare::new(category("maintenance"), 0.2).unwrap()];
    let both = with_overload(&operator, 0.5);
    assert_eq!(both.len(), 2);
    assert_eq!(both[1].category, category("overload"));
    assert!((both[1].share - 0.4).abs() < 1e-12);
    assert_eq!(with_overload(&operator, 0.0), operator);
    let all = [DropShare::new(category("all"), 1.0).unwrap()];
    assert_eq!(with_overload(&all, 0.5), all);
}

fn any_load() -> impl Strategy<Value = ServiceLoad> {
    let number = || prop_oneof![any::<f64>(), 0.0..3.0, Just(f64::NAN)];
    (proptest::option::of(number()), number(), number(), number()).prop_map(|parts| ServiceLoad {
        utilization: parts.0,
        covered: parts.1,
        time_constant: parts.2,
        window: parts.3,
    })
}

proptest! {
    #[test]
    fn whatever_is_reported_it_is_a_share_below_the_most(
        steps in proptest::collection::vec((any_load(), 0.0..10_000.0), 1..200),
        utilization in 0.01..=1.0,
        max in 0.001..0.999,
    ) {
        let drops = OverloadDrops::new(utilization, max).unwrap();
        let mut overload = Overload::default();
        for (load, seconds) in steps {
            let share = overload.step(|| load, Some(drops), at(seconds));
            prop_assert!((0.0..=max).contains(&share), "{share}");
            prop_assert!(overload.is_sound(), "{overload:?}");
            overload.published(share, at(seconds));
        }
    }

    #[test]
    fn who_is_below_the_bound_for_long_drops_nothing(
        before in proptest::collection::vec(any_load(), 0..60),
        utilization in 0.1..=1.0,
        max in 0.001..0.99,
        below in 0.0..0.9,
    ) {
        let drops = OverloadDrops::new(utilization, max).unwrap();
        let mut overload = Overload::default();
        let count = before.len();
        let calm = std::iter::repeat_n(load(below * utilization, 1.0), 240);
        for (tick, load) in before.into_iter().chain(calm).enumerate() {
            let now = at(5.0 * tick as f64);
            let share = overload.step(|| load, Some(drops), now);
            overload.published(share, now);
            if tick == count + 239 {
                prop_assert_eq!(share, 0.0);
            }
        }
    }

    #[test]
    fn it_settles_at_the_bound_for_any_demand_and_delay(
        demand in 0.2..1.7,
        utilization in 0.5..=0.95,
        delay in 0usize..=4,
        sheds: bool,
    ) {
        let drops = OverloadDrops::new(utilization, 0.8).unwrap();
        let mut plant = Plant::new(drops, delay);
        plant.sheds = sheds;
        plant.demand = demand;
        plant.run(1200);
        let (high, low) = plant.run(600);
        prop_assert!(high - low <= 0.04, "{low} to {high}");
        prop_assert!(plant.meets() <= utilization + 0.04, "{}", plant.meets());
        if demand < utilization {
            prop_assert_eq!(high, 0.0);
        } else {
            prop_assert!(plant.meets() >= utilization - 0.04, "{}", plant.meets());
        }
    }
}
