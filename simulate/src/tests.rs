//! What a simulation promises.

use std::time::Duration;

use super::*;

fn short() -> Scenario {
    Scenario {
        duration: Duration::from_secs(200),
        backends: 10,
        clients: 20,
        ..Scenario::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_digits() {
    let once = simulate(&short());
    assert_eq!(once, simulate(&short()));
    let other = Scenario { seed: 2, ..short() };
    assert_ne!(once, simulate(&other));
}

#[test]
fn feedback_is_level_where_round_robin_is_not() {
    let outcomes = simulate(&Scenario {
        duration: Duration::from_secs(400),
        ..short()
    });
    let [round_robin, weighted, feedback] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(round_robin.mean_max_over_avg > 1.3);
    assert!(weighted.mean_max_over_avg < round_robin.mean_max_over_avg);
    assert!(feedback.mean_max_over_avg < 1.10, "{feedback:?}");
    assert!(feedback.quiet_ticks >= 0.6 && feedback.failed_share < 0.001);
    assert_eq!(round_robin.quiet_ticks, 1.0, "nothing to push");
}

#[test]
fn a_balancer_that_restarts_with_its_state_is_not_noticed() {
    let restart = Event {
        at: Duration::from_secs(300),
        kind: EventKind::RestartBalancer,
        share: 1.0,
        by: 0.0,
    };
    let outcomes = simulate(&Scenario {
        duration: Duration::from_secs(420),
        policies: vec![PolicyName::Feedback],
        events: vec![restart],
        ..short()
    });
    let (first, then) = outcomes[0].after_event.unwrap();
    assert!(first < 1.14 && then < 1.14, "{first} {then}");
}

#[test]
fn a_scenario_is_drawn_with_its_events() {
    let slow = Event {
        at: Duration::from_secs(100),
        kind: EventKind::Slow,
        share: 0.2,
        by: 0.4,
    };
    let scenario = Scenario {
        name: "a < b & c".to_owned(),
        events: vec![slow],
        ..short()
    };
    let svg = plot(&scenario, &simulate(&scenario));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("a &lt; b &amp; c"));
    assert_eq!(svg.matches("stroke-dasharray").count(), 3, "one a policy");
    assert!(!svg.contains("NaN"));
}

#[test]
fn every_kind_of_event_runs() {
    for kind in EventKind::ALL {
        let event = Event {
            at: Duration::from_secs(60),
            kind,
            share: 0.3,
            by: 0.5,
        };
        let outcomes = simulate(&Scenario {
            duration: Duration::from_secs(120),
            policies: vec![PolicyName::Feedback],
            events: vec![event],
            ..short()
        });
        let outcome = &outcomes[0];
        assert!(outcome.max_over_avg.is_finite(), "{kind:?}: {outcome:?}");
    }
}

/// A scenario of the repository, made small enough for a test.
fn small(name: &str, backends: usize, seconds: u64) -> Scenario {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/scenarios");
    let text = std::fs::read_to_string(format!("{folder}/{name}.toml")).unwrap();
    let scenario = Scenario::parse(&text, name).unwrap();
    Scenario {
        backends,
        clients: 50,
        duration: Duration::from_secs(seconds),
        policies: vec![PolicyName::Feedback],
        ..scenario
    }
}

/// The bars that runs of these seeds do not meet.
fn not_met(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Vec<Verdict> {
    let runs = seeds.map(|seed| {
        simulate(&Scenario {
            seed,
            ..scenario.clone()
        })
    });
    let verdicts = judge(&scenario.bars, &runs.collect::<Vec<_>>());
    assert_eq!(verdicts.len(), scenario.bars.len());
    verdicts.into_iter().filter(|v| !v.is_met()).collect()
}

#[test]
fn the_bars_of_small_services_hold() {
    for name in ["backends-3", "backends-5", "backends-10"] {
        let count = name.trim_start_matches("backends-").parse().unwrap();
        let missed = not_met(&small(name, count, 700), 1001..1003);
        assert_eq!(missed, [], "{name}");
    }
}

#[test]
fn the_bars_on_who_lies_or_fails_hold() {
    for name in ["sinkhole", "silent-sinkhole", "liar", "liar-tenth"] {
        let missed = not_met(&small(name, 20, 1080), 1001..1003);
        assert_eq!(missed, [], "{name}");
    }
}

#[test]
fn every_scenario_of_the_repository_is_read_and_has_bars_of_its_own() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/scenarios");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::parse(&text, &name).unwrap();
        assert_eq!(scenario.name, name);
        let without = ["hardware"].contains(&name.as_str());
        assert_eq!(scenario.bars.is_empty(), without, "{name}");
        count += 1;
    }
    assert!(count >= 29, "{count}");
}
