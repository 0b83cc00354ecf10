//! The fleet's promises, on a paused clock: no socket is involved.

mod groups;
mod overload;
mod publishing;
mod series;
mod sources;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use lookaside_core::model::{BackendAddr, RequestedName, ServiceName, Weight};
use lookaside_core::plan::{
    Contribution, HealthFields, MemberFields, Probe, ServiceSettings, Source,
};
use lookaside_core::weights::{PolicyChoice, RawReport, Report, ReportSource};

const GREETER: &str = "greeter.test";

fn name(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

fn requested(name: &str) -> RequestedName {
    RequestedName::parse(name).unwrap()
}

fn entry(service: &str) -> ServiceEntry {
    ServiceEntry {
        name: name(service),
        aliases: Vec::new(),
        settings: ServiceSettings::default(),
        sources: [Source::File].into(),
    }
}

fn backends(weights: &[(u8, f64)]) -> Contribution {
    let member = |(host, weight): &(u8, f64)| {
        let addr: BackendAddr = format!("10.0.0.{host}:80").parse().unwrap();
        let fields = MemberFields {
            weight: Some(Weight::new(*weight).unwrap()),
            ..MemberFields::default()
        };
        (addr, fields)
    };
    weights.iter().map(member).collect()
}

fn configured(services: &[&str]) -> Arc<Fleet> {
    let fleet = Fleet::new(FleetMetrics::default());
    fleet.configure(FleetConfig {
        services: services.iter().map(|s| entry(s)).collect(),
    });
    fleet
}

async fn serving(weights: &[(u8, f64)]) -> (Arc<Fleet>, Arc<Service>) {
    let fleet = configured(&[GREETER]);
    fleet.contribute(&name(GREETER), Source::File, backends(weights));
    let service = fleet.resolve(&requested(GREETER)).await.unwrap();
    (fleet, service)
}

async fn next(subscription: &mut Subscription) -> Update {
    poll_fn(|cx| subscription.poll_next(cx)).await
}

async fn next_group(subscription: &mut Subscription) -> Arc<Group> {
    match next(subscription).await {
        Update::Group(group) => group,
        Update::End(reason) => panic!("ended: {reason:?}"),
    }
}

fn listed(group: &Arc<Group>) -> usize {
    match &group.listing {
        Listing::Servers(lists) => lists.spec().backends.len(),
        Listing::Fallback => 0,
    }
}

fn subscribe(service: &Arc<Service>) -> Subscription {
    let ip = Ipv4Addr::LOCALHOST.into();
    service.subscribe(ip, CancellationToken::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_name_is_found_with_port_dot_case_and_alias() {
    let fleet = Fleet::new(FleetMetrics::default());
    fleet.configure(FleetConfig {
        services: vec![
            ServiceEntry {
                aliases: vec![name("greeter")],
                ..entry(GREETER)
            },
            entry("greeter.test:81"),
        ],
    });
    let found = |text: &str| fleet.find(&requested(text)).map(|s| s.name().to_string());
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
    let fleet = Fleet::new(FleetMetrics::default());
    let start = Instant::now();
    let held = tokio::spawn({
        let fleet = Arc::clone(&fleet);
        async move {
            fleet
                .resolve(&requested(GREETER))
                .await
                .map(|_| start.elapsed())
        }
    });
    tokio::time::advance(Duration::from_secs(3)).await;
    fleet.configure(FleetConfig {
        services: vec![entry(GREETER)],
    });
    tokio::time::advance(Duration::from_secs(3)).await;
    fleet.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
    let waited = held.await.unwrap().unwrap();
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_with_nothing_a_stream_is_turned_away() {
    let silent = Fleet::new(FleetMetrics::default());
    let unsynced = configured(&[GREETER]);
    for fleet in [silent, unsynced] {
        let start = Instant::now();
        let resolved = fleet.resolve(&requested(GREETER)).await;
        assert_eq!(resolved.err(), Some(ResolveError::NotReady));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_refused_at_once_when_the_services_are_known() {
    let fleet = configured(&[GREETER]);
    let start = Instant::now();
    let resolved = fleet.resolve(&requested("other.test")).await;
    assert_eq!(resolved.err(), Some(ResolveError::Unknown));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_after_ten_seconds_with_the_sources_it_has() {
    let fleet = Fleet::new(FleetMetrics::default());
    fleet.configure(FleetConfig {
        services: vec![ServiceEntry {
            sources: [Source::File, Source::Etcd].into(),
            ..entry(GREETER)
        }],
    });
    fleet.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
    let service = fleet.get(GREETER).unwrap();
    let start = Instant::now();
    service.ready().await;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(service.sources()[&Source::Etcd], SourceState::Syncing);
}

#[tokio::test(start_paused = true)]
async fn publishers_end_with_their_fleet() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let holders = Arc::strong_count(&service);
    drop(fleet);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // The fleet's own, and its publisher's.
    assert_eq!((holders, Arc::strong_count(&service)), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_backends_are_all_drained_falls_back() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut stream = subscribe(&service);
    next_group(&mut stream).await;
    fleet.contribute(service.name(), Source::File, backends(&[(1, 0.0)]));
    let group = next_group(&mut stream).await;
    assert!(matches!(group.listing, Listing::Fallback));
}

#[tokio::test(start_paused = true)]
async fn ordinals_are_dense_and_the_smallest_free_one_is_taken() {
    let (_fleet, service) = serving(&[(1, 1.0)]).await;
    let mut streams: Vec<Subscription> = (0..5).map(|_| subscribe(&service)).collect();
    assert_eq!(service.stream_count(), 5);
    streams.remove(3);
    streams.remove(1);
    assert_eq!(service.stream_count(), 3);
    assert_eq!(subscribe(&service).ordinal(), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_removed_service_end_and_none_joins() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut streams: Vec<Subscription> = (0..20).map(|_| subscribe(&service)).collect();
    for stream in &mut streams {
        next_group(stream).await;
    }
    let start = Instant::now();
    fleet.configure(FleetConfig::default());
    let mut ends = BTreeMap::new();
    for stream in &mut streams {
        let end = next(stream).await;
        assert!(matches!(end, Update::End(EndReason::ServiceRemoved)));
        ends.insert(stream.ordinal(), start.elapsed());
    }
    assert!(start.elapsed() > Duration::from_secs(1));
    assert!(start.elapsed() <= Duration::from_secs(2));
    let refused = service.subscribe(Ipv4Addr::LOCALHOST.into(), CancellationToken::new());
    assert_eq!(refused.err(), Some(EndReason::ServiceRemoved));
    let again = fleet.resolve(&requested(GREETER)).await;
    assert_eq!(again.err(), Some(ResolveError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_stream_within_its_time() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let mut streams: Vec<Subscription> = (0..10).map(|_| subscribe(&service)).collect();
    let start = Instant::now();
    fleet.end_streams(Duration::from_secs(5)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    for stream in &mut streams {
        let end = next(stream).await;
        assert!(matches!(end, Update::End(EndReason::ShuttingDown)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_a_minute_loses_its_connection() {
    let (fleet, service) = serving(&[(1, 1.0)]).await;
    let (stuck, reading) = (CancellationToken::new(), CancellationToken::new());
    let mut streams = [&stuck, &reading].map(|c| {
        let ip = Ipv4Addr::LOCALHOST.into();
        service.subscribe(ip, c.clone()).unwrap()
    });
    for stream in &mut streams {
        next_group(stream).await;
    }
    fleet.contribute(
        service.name(),
        Source::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    let [_stuck_stream, reading_stream] = &mut streams;
    assert_eq!(listed(&next_group(reading_stream).await), 2);
    let start = Instant::now();
    stuck.cancelled().await;
    assert!(start.elapsed() >= Duration::from_secs(59));
    assert!(start.elapsed() <= Duration::from_secs(75));
    assert!(!reading.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn weights_follow_reports_and_say_so() {
    let mut registry = Registry::default();
    let fleet = Fleet::new(FleetMetrics::register(&mut registry));
    let mut service = entry(GREETER);
    service.settings.weights.policy = PolicyChoice::FEEDBACK;
    fleet.configure(FleetConfig {
        services: vec![service],
    });
    let greeter = name(GREETER);
    fleet.contribute(&greeter, Source::File, backends(&[(1, 1.0), (2, 1.0)]));
    let service = fleet.resolve(&requested(GREETER)).await.unwrap();
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
        fleet.report(&greeter, backend, Report::new(&raw, &[]).unwrap())
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
    let (fleet, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let first = service.snapshot().unwrap();
    let before = Instant::now();
    let refused = HealthFields {
        probe: Probe::Refused,
        suspect: false,
    };
    let backend = "10.0.0.2:80".parse().unwrap();
    fleet.set_health(&name(GREETER), backend, refused);
    service.newer_than(first.version).await;
    assert!(before.elapsed() <= Duration::from_millis(100));
    let snapshot = service.snapshot().unwrap();
    assert_eq!(listed(&snapshot.groups[0]), 1);
}

fn metric(registry: &Registry, line: &str) -> Option<f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let mut lines = text.lines().filter_map(|found| found.strip_prefix(line));
    lines.next()?.trim().parse().ok()
}

/// A fleet with a service that learns from reports, and has learned that its
/// second backend needs three times as much for a call.
async fn learned_fleet() -> (Arc<Fleet>, FleetConfig, Vec<f64>) {
    let fleet = Fleet::new(FleetMetrics::default());
    let mut service = entry(GREETER);
    service.settings.weights.policy = PolicyChoice::FEEDBACK;
    let config = FleetConfig {
        services: vec![service],
    };
    fleet.configure(config.clone());
    let greeter = name(GREETER);
    fleet.contribute(&greeter, Source::File, backends(&[(1, 1.0), (2, 1.0)]));
    let service = fleet.resolve(&requested(GREETER)).await.unwrap();
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
            assert_eq!(fleet.report(&greeter, backend, report), Reported::Taken);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        if step > 4 {
            version = version.max(service.snapshot().unwrap().version);
        }
    }
    assert!(version > 1, "weights never moved");
    let weights = weights(&service);
    assert!(weights[0] > 1.5 * weights[1], "{weights:?}");
    (fleet, config, weights)
}

fn weights(service: &Service) -> Vec<f64> {
    let snapshot = service.snapshot().unwrap();
    let members = snapshot.plan.members.iter();
    members.map(|member| member.factor).collect()
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_is_started_again_publishes_what_it_had_learned() {
    let (fleet, config, before) = learned_fleet().await;
    fleet.learned().await;
    let remembered = fleet.recollect().await;
    assert_eq!(remembered.len(), 1);

    let second = Fleet::new(FleetMetrics::default());
    for (service, remembered) in remembered {
        second.remember(service, remembered);
    }
    second.configure(config);
    let contribution = backends(&[(1, 1.0), (2, 1.0)]);
    second.contribute(&name(GREETER), Source::File, contribution);
    let service = second.resolve(&requested(GREETER)).await.unwrap();
    let first = weights(&service);
    for (before, now) in before.iter().zip(&first) {
        assert!((before / now).ln().abs() < 0.12, "{before} became {now}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_removed_and_comes_back_knows_what_it_had_learned() {
    let (fleet, config, before) = learned_fleet().await;
    fleet.configure(FleetConfig::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(fleet.recollect().await.contains_key(&name(GREETER)));
    fleet.configure(config);
    let contribution = backends(&[(1, 1.0), (2, 1.0)]);
    fleet.contribute(&name(GREETER), Source::File, contribution);
    let service = fleet.resolve(&requested(GREETER)).await.unwrap();
    let after = weights(&service);
    for (before, now) in before.iter().zip(&after) {
        assert!((before / now).ln().abs() < 0.12, "{before} became {now}");
    }
}
