//! Backends that were not healthy for a while and are the same as before.

use super::*;

#[test]
fn a_service_that_was_out_as_a_whole_has_its_weights_again() {
    let capacity = [200.0, 400.0, 600.0, 1200.0];
    let mut run = Loop::new(feedback(), &capacity, &[1.0; 4]);
    run.calls = 1200.0;
    run.ticks(60);
    assert!(run.max_over_avg() < 1.05, "{}", run.max_over_avg());
    // A health check that was wrong about all of them: they stay listed, for
    // there is nobody else.
    run.seconds += 5.0;
    let out = run.candidates.iter().map(|c| Candidate {
        serving: false,
        ..*c
    });
    let out: Vec<Candidate> = out.collect();
    let now = run.now();
    run.weigher.weigh(&out, &run.settings, now);
    run.step();
    for _ in 0..30 {
        assert!(run.max_over_avg() < 1.1, "{}", run.max_over_avg());
        run.ticks(1);
    }
}

#[test]
fn who_returns_gets_no_more_on_probation_than_it_had() {
    let mut capacity = [400.0; 10];
    capacity[3] = 1000.0;
    let mut run = Loop::new(feedback(), &capacity, &[1.0; 10]);
    run.ticks(60);
    let before = run.factors[3];
    assert!(before > 1.8, "{before}");
    let now = run.now();
    let mut out = run.candidates.clone();
    out[3].serving = false;
    out[3].listed = false;
    run.weigher.weigh(&out, &run.settings, now);
    // It may have become larger meanwhile, which it has to show first.
    run.capacity[3] = 2000.0;
    run.step();
    assert!(run.factors[3] < 0.15 * before, "{}", run.factors[3]);
    for _ in 0..17 {
        run.ticks(1);
        assert!(run.factors[3] < 1.06 * before, "{}", run.factors[3]);
    }
    assert!(run.factors[3] > 0.9 * before, "{}", run.factors[3]);
}
