//! The catalogue's promises, on a paused clock: no socket is involved.

mod publishing;
mod series;
mod sources;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};

use super::fixtures::*;
use super::*;
use lookaside_core::model::Weight;
use lookaside_core::plan::{BackendState, HealthFields, Probe, SourceId, SourceKind};
use lookaside_core::weights::{PolicyChoice, RawReport, Report, ReportSource};

#[tokio::test(start_paused = true)]
async fn a_name_is_found_with_port_dot_case_and_alias() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    catalogue.configure(CatalogueConfig {
        services: vec![
            ServiceEntry {
                aliases: vec![name("greeter")],
                ..entry(GREETER)
            },
            entry("greeter.test:81"),
        ],
    });
    let found = |text: &str| {
        catalogue
            .find(&requested(text))
            .map(|s| s.name().to_string())
    };
    for spelling in [
        "greeter.test",
        "Greeter.test.",
        "greeter.test:80",
        "GREETER",
        "greeter:5",
    ] {
        assert_eq!(found(spelling).as_deref(), Some(GREETER), "{spelling}");
    }
    assert_eq!(found("greeter.test:81").as_deref(), Some("greeter.test:81"));
    assert_eq!(found("other.test"), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_held_until_its_service_is_known() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    let start = Instant::now();
    let held = tokio::spawn({
        let catalogue = Arc::clone(&catalogue);
        async move {
            catalogue
                .resolve(&requested(GREETER))
                .await
                .map(|_| start.elapsed())
        }
    });
    tokio::time::advance(Duration::from_secs(3)).await;
    catalogue.configure(CatalogueConfig {
        services: vec![entry(GREETER)],
    });
    tokio::time::advance(Duration::from_secs(3)).await;
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    let waited = held.await.unwrap().unwrap();
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_with_nothing_a_stream_is_turned_away() {
    let silent = Catalogue::new(CatalogueMetrics::default());
    let unsynced = configured(&[GREETER]);
    for catalogue in [silent, unsynced] {
        let start = Instant::now();
        let resolved = catalogue.resolve(&requested(GREETER)).await;
        assert_eq!(resolved.err(), Some(ResolveError::NotReady));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_refused_at_once_when_the_services_are_known() {
    let catalogue = configured(&[GREETER]);
    let start = Instant::now();
    let resolved = catalogue.resolve(&requested("other.test")).await;
    assert_eq!(resolved.err(), Some(ResolveError::Unknown));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_after_ten_seconds_with_the_sources_it_has() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            sources: [SourceKind::File.into(), SourceKind::Etcd.into()].into(),
            ..entry(GREETER)
        }],
    });
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    let service = catalogue.get(GREETER).unwrap();
    let start = Instant::now();
    service.ready().await;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(
        service.sources()[&SourceKind::Etcd.into()],
        SourceState::Syncing
    );
}

