//! Reloads, registrations and removals in every order.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::registration::Where;
use proptest::prelude::*;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalogue::{Catalogue, CatalogueMetrics};
use crate::config::{Config, parse};
use crate::discovery::file::apply;
use crate::net::Peer;
use crate::registration::{Registrar, RegistrationMetrics, keeper};
use crate::subchannel::Permits;

const OPEN: &str = "register = { cidrs = [\"10.0.0.0/8\"] }";

/// The files that an operator may have: the service is not there, closed, open, or
/// its name is another's.
fn files() -> [Config; 4] {
    let file = |services: &str| {
        let text = format!("[balancer]\nreport_interval = \"10s\"\n{services}");
        parse(&text, "lookaside.toml").unwrap()
    };
    [
        file(&format!("[[service]]\nname = \"other.test\"\n{OPEN}")),
        file(&format!(
            "[[service]]\nname = \"greeter.test\"\n[[service]]\nname = \"other.test\"\n{OPEN}"
        )),
        file(&format!(
            "[[service]]\nname = \"greeter.test\"\n{OPEN}\n[[service]]\nname = \"other.test\"\n{OPEN}"
        )),
        file(&format!(
            "[[service]]\nname = \"other.test\"\naliases = [\"greeter.test\"]\n{OPEN}"
        )),
    ]
}

/// A backend's stream, as far as it has to do with registrations.
struct Backend {
    claim: Claim,
    caller: Arc<Caller>,
    owner: Arc<Owner>,
    places: Vec<RegistrationKey>,
    rules: watch::Receiver<Arc<Rules>>,
    judged: Option<Judgment>,
    left: bool,
}

impl Backend {
    fn new(number: u8, shared: &Shared) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        let said = pb::Registration {
            services: vec!["greeter.test".to_owned()],
            r#where: Some(Where::Port(80)),
            instance: "a".to_owned(),
            ..pb::Registration::default()
        };
        Self {
            claim: Claim::read(said, ip).unwrap(),
            caller: Arc::new(Caller {
                peer: Arc::new(Peer {
                    addr: (ip, 1024).into(),
                    connection: CancellationToken::new(),
                    certificates: None,
                    untrusted: CancellationToken::new(),
                }),
                token: None,
            }),
            owner: Arc::new(Owner {
                id: number.into(),
                superseded: CancellationToken::new(),
            }),
            places: Vec::new(),
            rules: shared.rules.subscribe(),
            judged: None,
            left: false,
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&Applicant<'_>, &mut Vec<RegistrationKey>) -> T) -> T {
        let applicant = Applicant {
            claim: &self.claim,
            caller: &self.caller,
            owner: &self.owner,
            draining: false,
        };
        act(&applicant, &mut self.places)
    }

    fn judge(&mut self, shared: &Shared) {
        let rules = Arc::clone(&shared.rules.borrow());
        let judged = self.with(|applicant, _| judge(shared, rules, applicant));
        self.judged = (!self.left).then_some(judged);
    }

    /// Registers what was judged some time ago.
    fn register(&mut self, shared: &Shared) {
        if let Some(judged) = self.judged.take() {
            let _ = self.with(|applicant, places| register(shared, judged, applicant, places));
        }
    }

    /// What its stream does when rules changed.
    async fn follow(&mut self, shared: &Shared) {
        if !self.left && self.rules.has_changed().unwrap() {
            self.rules.mark_unchanged();
            let applicant = Applicant {
                claim: &self.claim,
                caller: &self.caller,
                owner: &self.owner,
                draining: false,
            };
            admit(shared, &applicant, &mut self.places).await;
        }
    }

    fn leave(&mut self, shared: &Shared) {
        let mut table = shared.table();
        for (service, addr) in self.places.drain(..) {
            table.leave(&service, addr, self.owner.id);
        }
        (self.left, self.judged) = (true, None);
    }
}

