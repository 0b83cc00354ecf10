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
