//! Real files in folders of their own. A test waits for what it expects, with
//! a deadline that only a broken balancer meets.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use futures_util::stream;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::catalogue::CatalogueMetrics;
use crate::config::Config;
use crate::rollout::Revision;
use crate::telemetry::Lines;
use lookaside_core::model::{RequestedName, ServiceName};
use lookaside_core::plan::{Contribution, MemberFields, SourceKind};

mod edits;
mod guard;

const DEADLINE: Duration = Duration::from_secs(20);

/// How long a file that lacks most services is held back here.
const HOLD: Duration = Duration::from_millis(1500);

const GREETER: &str = "greeter.test";

/// A balancer's worth of configuration file.
struct Running {
    dir: TempDir,
    path: PathBuf,
    catalogue: Arc<Catalogue>,
    config: watch::Receiver<Arc<Revision>>,
    registry: Registry,
    hangup: mpsc::UnboundedSender<()>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), WatchError>>,
}

fn file(weight: u32) -> String {
    format!(
        "[[service]]\nname = \"{GREETER}\"\nbackends = [\n  \
         {{ address = \"10.0.0.1:80\", weight = {weight} }},\n  \
         {{ address = \"10.0.0.2:80\" }},\n]\n"
    )
}

impl Running {
    /// In an empty folder, with the file at `path` made by `make`.
    fn start(path: &str, make: impl FnOnce(&Path)) -> Self {
        Self::start_with(path, decision::HOLD, make)
    }

    /// The same, where files are held back for so long.
    fn start_with(path: &str, hold: Duration, make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(path);
        make(&path);
        let config_file = ConfigFile::load(&path).unwrap().hold(hold);
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        apply(&config_file.rollout().config(), &catalogue);
        let config = config_file.rollout().revisions();
        let mut registry = Registry::default();
        let metrics = ConfigMetrics::register(&mut registry);
        let (hangup, mut hangups) = mpsc::unbounded_channel();
        let hangups = stream::poll_fn(move |context| hangups.poll_recv(context));
        let shutdown = CancellationToken::new();
        let run = config_file.run(Arc::clone(&catalogue), hangups, shutdown.clone(), metrics);
        Self {
            dir,
            path,
            catalogue,
            config,
            registry,
            hangup,
            shutdown,
            task: tokio::spawn(run),
        }
    }

    /// With the usual file, at its usual place.
    fn usual() -> Self {
        Self::start("lookaside.toml", |path| fs::write(path, file(3)).unwrap())
    }

    /// Writes a file beside it and renames it into its place.
    fn replace(&self, text: &str) {
        let other = self.dir.path().join("lookaside.toml~");
        fs::write(&other, text).unwrap();
        fs::rename(other, &self.path).unwrap();
    }

    /// Waits until the first backend has this weight, here and in the catalogue.
    async fn weight(&mut self, weight: u32) {
        let weight = f64::from(weight);
        let first = |config: &Arc<Config>| config.services[0].backends[0].weight;
        let arrived = self
            .config
            .wait_for(|revision| first(&revision.config).map(|w| w.value()) == Some(weight));
        let _ = timeout(DEADLINE, arrived).await.unwrap().unwrap();

        let name = RequestedName::parse(GREETER).unwrap();
        let service = timeout(DEADLINE, self.catalogue.resolve(&name)).await;
        let service = service.unwrap().unwrap();
        let mut version = 0;
        loop {
            timeout(DEADLINE, service.newer_than(version))
                .await
                .unwrap();
            let snapshot = service.snapshot().unwrap();
            if snapshot.plan.members[0].operator.value() == weight {
                return;
            }
            version = snapshot.version;
        }
    }

    /// Waits until a metric has this value.
    async fn metric(&self, name: &str, value: &str) {
        let line = format!("\nconfig_{name} {value}\n");
        let mut look = interval(Duration::from_millis(5));
        let seen = async {
            loop {
                look.tick().await;
                let mut text = String::new();
                encode(&mut text, &self.registry).unwrap();
                if text.contains(&line) {
                    return;
                }
            }
        };
        timeout(DEADLINE, seen).await.unwrap();
    }