/// Who is listed for a service; `None` if there is no such service, or nothing is known
/// of it.
fn listed(catalogue: &Catalogue, service: &str) -> Option<BTreeSet<BackendAddr>> {
    let found = catalogue.get(service)?;
    let snapshot = (found.name().as_str() == service).then(|| found.snapshot())??;
    let members = snapshot.plan.members.iter();
    Some(members.map(|member| member.addr).collect())
}

async fn interleave(events: Vec<(u8, u8)>) -> Result<(), TestCaseError> {
    let files = files();
    let mut newest = &files[2];
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    apply(newest, &catalogue);
    let registrar = Registrar::new(
        Arc::clone(&catalogue),
        newest,
        Permits::default(),
        CancellationToken::new(),
        RegistrationMetrics::default(),
    );
    let shared = &registrar.0;
    let mut backends = [1, 2, 3].map(|number| Backend::new(number, shared));
    for (event, which) in events {
        let backend = &mut backends[usize::from(which) % 3];
        match event {
            0 => {
                newest = &files[usize::from(which) % 4];
                apply(newest, &catalogue);
            }
            1 => registrar.configure(newest),
            2 => backend.judge(shared),
            3 => backend.register(shared),
            4 => backend.follow(shared).await,
            5 => drop(keeper::keep(shared, Instant::now())),
            6 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => backend.leave(shared),
        }
    }
    // Everybody notices what has changed, and everything has its time.
    registrar.configure(newest);
    for backend in &mut backends {
        backend.follow(shared).await;
    }
    for _ in 0..15 {
        keeper::keep(shared, Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    for service in ["greeter.test", "other.test"] {
        let has = |backend: &&Backend| {
            backend
                .places
                .iter()
                .any(|(name, _)| name.as_str() == service)
        };
        let placed = backends
            .iter()
            .filter(has)
            .map(|backend| backend.claim.addr());
        let placed: BTreeSet<BackendAddr> = placed.collect();
        let registered = shared.table().registered(service);
        prop_assert_eq!(&registered, &placed, "registrations of {}", service);
        match listed(&catalogue, service) {
            Some(listed) => prop_assert_eq!(&listed, &placed, "lists of {}", service),
            None => prop_assert!(
                placed.is_empty() || newest.services.iter().all(|s| s.name.as_str() != service)
            ),
        }
        let open = newest
            .services
            .iter()
            .any(|s| s.name.as_str() == service && s.register.is_some());
        prop_assert!(open || placed.is_empty(), "{} is closed", service);
    }
    Ok(())
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

proptest! {
    /// However a reload, a registration and a removal meet: who is listed has a registration,
    /// and who has a registration is listed.
    #[test]
    fn listed_backends_are_those_that_have_a_lease(
        events in proptest::collection::vec((0u8..8, any::<u8>()), 0..40),
    ) {
        run(interleave(events))?;
    }
}

#[test]
fn a_reload_that_closes_a_service_between_judgment_and_registration_leaves_no_ghost() {
    // Judged while open; closed; registered; told.
    run(interleave(vec![
        (2, 0),
        (0, 1),
        (1, 0),
        (3, 0),
        (5, 0),
        (4, 0),
    ]))
    .unwrap();
    // The same, where it was told meanwhile that nobody has a registration.
    run(interleave(vec![
        (2, 0),
        (0, 1),
        (1, 0),
        (5, 0),
        (3, 0),
        (5, 0),
    ]))
    .unwrap();
}

#[test]
fn a_service_that_is_removed_and_added_again_has_its_registered_backends() {
    let registered = vec![(2, 0), (3, 0), (5, 0), (6, 0)];
    // The registrar sees the last of three files only.
    let again = vec![(0, 0), (6, 0), (0, 2), (1, 0), (4, 0)];
    run(interleave([registered, again].concat())).unwrap();
}

#[test]
fn an_alias_that_moves_takes_its_backends_along() {
    let registered = vec![(2, 0), (3, 0), (5, 0)];
    let moved = vec![(0, 3), (1, 0), (4, 0)];
    run(interleave([registered, moved].concat())).unwrap();
}
