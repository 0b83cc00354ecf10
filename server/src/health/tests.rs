//! Looks at suspects that have no health check.

use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::catalogue::{CatalogueConfig, CatalogueMetrics, ServiceEntry};
use crate::certificate::Certificates;
use crate::rollout::Rollout;
use crate::subchannel::SubchannelMetrics;
use lookaside_core::plan::{BackendState, Contribution, MemberFields, ServiceSettings, SourceKind};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn name() -> ServiceName {
    ServiceName::parse("greeter.test").unwrap()
}

/// A service of this backend without `health`, whose backends may be in `cidrs`.
struct Looked {
    catalogue: Arc<Catalogue>,
    registry: Registry,
    rollout: Rollout,
    end: CancellationToken,
    _tasks: JoinSet<()>,
}

fn config(cidrs: &str) -> Config {
    let text = format!("[[service]]\nname = \"greeter.test\"\n{cidrs}\nbackends = []");
    crate::config::parse(&text, "lookaside.toml").unwrap()
}

impl Looked {
    fn new(backend: BackendAddr, cidrs: &str) -> Self {
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        catalogue.configure(CatalogueConfig {
            services: vec![ServiceEntry {
                name: name(),
                aliases: Vec::new(),
                settings: ServiceSettings::default(),
                sources: [SourceKind::File.into()].into(),
            }],
        });
        let members = [(backend, MemberFields::default())].into();
        catalogue.contribute(
            &name(),
            SourceKind::File,
            Contribution {
                members: Arc::new(members),
            },
        );
        let mut registry = Registry::default();
        let end = CancellationToken::new();
        let rollout = Rollout::new(config(cidrs));
        let mut tasks = JoinSet::new();
        tasks.spawn(check(
            Arc::clone(&catalogue),
            rollout.part("health checks"),
            Subchannels::new(SubchannelMetrics::default(), Certificates::default()),
            HealthMetrics::register(&mut registry),
            end.clone(),
        ));
        Self {
            catalogue,
            registry,
            rollout,
            end,
            _tasks: tasks,
        }
    }

    async fn until(&self, wanted: BackendState) {
        let service = self.catalogue.get("greeter.test").unwrap();
        service.ready().await;
        let waited = timeout(PATIENCE, async {
            loop {
                let snapshot = service.snapshot().unwrap();
                if snapshot.plan.members[0].state == wanted {
                    return;
                }
                service.newer_than(snapshot.version).await;
            }
        });
        assert!(waited.await.is_ok(), "it is not {}", wanted.as_str());
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// A port that swallows packets, as long as this is held: its queue is full.
struct Hole {
    backend: BackendAddr,
    listener: TcpListener,
    _queue: Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>,
}

impl Hole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let queue = (0..8).map(|_| tokio::spawn(TcpStream::connect(addr)));
        let queue = queue.collect();
        tokio::task::yield_now().await;
        Self {
            backend: BackendAddr::new(addr).unwrap(),
            listener,
            _queue: queue,
        }
    }
}

#[tokio::test]
async fn a_suspect_that_takes_no_connection_again_and_again_is_out_until_it_does() {
    let hole = Hole::new().await;
    let looked = Looked::new(hole.backend, "");
    looked.until(BackendState::Serving).await;
    looked.catalogue.suspect(&name(), hole.backend);
    looked.until(BackendState::Suspect).await;
    looked.until(BackendState::Unhealthy).await;
    let timeouts = "health_probes_total{kind=\"suspect\",result=\"timeout\"} 3";
    assert!(looked.metrics().contains(timeouts), "{}", looked.metrics());
    // It is the only one, so it is listed all the same.
    let service = looked.catalogue.get("greeter.test").unwrap();
    assert!(service.snapshot().unwrap().plan.members[0].listed);
    let mut taken = JoinSet::new();
    taken.spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(hole.listener.accept().await);
        }
    });
    looked.until(BackendState::Serving).await;
    looked.end.cancel();
}

/// Nothing is connected to, so the clock may be a paused one.
#[tokio::test(start_paused = true)]
async fn nobody_looks_where_the_service_has_no_backends() {
    let backend: BackendAddr = "127.0.0.1:1".parse().unwrap();
    let looked = Looked::new(backend, "cidrs = [\"10.0.0.0/8\"]");
    looked.until(BackendState::Serving).await;
    looked.catalogue.suspect(&name(), backend);
    // No time passes while anybody has anything to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    looked.until(BackendState::Serving).await;
    let metrics = looked.metrics();
    let mut looks = metrics
        .lines()
        .filter(|line| line.contains("kind=\"suspect\""));
    assert!(looks.all(|line| line.ends_with(" 0")), "{metrics}");
    looked.end.cancel();
}

#[tokio::test]
async fn what_was_found_is_forgotten_when_the_service_has_no_backends_there_any_more() {
    // Nobody listens there.
    let backend: BackendAddr = "127.0.0.1:1".parse().unwrap();
    let looked = Looked::new(backend, "cidrs = [\"127.0.0.0/8\"]");
    looked.until(BackendState::Serving).await;
    looked.catalogue.suspect(&name(), backend);
    looked.until(BackendState::Unhealthy).await;
    looked.rollout.replace(config("cidrs = [\"10.0.0.0/8\"]"));
    looked.until(BackendState::Serving).await;
    looked.end.cancel();
}
