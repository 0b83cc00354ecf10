//! Where a service's backends are learned, and how that makes the balancer ready.

use super::*;

/// The catalogue's one service has these sources from now on.
fn sources(catalogue: &Catalogue, sources: &[SourceKind]) {
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            sources: sources.iter().map(|kind| (*kind).into()).collect(),
            ..entry(GREETER)
        }],
    });
}

async fn members(service: &Service, count: usize) {
    let mut version = 0;
    let arrived = async {
        loop {
            service.newer_than(version).await;
            let snapshot = service.snapshot().unwrap();
            if snapshot.plan.members.len() == count {
                return;
            }
            version = snapshot.version;
        }
    };
    timeout(Duration::from_secs(60), arrived).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_added_syncs_and_its_service_stays_ready() {
    let catalogue = configured(&[GREETER]);
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    let service = catalogue.get(GREETER).unwrap();
    service.ready().await;
    // A source that the service does not have says nothing.
    catalogue.contribute(
        &name(GREETER),
        SourceKind::Registration,
        backends(&[(9, 1.0)]),
    );
    assert_eq!(service.contributors(), [SourceKind::File.into()].into());

    sources(&catalogue, &[SourceKind::File, SourceKind::Registration]);
    assert_eq!(
        service.sources()[&SourceKind::Registration.into()],
        SourceState::Syncing
    );
    // What the file says is still followed at once.
    catalogue.contribute(
        &name(GREETER),
        SourceKind::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    members(&service, 2).await;
    assert_eq!(catalogue.readiness(), Readiness::Ready { warming: vec![] });
    catalogue.contribute(
        &name(GREETER),
        SourceKind::Registration,
        backends(&[(3, 1.0)]),
    );
    members(&service, 3).await;
    assert_eq!(
        service.sources()[&SourceKind::Registration.into()],
        SourceState::Synced
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_removed_takes_its_backends_with_it_at_once() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    sources(&catalogue, &[SourceKind::File, SourceKind::Registration]);
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    catalogue.contribute(
        &name(GREETER),
        SourceKind::Registration,
        backends(&[(2, 1.0)]),
    );
    let service = catalogue.get(GREETER).unwrap();
    members(&service, 2).await;
    sources(&catalogue, &[SourceKind::File]);
    assert_eq!(service.contributors(), [SourceKind::File.into()].into());
    members(&service, 1).await;
    // What it says too late is not heard.
    catalogue.contribute(
        &name(GREETER),
        SourceKind::Registration,
        backends(&[(2, 1.0)]),
    );
    assert_eq!(service.contributors(), [SourceKind::File.into()].into());
}

#[tokio::test(start_paused = true)]
async fn a_stale_mark_makes_no_source() {
    let catalogue = configured(&[GREETER]);
    catalogue.mark_stale(&name(GREETER), SourceKind::Registration);
    let service = catalogue.get(GREETER).unwrap();
    assert_eq!(
        service.sources(),
        [(SourceKind::File.into(), SourceState::Syncing)].into()
    );
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    service.ready().await;
}

#[tokio::test(start_paused = true)]
async fn readiness_outlives_services_that_are_added() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    assert_eq!(catalogue.readiness(), Readiness::Unconfigured);
    let add = |services: &[&str]| {
        catalogue.configure(CatalogueConfig {
            services: services.iter().map(|s| entry(s)).collect(),
        });
    };
    add(&[GREETER]);
    assert_eq!(
        catalogue.readiness(),
        Readiness::Starting(vec![name(GREETER)])
    );
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(&[(1, 1.0)]));
    // Nobody looks at the moment of readiness but who waits for it.
    catalogue.ready().await;
    add(&[GREETER, "other.test"]);
    let warming = vec![name("other.test")];
    assert_eq!(catalogue.readiness(), Readiness::Ready { warming });
}

fn prefix(name: &str) -> SourceId {
    SourceId {
        kind: SourceKind::Etcd,
        name: Some(name.into()),
    }
}

/// A service of two prefixes in etcd, each with these hosts.
async fn of_two_prefixes(a: &[u8], b: &[u8]) -> (Arc<Catalogue>, Arc<Service>) {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            sources: [prefix("/a/"), prefix("/b/")].into(),
            ..entry(GREETER)
        }],
    });
    observe(&catalogue, "/a/", a);
    observe(&catalogue, "/b/", b);
    let service = catalogue.get(GREETER).unwrap();
    service.ready().await;
    (catalogue, service)
}

