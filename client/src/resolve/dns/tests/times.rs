//! When it is looked again.

use super::*;

#[tokio::test(start_paused = true)]
async fn looks_that_fail_are_repeated_with_growing_pauses_until_one_does_not() {
    let fake = Fake::default();
    fake.set("A a.test", Reply::Fails("no luck"));
    let start = Instant::now();
    let mut stream = run(fake.clone().looks(false), Reresolve::default());
    let error = next(&mut stream).await.unwrap_err();
    assert!(error.contains("no luck"), "{error}");
    // The same error is no news.
    assert!(
        timeout(Duration::from_secs(60), next(&mut stream))
            .await
            .is_err()
    );
    let asked = fake.asked("A a.test", start);
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut wanted = 1.0;
    for pause in &pauses {
        assert!(
            *pause >= wanted * 0.79 && *pause <= wanted * 1.21,
            "{pauses:?}"
        );
        wanted *= 1.6;
    }
    assert!(pauses.len() >= 5, "{pauses:?}");
    fake.set("A a.test", ips(&[1]));
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    let looks = fake.asked("A a.test", start).len();
    assert!(
        timeout(Duration::from_secs(3600), next(&mut stream))
            .await
            .is_err()
    );
    assert_eq!(fake.asked("A a.test", start).len(), looks);
}

#[tokio::test(start_paused = true)]
async fn a_wish_leads_to_another_look() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(false), reresolve.clone());
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    fake.set("A a.test", ips(&[2]));
    fake.set(SRV, srv(&["lb.test"]));
    fake.set("A lb.test.", ips(&[9]));
    reresolve.request();
    assert_eq!(settled(&mut stream).await, found(&[2], &[9], false));
}

#[tokio::test(start_paused = true)]
async fn early_wishes_wait_for_the_interval_and_count_once() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    let start = Instant::now();
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(false), reresolve.clone());
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    for _ in 0..10 {
        reresolve.request();
        assert!(
            timeout(Duration::from_secs(1), next(&mut stream))
                .await
                .is_err()
        );
    }
    assert_eq!(fake.asked("A a.test", start), [0.0]);
    assert!(
        timeout(Duration::from_secs(3600), next(&mut stream))
            .await
            .is_err()
    );
    let asked = fake.asked("A a.test", start);
    assert_eq!(asked.len(), 2);
    assert!((24.0..=30.0).contains(&asked[1]), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wish_after_the_interval_is_fulfilled_at_once() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    let start = Instant::now();
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(false), reresolve.clone());
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    assert!(
        timeout(Duration::from_secs(40), next(&mut stream))
            .await
            .is_err()
    );
    fake.set("A a.test", ips(&[2]));
    reresolve.request();
    assert_eq!(settled(&mut stream).await, found(&[2], &[], false));
    assert_eq!(fake.asked("A a.test", start), [0.0, 40.0]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_interval_counts_from_the_look_that_was_good() {
    let fake = Fake::default();
    fake.set("A a.test", Reply::Fails("no luck"));
    let start = Instant::now();
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(false), reresolve.clone());
    next(&mut stream).await.unwrap_err();
    fake.set("A a.test", ips(&[1]));
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    reresolve.request();
    assert!(
        timeout(Duration::from_secs(3600), next(&mut stream))
            .await
            .is_err()
    );
    let asked = fake.asked("A a.test", start);
    let [_, good, again] = asked[..] else {
        panic!("{asked:?}")
    };
    assert!((24.0..=30.0).contains(&(again - good)), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_ends_though_nothing_is_ever_answered() {
    let fake = Fake::default();
    for question in ["A a.test", SRV, TXT] {
        fake.set(question, Reply::Never);
    }
    let start = Instant::now();
    let mut stream = run(fake.looks(true), Reresolve::default());
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(start.elapsed(), LOOK_TIMEOUT);
    assert!(error.contains("a.test") && error.contains("30s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_looked_up_again_when_its_ttl_is_over_if_that_is_wanted() {
    for (ttl, shortest, longest) in [
        (None, 24.0, 30.0),
        (Some(3600), 24.0, 30.0),
        (Some(10), 8.0, 10.0),
        (Some(0), 1.6, 2.0),
    ] {
        let fake = Fake::default();
        fake.set("A a.test", ips(&[1]));
        fake.set(SRV, srv(&["lb.test"]));
        fake.set("A lb.test.", ips(&[9]));
        fake.0.lock().unwrap().ttl = ttl.map(Duration::from_secs);
        let start = Instant::now();
        let looks = Looks {
            by_ttl: true,
            ..fake.clone().looks(false)
        };
        let mut stream = run(looks, Reresolve::default());
        assert_eq!(settled(&mut stream).await, found(&[1], &[9], false));
        fake.set(SRV, srv(&["lb.test", "lb2.test"]));
        fake.set("A lb2.test.", ips(&[8]));
        assert_eq!(settled(&mut stream).await, found(&[1], &[9, 8], false));
        let after = start.elapsed().as_secs_f64();
        assert!((shortest..=longest).contains(&after), "{ttl:?}: {after}");
    }
}
