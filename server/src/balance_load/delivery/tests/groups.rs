//! Groups of clients: who gets which backends, and who is told when they change.

use std::collections::BTreeSet;

use super::*;
use lookaside_core::model::{Zone, ZoneTable};

/// So many backends of weight 1, those of index i in zone `zone(i)`.
fn many(count: u32, zone: impl Fn(u32) -> Option<&'static str>) -> Contribution {
    let member = |index: u32| {
        let ip = Ipv4Addr::from_bits(0x0a00_0000 + index);
        let fields = MemberFields {
            zone: zone(index).map(Zone::from),
            ..MemberFields::default()
        };
        (format!("{ip}:80").parse().unwrap(), fields)
    };
    (0..count).map(member).collect()
}

fn client(index: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0b00_0000 + index).into()
}

async fn grouped(
    settings: ServiceSettings,
    backends: Contribution,
    metrics: CatalogueMetrics,
) -> (Arc<Catalogue>, Arc<Service>) {
    let catalogue = Catalogue::new(metrics);
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            settings,
            ..entry(GREETER)
        }],
    });
    catalogue.contribute(&name(GREETER), SourceKind::File, backends);
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    (catalogue, service)
}

fn subsets() -> ServiceSettings {
    ServiceSettings {
        subset: Some(20),
        ..ServiceSettings::default()
    }
}

