//! Which plans are news for streams.

use super::*;
use lookaside_core::model::Labels;

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
    let catalogue = Catalogue::new(CatalogueMetrics::register(&mut registry));
    catalogue.configure(CatalogueConfig {
        services: vec![entry(GREETER)],
    });
    let greeter = name(GREETER);
    catalogue.contribute(&greeter, SourceKind::File, labeled("v1", &[(1, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let front = Front::default();
    let mut stream = front.subscribe(&service);
    next_group(&mut stream).await;
    tokio::time::advance(Duration::from_secs(1)).await;

    let (start, before) = (Instant::now(), service.snapshot().unwrap());
    catalogue.contribute(&greeter, SourceKind::File, labeled("v2", &[(1, 1.0)]));
    service.newer_than(before.version).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let after = service.snapshot().unwrap();
    assert_eq!(
        after.plan.members[0].labels,
        Labels::new([("version", "v2")]).unwrap()
    );
    assert!(news(&mut stream).await.is_none());
    let publishes = "publishes_total{service=\"greeter.test\"}";
    assert_eq!(metric(&registry, publishes), Some(1.0));

    let start = Instant::now();
    catalogue.contribute(
        &greeter,
        SourceKind::File,
        labeled("v2", &[(1, 1.0), (2, 1.0)]),
    );
    assert_eq!(listed(&next_group(&mut stream).await), 2);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(metric(&registry, publishes), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_gets_only_the_newest_list() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let mut stream = front.subscribe(&service);
    next_group(&mut stream).await;
    for backend in 2..5 {
        let version = service.snapshot().unwrap().version;
        let known: Vec<(u8, f64)> = (1..=backend).map(|b| (b, 1.0)).collect();
        catalogue.contribute(service.name(), SourceKind::File, backends(&known));
        service.newer_than(version).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(listed(&next_group(&mut stream).await), 4);
    assert!(news(&mut stream).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_bytes_while_it_does_not_change() {
    let (catalogue, service) = serving(&[(1, 1.0), (2, 0.0)]).await;
    let front = Front::default();
    let before = next_group(&mut front.subscribe(&service)).await;
    let version = service.snapshot().unwrap().version;
    catalogue.contribute(
        service.name(),
        SourceKind::File,
        backends(&[(1, 1.0), (2, 0.0), (3, 0.0)]),
    );
    service.newer_than(version).await;
    assert_eq!(service.snapshot().unwrap().plan.members.len(), 3);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let after = next_group(&mut front.subscribe(&service)).await;
    assert!(Arc::ptr_eq(&before, &after));
}
