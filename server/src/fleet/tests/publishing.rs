//! What is published when, and what is not.

use super::*;
use lookaside_core::model::{DropCategory, DropShare, Labels};

#[tokio::test(start_paused = true)]
async fn a_removed_backend_leaves_at_once_and_a_new_one_joins_after_quiet() {
    let (fleet, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let mut stream = subscribe(&service);
    assert_eq!(listed(&next_group(&mut stream).await), 2);
    tokio::time::advance(Duration::from_secs(1)).await;

    let start = Instant::now();
    fleet.contribute(service.name(), Source::File, backends(&[(1, 1.0)]));
    assert_eq!(listed(&next_group(&mut stream).await), 1);
    assert_eq!(start.elapsed(), Duration::ZERO);

    fleet.contribute(
        service.name(),
        Source::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    assert_eq!(listed(&next_group(&mut stream).await), 2);
    // The paused clock ticks in milliseconds.
    let waited = start.elapsed().as_millis();
    assert!((100..=102).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn the_first_join_after_quiet_is_listed_at_once_and_the_others_together() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let start = Instant::now();
    for count in 2..=10 {
        let known: Vec<(u8, f64)> = (1..=count).map(|host| (host, 1.0)).collect();
        fleet.contribute(service.name(), Source::File, backends(&known));
        if count == 2 {
            assert_eq!(listed(&next_group(&mut stream).await), 2);
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(listed(&next_group(&mut stream).await), 10);
    // The last came 80 ms after the first, and was followed by 100 ms of quiet.
    let waited = start.elapsed().as_millis();
    assert!((180..=182).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn what_one_edit_changes_of_a_service_is_one_list() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut changed = entry(GREETER);
    let category = DropCategory::new("maintenance").unwrap();
    changed.settings.drops = vec![DropShare::new(category, 0.5).unwrap()];
    let config = FleetConfig {
        services: vec![changed],
    };
    let known = backends(&[(1, 1.0), (2, 1.0)]);
    let version = service.snapshot().unwrap().version;
    fleet.configure_with(config, [(name(GREETER), known)].into());
    let view = service.view();
    assert_eq!(view.input().settings.drops.len(), 1);
    assert_eq!(view.input().contributions[&Source::File].members.len(), 2);
    next_group(&mut stream).await;
    let snapshot = service.snapshot().unwrap();
    assert_eq!(snapshot.version, version + 1);
    assert_eq!(
        (snapshot.plan.drops.len(), snapshot.plan.members.len()),
        (1, 2)
    );
    let newer = timeout(Duration::from_secs(60), service.newer_than(version + 1)).await;
    assert!(newer.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_published_does_not_wait_longer_for_being_planned_again() {
    let (fleet, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    let start = Instant::now();
    let known = [(1, 1.0), (2, 1.0), (3, 1.0)];
    fleet.contribute(service.name(), Source::File, backends(&known));
    let raw = RawReport {
        source: ReportSource::Registration,
        cpu_utilization: 0.3,
        application_utilization: 0.0,
        named: &[],
        qps: 10.0,
        eps: 10.0,
    };
    let failing = Report::new(&raw, &[]).unwrap();
    for _ in 0..20 {
        // Has the service planned again, and changes nothing of the lists.
        fleet.report(service.name(), "10.0.0.1:80".parse().unwrap(), failing);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if listed(&service.snapshot().unwrap().groups[0]) == 3 {
            break;
        }
    }
    assert_eq!(listed(&next_group(&mut stream).await), 3);
    let waited = start.elapsed().as_millis();
    assert!((100..=122).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn a_label_is_told_to_no_client_and_keeps_no_change_waiting() {
    let labeled = |version: &'static str, known: &[(u8, f64)]| {
        let mut contribution = backends(known);
        for fields in Arc::make_mut(&mut contribution.members).values_mut() {
            fields.labels = Labels::new([("version", version)]).unwrap();
        }
        contribution
    };
    let mut registry = Registry::default();
    let fleet = Fleet::new(FleetMetrics::register(&mut registry));
    fleet.configure(FleetConfig {
        services: vec![entry(GREETER)],
    });
    let greeter = name(GREETER);
    fleet.contribute(&greeter, Source::File, labeled("v1", &[(1, 1.0)]));
    let service = fleet.resolve(&requested(GREETER)).await.unwrap();
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    tokio::time::advance(Duration::from_secs(1)).await;

    let (start, before) = (Instant::now(), service.snapshot().unwrap());
    fleet.contribute(&greeter, Source::File, labeled("v2", &[(1, 1.0)]));
    service.newer_than(before.version).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let after = service.snapshot().unwrap();
    assert_eq!(
        after.plan.members[0].labels,
        Labels::new([("version", "v2")]).unwrap()
    );
    assert!(Arc::ptr_eq(&before.groups[0], &after.groups[0]));
    let nothing = poll_fn(|cx| Poll::Ready(stream.poll_next(cx))).await;
    assert!(nothing.is_pending());
    let publishes = "publishes_total{service=\"greeter.test\"}";
    assert_eq!(metric(&registry, publishes), Some(1.0));

    fleet.contribute(&greeter, Source::File, labeled("v2", &[(1, 1.0), (2, 1.0)]));
    assert_eq!(listed(&next_group(&mut stream).await), 2);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(metric(&registry, publishes), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_gets_only_the_newest_list() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    for backend in 2..5 {
        let version = service.snapshot().unwrap().version;
        let known: Vec<(u8, f64)> = (1..=backend).map(|b| (b, 1.0)).collect();
        fleet.contribute(service.name(), Source::File, backends(&known));
        service.newer_than(version).await;
    }
    assert_eq!(listed(&next_group(&mut stream).await), 4);
    let again = poll_fn(|cx| Poll::Ready(stream.poll_next(cx))).await;
    assert!(again.is_pending());
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_new_is_not_published() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let version = service.snapshot().unwrap().version;
    fleet.contribute(service.name(), Source::File, backends(&[(1, 1.0)]));
    fleet.mark_stale(service.name(), Source::File);
    let newer = timeout(Duration::from_secs(60), service.newer_than(version)).await;
    assert!(newer.is_err());
    assert_eq!(service.snapshot().unwrap().plan.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_bytes_while_it_does_not_change() {
    let (fleet, service) = serving(&[(1, 1.0), (2, 0.0)]).await;
    let before = service.snapshot().unwrap();
    fleet.contribute(
        service.name(),
        Source::File,
        backends(&[(1, 1.0), (2, 0.0), (3, 0.0)]),
    );
    service.newer_than(before.version).await;
    let after = service.snapshot().unwrap();
    assert_eq!(after.plan.members.len(), 3);
    assert!(Arc::ptr_eq(&before.groups[0], &after.groups[0]));
}