fn observe(catalogue: &Catalogue, source: &str, hosts: &[u8]) {
    let hosts: Vec<(u8, f64)> = hosts.iter().map(|host| (*host, 1.0)).collect();
    let gone = BTreeSet::new();
    catalogue.observe(&name(GREETER), prefix(source), backends(&hosts), &gone);
}

#[tokio::test(start_paused = true)]
async fn two_prefixes_of_one_service_are_two_sources() {
    let (catalogue, service) = of_two_prefixes(&[1, 2, 3], &[3, 4]).await;
    members(&service, 4).await;
    // What one of them no longer lists, the other may still list.
    observe(&catalogue, "/a/", &[1, 2]);
    observe(&catalogue, "/b/", &[3]);
    members(&service, 3).await;
    catalogue.withdraw(&name(GREETER), prefix("/a/"));
    members(&service, 1).await;
    assert_eq!(service.sources()[&prefix("/a/")], SourceState::Syncing);
    assert_eq!(service.contributors(), [prefix("/b/")].into());
}

#[tokio::test(start_paused = true)]
async fn most_of_a_source_that_vanish_at_once_stay_listed_for_a_while() {
    let (catalogue, service) = of_two_prefixes(&[1, 2, 3, 4], &[9]).await;
    let began = Instant::now();
    observe(&catalogue, "/a/", &[1]);
    let state = || service.sources()[&prefix("/a/")];
    assert_eq!(state(), SourceState::Holding { backends: 3 });
    // One comes back, and one of them is known to be gone.
    observe(&catalogue, "/a/", &[1, 2]);
    let (known, gone) = (backends(&[(1, 1.0), (2, 1.0)]), addr(3));
    catalogue.observe(&name(GREETER), prefix("/a/"), known, &[gone].into());
    members(&service, 4).await;
    assert_eq!(state(), SourceState::Holding { backends: 1 });
    members(&service, 3).await;
    assert!(began.elapsed() >= HOLD, "{:?}", began.elapsed());
    assert_eq!(state(), SourceState::Synced);
}

#[tokio::test(start_paused = true)]
async fn what_a_source_takes_out_on_purpose_goes_at_once() {
    let (catalogue, service) = of_two_prefixes(&[1, 2, 3, 4], &[9]).await;
    observe(&catalogue, "/a/", &[1]);
    catalogue.contribute(&name(GREETER), prefix("/a/"), backends(&[(1, 1.0)]));
    members(&service, 2).await;
    assert_eq!(service.sources()[&prefix("/a/")], SourceState::Synced);
}

#[tokio::test(start_paused = true)]
async fn an_override_lists_nobody_and_goes_before_the_sources_until_it_expires() {
    let (catalogue, service) = serving(&[(1, 1.0), (2, 1.0)]).await;
    let began = Instant::now();
    let of = |weight, drain, minutes: u64| Override {
        weight: Some(Weight::new(weight).unwrap()),
        drain,
        owner: "ops".into(),
        expires: Some(began + Duration::from_secs(60 * minutes)),
    };
    let greeter = name(GREETER);
    catalogue.set_override(&greeter, addr(1), of(3.0, false, 1));
    catalogue.set_override(&greeter, addr(2), of(1.0, true, 2));
    catalogue.set_override(&greeter, addr(7), of(1.0, false, 3));
    let mut plans = Plans::of(&service);
    let mut next = async || {
        let snapshot = plans.next().await;
        let members = snapshot.plan.members.iter();
        members
            .map(|m| (m.operator.value(), m.state == BackendState::Draining))
            .collect::<Vec<_>>()
    };
    while next().await != [(3.0, false), (1.0, true)] {}
    assert_eq!(service.overrides().len(), 3);
    assert_eq!(next().await, [(1.0, false), (1.0, true)]);
    assert!(began.elapsed() >= Duration::from_secs(60));
    catalogue.clear_override(&greeter, addr(2));
    assert_eq!(next().await, [(1.0, false), (1.0, false)]);
    assert_eq!(service.overrides().keys().collect::<Vec<_>>(), [&addr(7)]);
}
