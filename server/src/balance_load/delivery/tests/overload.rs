//! A service that has more calls than its backends can take.

use super::*;
use lookaside_core::model::{DropShare, OverloadDrops};
use lookaside_core::weights::{RawReport, Report, ReportSource};

/// A backend that reports this utilization each second.
async fn reporting(catalogue: &Catalogue, utilization: f64, seconds: u32) {
    let raw = RawReport {
        source: ReportSource::Registration,
        cpu_utilization: 0.0,
        application_utilization: utilization,
        named: &[],
        qps: 100.0,
        eps: 0.0,
    };
    let backend = "10.0.0.1:80".parse().unwrap();
    for _ in 0..seconds {
        let report = Report::new(&raw, &[]).unwrap();
        catalogue.report(&name(GREETER), backend, report);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The share of calls that the newest list drops, and the metric.
async fn dropped(stream: &mut Subscription, registry: &Registry) -> f64 {
    let group = next_group(stream).await;
    let Listing::Servers(lists) = &group.listing else {
        panic!("no list");
    };
    assert_eq!(lists.spec().backends.len(), 1, "backends are listed, too");
    let drops = &lists.spec().drops;
    let of_overload = |drop: &&DropShare| drop.category.as_str() == OverloadDrops::CATEGORY;
    assert_eq!(drops.iter().filter(of_overload).count(), drops.len());
    let share = drops.first().map_or(0.0, |drop| drop.share);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, registry).unwrap();
    let series = "overload_drop_share{service=\"greeter.test\"} ";
    let metric = page.lines().find_map(|line| line.strip_prefix(series));
    assert_eq!(metric.unwrap().parse::<f64>().unwrap(), share);
    share
}

#[tokio::test(start_paused = true)]
async fn calls_are_dropped_while_backends_report_more_than_they_can_take() {
    let mut registry = Registry::default();
    let catalogue = Catalogue::new(CatalogueMetrics::register(&mut registry));
    let mut service = entry(GREETER);
    service.settings.overload = Some(OverloadDrops::new(0.9, 0.2).unwrap());
    catalogue.configure(CatalogueConfig {
        services: vec![service],
    });
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let front = Front::default();
    let mut stream = front.subscribe(&service);
    assert_eq!(dropped(&mut stream, &registry).await, 0.0);

    // A peak of seconds drops nothing.
    let began = Instant::now();
    let first = async {
        assert!(dropped(&mut stream, &registry).await > 0.0);
        began.elapsed().as_secs()
    };
    let (waited, ()) = tokio::join!(first, reporting(&catalogue, 1.5, 120));
    assert!((15..=30).contains(&waited), "{waited} s");
    while dropped(&mut stream, &registry).await < 0.19 {}

    reporting(&catalogue, 0.1, 300).await;
    while dropped(&mut stream, &registry).await > 0.0 {}
}