#[tokio::test(start_paused = true)]
async fn publishers_end_with_their_catalogue() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let holders = Arc::strong_count(&service);
    drop(catalogue);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // The catalogue's own, and its publisher's.
    assert_eq!((holders, Arc::strong_count(&service)), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn weights_follow_reports_and_say_so() {
    let mut registry = Registry::default();
    let catalogue = Catalogue::new(CatalogueMetrics::register(&mut registry));
    let mut service = entry(GREETER);
    service.settings.weights.policy = PolicyChoice::FEEDBACK;
    catalogue.configure(CatalogueConfig {
        services: vec![service],
    });
    let greeter = name(GREETER);
    catalogue.contribute(&greeter, SourceKind::File, backends(&[(1, 1.0), (2, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let first = service.snapshot().unwrap();
    assert_eq!(first.plan.members[0].factor, 1.0);
    // The second needs three times as much for a call.
    let report = |host: u8| {
        let raw = RawReport {
            source: ReportSource::Registration,
            cpu_utilization: if host == 1 { 0.3 } else { 0.9 },
            application_utilization: 0.0,
            named: &[],
            qps: 100.0,
            eps: 0.0,
        };
        let backend = format!("10.0.0.{host}:80").parse().unwrap();
        catalogue.report(&greeter, backend, Report::new(&raw, &[]).unwrap())
    };
    assert_eq!(report(3), Reported::UnknownBackend);
    assert_eq!(report(1), Reported::Taken);
    assert_eq!(report(1), Reported::TooSoon);
    for _ in 0..6 {
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(report(1), Reported::Taken);
        assert_eq!(report(2), Reported::Taken);
        tokio::task::yield_now().await;
    }
    service.newer_than(first.version).await;
    let moved = service.snapshot().unwrap();
    let factors: Vec<f64> = moved.plan.members.iter().map(|m| m.factor).collect();
    assert!(factors[0] > factors[1], "{factors:?}");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains(
            "backend_weight{service=\"greeter.test\",backend=\"10.0.0.1:80\",stage=\"policy\"}"
        ),
        "{text}"
    );
    assert!(
        text.contains("weight_publishes_total{service=\"greeter.test\"}"),
        "{text}"
    );
    let published = "backend_weight{service=\"greeter.test\",backend=\"10.0.0.1:80\",\
                     stage=\"published\"} ";
    let shown = text.lines().find_map(|line| line.strip_prefix(published));
    let shown: f64 = shown.unwrap().parse().unwrap();
    assert_eq!(shown, moved.plan.members[0].effective, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_probe_is_refused_leaves_at_once() {
    let (catalogue, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let first = service.snapshot().unwrap();
    let before = Instant::now();
    let refused = HealthFields {
        probe: Probe::Refused,
        suspect: false,
    };
    let backend = "10.0.0.2:80".parse().unwrap();
    catalogue.set_health(&name(GREETER), backend, refused);
    service.newer_than(first.version).await;
    assert!(before.elapsed() <= Duration::from_millis(100));
    let snapshot = service.snapshot().unwrap();
    assert_eq!(listed(&snapshot), 1);
}

/// A catalogue with a service that learns from reports, and has learned that its
/// second backend needs three times as much for a call.
async fn learned_catalogue() -> (Arc<Catalogue>, CatalogueConfig, Vec<f64>) {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    let mut service = entry(GREETER);
    service.settings.weights.policy = PolicyChoice::FEEDBACK;
    let config = CatalogueConfig {
        services: vec![service],
    };
    catalogue.configure(config.clone());
    let greeter = name(GREETER);
    catalogue.contribute(&greeter, SourceKind::File, backends(&[(1, 1.0), (2, 1.0)]));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let mut version = service.snapshot().unwrap().version;
    for step in 0..12 {
        for (host, cpu) in [(1, 0.3), (2, 0.9)] {
            let raw = RawReport {
                source: ReportSource::Registration,
                cpu_utilization: cpu,
                application_utilization: 0.0,
                named: &[],
                qps: 100.0,
                eps: 0.0,
            };
            let backend = format!("10.0.0.{host}:80").parse().unwrap();
            let report = Report::new(&raw, &[]).unwrap();
            assert_eq!(catalogue.report(&greeter, backend, report), Reported::Taken);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        if step > 4 {
            version = version.max(service.snapshot().unwrap().version);
        }
    }
    assert!(version > 1, "weights never moved");
    let weights = weights(&service);
    assert!(weights[0] > 1.5 * weights[1], "{weights:?}");
    (catalogue, config, weights)
}

fn weights(service: &Service) -> Vec<f64> {
    let snapshot = service.snapshot().unwrap();
    let members = snapshot.plan.members.iter();
    members.map(|member| member.factor).collect()
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_is_started_again_publishes_what_it_had_learned() {
    let (catalogue, config, before) = learned_catalogue().await;
    catalogue.learned().await;
    let remembered = catalogue.recollect().await;
    assert_eq!(remembered.len(), 1);

    let second = Catalogue::new(CatalogueMetrics::default());
    for (service, remembered) in remembered {
        second.remember(service, remembered);
    }
    second.configure(config);
    let contribution = backends(&[(1, 1.0), (2, 1.0)]);
    second.contribute(&name(GREETER), SourceKind::File, contribution);
    let service = second.resolve(&requested(GREETER)).await.unwrap();
    let first = weights(&service);
    for (before, now) in before.iter().zip(&first) {
        assert!((before / now).ln().abs() < 0.12, "{before} became {now}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_removed_and_comes_back_knows_what_it_had_learned() {
    let (catalogue, config, before) = learned_catalogue().await;
    catalogue.configure(CatalogueConfig::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(catalogue.recollect().await.contains_key(&name(GREETER)));
    catalogue.configure(config);
    let contribution = backends(&[(1, 1.0), (2, 1.0)]);
    catalogue.contribute(&name(GREETER), SourceKind::File, contribution);
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    let after = weights(&service);
    for (before, now) in before.iter().zip(&after) {
        assert!((before / now).ln().abs() < 0.12, "{before} became {now}");
    }
}
