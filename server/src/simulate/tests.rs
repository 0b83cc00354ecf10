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