    /// Waits until so many readings ended like this.
    async fn reloads(&self, outcome: &str, count: u32) {
        let name = format!("reloads_total{{outcome=\"{outcome}\"}}");
        self.metric(&name, &count.to_string()).await;
    }

    /// Waits until there are these services, and no others.
    async fn services(&self, names: &[&str]) {
        let mut look = interval(Duration::from_millis(5));
        let seen = async {
            loop {
                look.tick().await;
                let services = self.catalogue.services();
                if services
                    .iter()
                    .map(|s| s.name().as_str())
                    .eq(names.iter().copied())
                {
                    return;
                }
            }
        };
        timeout(DEADLINE, seen).await.unwrap();
    }

    async fn refused(&self) {
        self.metric("last_reload_successful", "0").await;
    }

    async fn accepted(&self) {
        self.metric("last_reload_successful", "1").await;
    }

    /// What is in force is what it was.
    fn unmoved(&self) {
        assert!(!self.config.has_changed().unwrap());
        let services = self.catalogue.services();
        assert_eq!(services.len(), 1);
        let snapshot = services[0].snapshot().unwrap();
        assert_eq!(snapshot.plan.members.len(), 2);
    }

    async fn end(self) {
        self.shutdown.cancel();
        let ended = timeout(DEADLINE, self.task).await.unwrap();
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_only_a_restart_applies_is_shown_until_it_is_taken_back() {
    let mut running = Running::usual();
    running.weight(3).await;
    running.metric("restart_required", "0").await;
    let listen = "[admin]\nlisten = \"127.0.0.1:9901\"\n";
    running.replace(&format!("{listen}{}", file(5)));
    running.weight(5).await;
    running.metric("restart_required", "1").await;
    running.accepted().await;
    let in_force = running.config.borrow().config.admin.listen;
    assert_eq!(in_force, config::AdminConfig::default().listen);
    running.replace(&file(5));
    running.metric("restart_required", "0").await;
    running.end().await;
}

#[tokio::test]
async fn a_hangup_reads_again_what_looks_the_same() {
    let mut running = Running::usual();
    running.weight(3).await;
    let timestamp = |running: &Running| {
        let mut text = String::new();
        encode(&mut text, &running.registry).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("config_last_reload_success_timestamp_seconds "))
            .unwrap();
        line.to_owned()
    };
    let before = timestamp(&running);
    running.hangup.send(()).unwrap();
    let mut look = interval(Duration::from_millis(5));
    let later = async {
        while timestamp(&running) == before {
            look.tick().await;
        }
    };
    timeout(DEADLINE, later).await.unwrap();
    running.unmoved();
    running.end().await;
}

#[tokio::test]
async fn an_end_of_hangups_ends_nothing() {
    let mut running = Running::usual();
    running.weight(3).await;
    let (gone, _) = mpsc::unbounded_channel();
    running.hangup = gone;
    running.replace(&file(5));
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn a_service_without_backends_is_ready_to_fall_back() {
    let running = Running::start("lookaside.toml", |path| {
        fs::write(path, format!("[[service]]\nname = \"{GREETER}\"\n")).unwrap();
    });
    let name = RequestedName::parse(GREETER).unwrap();
    let service = timeout(DEADLINE, running.catalogue.resolve(&name)).await;
    let snapshot = service.unwrap().unwrap().snapshot().unwrap();
    assert!(snapshot.plan.members.is_empty());
    running.end().await;
}

#[test]
fn a_file_that_is_missing_or_wrong_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookaside.toml");
    let error = ConfigFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("cannot be read: No such file"), "{error}");
    fs::write(&path, "[[service]]\n").unwrap();
    let error = ConfigFile::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("lookaside.toml:1:1: service[0]: `name` is missing"),
        "{error}"
    );
}