fn addresses(group: &Group) -> BTreeSet<BackendAddr> {
    match &group.listing {
        Listing::Servers(lists) => lists.spec().backends.iter().map(|b| b.addr).collect(),
        Listing::Fallback => BTreeSet::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn same_client_same_subset_after_restart() {
    let mut lists = Vec::new();
    for order in [0, 1] {
        let backends = many(300, |_| None);
        let (_catalogue, service) = grouped(subsets(), backends, CatalogueMetrics::default()).await;
        let front = Front::default();
        let mut of_client = BTreeMap::new();
        let mut streams = Vec::new();
        for index in 0..1200 {
            // They come back in another order.
            let index = if order == 0 { index } else { 1199 - index };
            let mut stream = front.follow(&service, client(index));
            of_client.insert(index, addresses(&*next_group(&mut stream).await));
            streams.push(stream);
        }
        lists.push(of_client);
    }
    let same = lists[0]
        .iter()
        .filter(|(index, list)| lists[1][index] == **list);
    let same = same.count();
    assert!(same > 960, "{same} of 1200");
    let distinct: BTreeSet<_> = lists[0].values().collect();
    assert_eq!(distinct.len(), 120);
    assert!(distinct.iter().all(|list| list.len() == 20));
}

#[tokio::test(start_paused = true)]
async fn a_join_is_no_news_for_many_streams() {
    let mut registry = Registry::default();
    let metrics = CatalogueMetrics::register(&mut registry);
    let (catalogue, service) = grouped(subsets(), many(300, |_| None), metrics).await;
    let front = Front::measured(&mut registry);
    let mut streams: Vec<_> = (0..600)
        .map(|i| front.follow(&service, client(i)))
        .collect();
    for stream in &mut streams {
        next_group(stream).await;
    }
    // Soon lists are made for where these clients are.
    service.newer_than(1).await;
    for stream in &mut streams {
        news(stream).await;
    }
    let version = service.snapshot().unwrap().version;
    catalogue.contribute(&name(GREETER), SourceKind::File, many(301, |_| None));
    service.newer_than(version).await;
    let mut told = 0;
    for stream in &mut streams {
        told += usize::from(news(stream).await.is_some());
    }
    // Eight groups of 120 have the new one. In each round two or three others were
    // moved from one group to another, and some of those are listed anew.
    assert!((20..450).contains(&told), "{told} of 600");
    assert_eq!(
        metric(&registry, "groups{service=\"greeter.test\"}"),
        Some(120.0)
    );
}

#[tokio::test(start_paused = true)]
async fn with_more_groups_every_stream_goes_on() {
    let backends = many(300, |_| None);
    let (catalogue, service) = grouped(subsets(), backends, CatalogueMetrics::default()).await;
    let front = Front::default();
    let mut streams: Vec<_> = (0..300)
        .map(|i| front.follow(&service, client(i)))
        .collect();
    for stream in &mut streams {
        next_group(stream).await;
    }
    for (backends, groups) in [(400, 160), (10, 1), (300, 120)] {
        let version = service.snapshot().unwrap().version;
        catalogue.contribute(&name(GREETER), SourceKind::File, many(backends, |_| None));
        service.newer_than(version).await;
        let clients = front.clients(&service);
        assert_eq!(clients.layout.lists(), groups);
        assert_eq!(clients.streams.iter().sum::<u32>(), 300);
        for stream in &mut streams {
            let list = addresses(&*next_group(stream).await);
            assert_eq!(list.len(), 20.min(backends as usize));
            assert!(news(stream).await.is_none());
        }
    }
    drop(streams);
    assert_eq!(front.clients(&service).streams.iter().sum::<u32>(), 0);
}

#[tokio::test(start_paused = true)]
async fn weights_that_move_a_little_are_news_for_some_streams_only() {
    let mut registry = Registry::default();
    let metrics = CatalogueMetrics::register(&mut registry);
    let weighed = |last: f64| {
        let mut backends = many(40, |_| None);
        for (index, fields) in Arc::make_mut(&mut backends.members)
            .values_mut()
            .enumerate()
        {
            let weight = if index == 39 {
                last
            } else {
                1.0 + index as f64 / 39.7
            };
            fields.weight = Some(Weight::new(weight).unwrap());
        }
        backends
    };
    let (catalogue, service) = grouped(subsets(), weighed(2.0), metrics).await;
    let front = Front::measured(&mut registry);
    catalogue.configure(CatalogueConfig {
        services: vec![entry(GREETER)],
    });
    let version = service.snapshot().unwrap().version;
    service.newer_than(version).await;
    let mut streams: Vec<_> = (0..160)
        .map(|i| front.follow(&service, client(i)))
        .collect();
    for stream in &mut streams {
        next_group(stream).await;
    }
    let version = service.snapshot().unwrap().version;
    catalogue.contribute(&name(GREETER), SourceKind::File, weighed(2.05));
    service.newer_than(version).await;
    let mut told = 0;
    for stream in &mut streams {
        told += usize::from(news(stream).await.is_some());
    }
    // 0.2 slots more of six: every variant's streams are ten, and some have it.
    assert!(told > 0 && told < 160 && told % 10 == 0, "{told} of 160");
    let skipped = metric(&registry, "pushes_skipped_total{service=\"greeter.test\"}");
    assert_eq!(skipped, Some(160.0 - told as f64));
    // Whoever was not told is, when something of theirs changes.
    catalogue.contribute(&name(GREETER), SourceKind::File, weighed(5.0));
    for stream in &mut streams {
        assert_eq!(next_group(stream).await.version, version + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_with_more_clients_than_capacity_spills() {
    let mut registry = Registry::default();
    let metrics = CatalogueMetrics::register(&mut registry);
    let zones = ZoneTable::new(vec![
        ("a".into(), vec!["11.0.0.0/24".parse().unwrap()]),
        ("b".into(), vec!["11.0.1.0/24".parse().unwrap()]),
    ]);
    let settings = ServiceSettings {
        zones: Some(Arc::new(zones)),
        ..ServiceSettings::default()
    };
    let backends = many(20, |index| Some(if index < 10 { "a" } else { "b" }));
    let (_catalogue, service) = grouped(settings, backends.clone(), metrics).await;
    let front = Front::measured(&mut registry);
    let of_zone = |zone: usize| backends.members.keys().skip(10 * zone).take(10).copied();
    let mut of_a: Vec<_> = (0..40).map(|i| front.follow(&service, client(i))).collect();
    let mut of_b = front.follow(&service, client(256));
    for stream in &mut of_a {
        let list = addresses(&*next_group(stream).await);
        assert_eq!(list, of_zone(0).collect());
    }
    assert_eq!(
        addresses(&*next_group(&mut of_b).await),
        of_zone(1).collect()
    );
    // Soon it is noticed that nearly all clients are in a.
    let version = service.snapshot().unwrap().version;
    service.newer_than(version).await;
    for stream in &mut of_a {
        assert_eq!(addresses(&*next_group(stream).await).len(), 20);
    }
    assert!(news(&mut of_b).await.is_none());
    let snapshot = service.snapshot().unwrap();
    assert!((snapshot.plan.spilled[1] - (1.0 - 0.5 / (40.0 / 41.0))).abs() < 1e-9);
    for member in &snapshot.plan.members {
        assert!((member.effective - 1.0).abs() < 0.031, "{member:?}");
    }
    // One stream more or less is no reason to tell anybody.
    let one_more = front.follow(&service, client(41));
    let newer = service.newer_than(snapshot.version);
    assert!(timeout(Duration::from_secs(60), newer).await.is_err());
    drop(one_more);
    let streams = "zone_streams{service=\"greeter.test\",zone=\"a\"}";
    assert_eq!(metric(&registry, streams), Some(41.0));
    let spill = "zone_spill{service=\"greeter.test\",zone=\"b\"}";
    assert_eq!(metric(&registry, spill), Some(0.0));
}
