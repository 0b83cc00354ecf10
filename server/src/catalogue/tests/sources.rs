//! Where a service's backends are learned, and how that makes the balancer ready.

use super::*;

/// The catalogue's one service has these sources from now on.
fn sources(catalogue: &Catalogue, sources: &[Source]) {
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            sources: sources.iter().copied().collect(),
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
    timeout(Duration::from_secs(20), arrived).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_added_syncs_and_its_service_stays_ready() {
    let catalogue = configured(&[GREETER]);
    catalogue.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
    let service = catalogue.get(GREETER).unwrap();
    service.ready().await;
    // A source that the service does not have says nothing.
    catalogue.contribute(&name(GREETER), Source::Registration, backends(&[(9, 1.0)]));
    assert_eq!(service.contributors(), [Source::File].into());

    sources(&catalogue, &[Source::File, Source::Registration]);
    assert_eq!(
        service.sources()[&Source::Registration],
        SourceState::Syncing
    );
    // What the file says is still followed at once.
    catalogue.contribute(
        &name(GREETER),
        Source::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    members(&service, 2).await;
    assert_eq!(catalogue.readiness(), Readiness::Ready { warming: vec![] });
    catalogue.contribute(&name(GREETER), Source::Registration, backends(&[(3, 1.0)]));
    members(&service, 3).await;
    assert_eq!(
        service.sources()[&Source::Registration],
        SourceState::Synced
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_removed_takes_its_backends_with_it_at_once() {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    sources(&catalogue, &[Source::File, Source::Registration]);
    catalogue.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
    catalogue.contribute(&name(GREETER), Source::Registration, backends(&[(2, 1.0)]));
    let service = catalogue.get(GREETER).unwrap();
    members(&service, 2).await;
    sources(&catalogue, &[Source::File]);
    assert_eq!(service.contributors(), [Source::File].into());
    members(&service, 1).await;
    // What it says too late is not heard.
    catalogue.contribute(&name(GREETER), Source::Registration, backends(&[(2, 1.0)]));
    assert_eq!(service.contributors(), [Source::File].into());
}

#[tokio::test(start_paused = true)]
async fn a_stale_mark_makes_no_source() {
    let catalogue = configured(&[GREETER]);
    catalogue.mark_stale(&name(GREETER), Source::Registration);
    let service = catalogue.get(GREETER).unwrap();
    assert_eq!(
        service.sources(),
        [(Source::File, SourceState::Syncing)].into()
    );
    catalogue.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
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
    catalogue.contribute(&name(GREETER), Source::File, backends(&[(1, 1.0)]));
    // Nobody looks at the moment of readiness but who waits for it.
    catalogue.ready().await;
    add(&[GREETER, "other.test"]);
    let warming = vec![name("other.test")];
    assert_eq!(catalogue.readiness(), Readiness::Ready { warming });
}
