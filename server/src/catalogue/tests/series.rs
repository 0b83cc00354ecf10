//! Series of services: there from the start, gone at the end, and not before.

use super::*;

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn configure(catalogue: &Catalogue, services: &[&str]) {
    catalogue.configure(CatalogueConfig {
        services: services.iter().map(|s| entry(s)).collect(),
    });
}

fn measured() -> (Registry, Arc<Catalogue>) {
    let mut registry = Registry::default();
    let catalogue = Catalogue::new(CatalogueMetrics::register(&mut registry));
    (registry, catalogue)
}

#[tokio::test(start_paused = true)]
async fn counters_are_told_as_zero_before_anything_happens() {
    let (registry, catalogue) = measured();
    configure(&catalogue, &[GREETER]);
    for series in [
        "publishes_total{service=\"greeter.test\"}",
        "publisher_failures_total{service=\"greeter.test\"}",
        "weight_ticks_total{service=\"greeter.test\"}",
        "weight_publishes_total{service=\"greeter.test\"}",
        "ejections_total{service=\"greeter.test\",outcome=\"enforced\"}",
        "ejections_total{service=\"greeter.test\",outcome=\"not_enforced\"}",
        "ejections_total{service=\"greeter.test\",outcome=\"ended\"}",
        "backends{service=\"greeter.test\",state=\"serving\"}",
        "backends{service=\"greeter.test\",state=\"unhealthy\"}",
    ] {
        assert_eq!(metric(&registry, series), Some(0.0), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_removed_and_added_again_at_once_keeps_its_series() {
    let (registry, catalogue) = measured();
    configure(&catalogue, &[GREETER]);
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    // What holds the service, as its streams do, keeps nothing of its series.
    let _held = service.snapshots();
    configure(&catalogue, &[]);
    configure(&catalogue, &[GREETER]);
    catalogue.contribute(
        &name(GREETER),
        SourceKind::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    let again = catalogue.resolve(&requested(GREETER)).await.unwrap();
    again.ready().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (series, value) in [
        ("backends{service=\"greeter.test\",state=\"serving\"}", 2.0),
        ("groups{service=\"greeter.test\"}", 1.0),
        ("publishes_total{service=\"greeter.test\"}", 2.0),
        (
            "ejections_total{service=\"greeter.test\",outcome=\"ended\"}",
            0.0,
        ),
        (
            "backend_state{service=\"greeter.test\",backend=\"10.0.0.2:80\",state=\"serving\"}",
            1.0,
        ),
    ] {
        assert_eq!(metric(&registry, series), Some(value), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_removed_leaves_no_series() {
    let (registry, catalogue) = measured();
    configure(&catalogue, &[GREETER, "other.test"]);
    for service in [GREETER, "other.test"] {
        catalogue.contribute(&name(service), SourceKind::File, backends(&[(1, 1.0)]));
        catalogue.resolve(&requested(service)).await.unwrap();
    }
    configure(&catalogue, &["other.test"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let text = text(&registry);
    assert!(!text.contains(GREETER), "{text}");
    assert!(text.contains("backends{service=\"other.test\",state=\"serving\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn states_and_weights_of_backends_are_told_of_static_services_too() {
    let (registry, catalogue) = measured();
    configure(&catalogue, &[GREETER]);
    let greeter = name(GREETER);
    catalogue.contribute(&greeter, SourceKind::File, backends(&[(1, 3.0), (2, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let state = |host: u8, state: &str| {
        let labels = format!("service=\"greeter.test\",backend=\"10.0.0.{host}:80\"");
        metric(
            &registry,
            &format!("backend_state{{{labels},state=\"{state}\"}}"),
        )
    };
    let published = |host: u8| {
        let labels = format!("service=\"greeter.test\",backend=\"10.0.0.{host}:80\"");
        metric(
            &registry,
            &format!("backend_weight{{{labels},stage=\"published\"}}"),
        )
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (state(1, "serving"), state(2, "serving")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!((published(1), published(2)), (Some(3.0), Some(1.0)));
    let version = service.snapshot().unwrap().version;
    catalogue.contribute(&greeter, SourceKind::File, backends(&[(1, 0.0), (3, 1.0)]));
    service.newer_than(version).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (state(1, "serving"), state(1, "draining")),
        (None, Some(1.0))
    );
    assert_eq!(
        (state(2, "serving"), state(3, "serving")),
        (None, Some(1.0))
    );
    assert_eq!(
        (published(1), published(2), published(3)),
        (None, None, Some(1.0))
    );
}
