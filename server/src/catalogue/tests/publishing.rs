//! What is published when, and what is not.

use super::*;
use lookaside_core::model::{DropCategory, DropShare};

#[tokio::test(start_paused = true)]
async fn a_removed_backend_leaves_at_once_and_a_new_one_joins_after_quiet() {
    let (catalogue, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let mut plans = Plans::of(&service);
    assert_eq!(plans.next_listed().await, 2);
    tokio::time::advance(Duration::from_secs(1)).await;

    let start = Instant::now();
    catalogue.contribute(service.name(), SourceKind::File, backends(&[(1, 1.0)]));
    assert_eq!(plans.next_listed().await, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);

    catalogue.contribute(
        service.name(),
        SourceKind::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    assert_eq!(plans.next_listed().await, 2);
    // The paused clock ticks in milliseconds.
    let waited = start.elapsed().as_millis();
    assert!((100..=102).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn the_first_join_after_quiet_is_listed_at_once_and_the_others_together() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let mut plans = Plans::of(&service);
    plans.next().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let start = Instant::now();
    for count in 2..=10 {
        let known: Vec<(u8, f64)> = (1..=count).map(|host| (host, 1.0)).collect();
        catalogue.contribute(service.name(), SourceKind::File, backends(&known));
        if count == 2 {
            assert_eq!(plans.next_listed().await, 2);
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(plans.next_listed().await, 10);
    // The last came 80 ms after the first, and was followed by 100 ms of quiet.
    let waited = start.elapsed().as_millis();
    assert!((180..=182).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn what_one_edit_changes_of_a_service_is_one_list() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let mut plans = Plans::of(&service);
    plans.next().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut changed = entry(GREETER);
    let category = DropCategory::new("maintenance").unwrap();
    changed.settings.drops = vec![DropShare::new(category, 0.5).unwrap()];
    let config = CatalogueConfig {
        services: vec![changed],
    };
    let known = backends(&[(1, 1.0), (2, 1.0)]);
    let version = service.snapshot().unwrap().version;
    catalogue.configure_with(config, [(name(GREETER), known)].into());
    let view = service.view();
    assert_eq!(view.input().settings.drops.len(), 1);
    assert_eq!(
        view.input().contributions[&SourceKind::File.into()]
            .members
            .len(),
        2
    );
    plans.next().await;
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
    let (catalogue, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let mut plans = Plans::of(&service);
    plans.next().await;
    let start = Instant::now();
    let known = [(1, 1.0), (2, 1.0), (3, 1.0)];
    catalogue.contribute(service.name(), SourceKind::File, backends(&known));
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
        catalogue.report(service.name(), "10.0.0.1:80".parse().unwrap(), failing);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if listed(&service.snapshot().unwrap()) == 3 {
            break;
        }
    }
    assert_eq!(plans.next_listed().await, 3);
    let waited = start.elapsed().as_millis();
    assert!((100..=122).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_new_is_not_published() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let version = service.snapshot().unwrap().version;
    catalogue.contribute(service.name(), SourceKind::File, backends(&[(1, 1.0)]));
    catalogue.mark_stale(service.name(), SourceKind::File);
    let newer = timeout(Duration::from_secs(60), service.newer_than(version)).await;
    assert!(newer.is_err());
    assert_eq!(service.snapshot().unwrap().plan.members.len(), 1);
}
