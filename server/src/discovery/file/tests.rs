//! Real files in folders of their own. A test waits for what it expects, with
//! a deadline that only a broken balancer meets.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use futures_util::stream;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::fleet::FleetMetrics;
use crate::model::{RequestedName, ServiceName};
use crate::plan::{Contribution, MemberFields, Source};
use crate::telemetry::Lines;

const DEADLINE: Duration = Duration::from_secs(20);

/// How long a file that lacks most services is held back here.
const HOLD: Duration = Duration::from_millis(1500);

const GREETER: &str = "greeter.test";

/// A balancer's worth of configuration file.
struct Running {
    dir: TempDir,
    path: PathBuf,
    fleet: Arc<Fleet>,
    config: channel::Receiver<Arc<Config>>,
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
        let fleet = Fleet::new(FleetMetrics::default());
        apply(&config_file.config(), &fleet);
        let config = config_file.subscribe();
        let mut registry = Registry::default();
        let metrics = ConfigMetrics::register(&mut registry);
        let (hangup, mut hangups) = mpsc::unbounded_channel();
        let hangups = stream::poll_fn(move |context| hangups.poll_recv(context));
        let shutdown = CancellationToken::new();
        let run = config_file.run(Arc::clone(&fleet), hangups, shutdown.clone(), metrics);
        Self {
            dir,
            path,
            fleet,
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

    /// Waits until the first backend has this weight, here and in the fleet.
    async fn weight(&mut self, weight: u32) {
        let weight = f64::from(weight);
        let first = |config: &Arc<Config>| config.services[0].backends[0].weight;
        let arrived = self
            .config
            .wait_for(|config| first(config).map(|w| w.value()) == Some(weight));
        let _ = timeout(DEADLINE, arrived).await.unwrap().unwrap();

        let name = RequestedName::parse(GREETER).unwrap();
        let service = timeout(DEADLINE, self.fleet.resolve(&name)).await;
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
                let services = self.fleet.services();
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
        let services = self.fleet.services();
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
async fn a_file_renamed_into_place_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    for weight in [5, 7] {
        running.replace(&file(weight));
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_written_in_place_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    for weight in [5, 7] {
        fs::write(&running.path, file(weight)).unwrap();
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_that_changed_before_it_was_watched_is_followed() {
    let mut running = Running::usual();
    // The task has not run yet: this runtime has one thread, which is ours.
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    // As the kubelet does it: a folder per version, and one link that is
    // swapped.
    let version = |root: &Path, name: &str, weight| {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lookaside.toml"), file(weight)).unwrap();
        let link = root.join("..data_tmp");
        symlink(name, &link).unwrap();
        fs::rename(link, root.join("..data")).unwrap();
    };
    let mut running = Running::start("lookaside.toml", |path| {
        version(path.parent().unwrap(), "..v3", 3);
        symlink("..data/lookaside.toml", path).unwrap();
    });
    running.weight(3).await;
    for weight in [5, 7] {
        version(running.dir.path(), &format!("..v{weight}"), weight);
        fs::remove_dir_all(running.dir.path().join(format!("..v{}", weight - 2))).unwrap();
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_behind_a_link_to_another_folder_is_followed() {
    let mut running = Running::start("lookaside.toml", |path| {
        let elsewhere = path.parent().unwrap().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("a.toml"), file(3)).unwrap();
        symlink("elsewhere/a.toml", path).unwrap();
    });
    running.weight(3).await;
    let target = running.dir.path().join("elsewhere/a.toml");
    fs::write(&target, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn a_deleted_file_changes_nothing_and_one_made_anew_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    fs::remove_file(&running.path).unwrap();
    running.refused().await;
    running.unmoved();
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.accepted().await;
    running.end().await;
}

#[tokio::test]
async fn a_folder_made_anew_is_followed() {
    let mut running = Running::start("etc/lookaside.toml", |path| {
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, file(3)).unwrap();
    });
    running.weight(3).await;
    let folder = running.dir.path().join("etc");
    fs::remove_dir_all(&folder).unwrap();
    running.refused().await;
    running.unmoved();
    fs::create_dir(&folder).unwrap();
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_the_next_valid_one_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    running.replace("[[service]]\nname = \"");
    running.refused().await;
    running.unmoved();
    running.replace(&file(5));
    running.weight(5).await;
    running.accepted().await;
    // Back to what is in force is as good as anything new.
    running.replace("nonsense");
    running.refused().await;
    running.replace(&file(5));
    running.accepted().await;
    running.end().await;
}

#[tokio::test]
async fn a_truncated_file_takes_no_backend_away() {
    let mut running = Running::usual();
    running.weight(3).await;
    let text = file(3);
    for text in ["", &text[..text.find("backends").unwrap()]] {
        running.replace(text);
        running.refused().await;
        running.unmoved();
        running.replace(&file(3));
        running.accepted().await;
    }
    running.end().await;
}

/// Services of one backend each.
fn services(names: &[&str]) -> String {
    let service = |name: &&str| {
        format!("[[service]]\nname = \"{name}\"\nbackends = [{{ address = \"10.0.0.1:80\" }}]\n")
    };
    names.iter().map(service).collect()
}

#[tokio::test]
async fn a_file_that_lacks_most_services_is_applied_if_it_still_does_later() {
    let text = services(&["a", "b", "c"]);
    let make = |path: &Path| fs::write(path, &text).unwrap();
    let running = Running::start_with("lookaside.toml", HOLD, make);
    let lines = Lines::default();
    let log = lines.capture();
    running.replace(&services(&["a"]));
    running.reloads("held", 1).await;
    running.services(&["a", "b", "c"]).await;
    running.refused().await;
    // It is applied by itself: nobody touches the file again.
    running.services(&["a"]).await;
    running.accepted().await;
    running.reloads("held", 1).await;
    drop(log);
    let text = lines.text();
    for part in [
        "configuration held back",
        "2 of 3 services are gone (`b`, `c`)",
        "--allow-empty",
        "has lacked most services for",
        "configuration applied",
        "removed b, c",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_that_gets_its_services_back_in_time_has_changed_nothing() {
    let text = services(&["a", "b", "c"]);
    let running = Running::start("lookaside.toml", |path| fs::write(path, &text).unwrap());
    let lines = Lines::default();
    let log = lines.capture();
    running.replace(&services(&["a"]));
    running.reloads("held", 1).await;
    // Asked again it says the same, and the time is not over.
    running.hangup.send(()).unwrap();
    running.reloads("held", 2).await;
    running.replace(&text);
    running.reloads("unchanged", 1).await;
    running.accepted().await;
    drop(log);
    assert!(
        lines.text().contains("configuration valid again"),
        "{}",
        lines.text()
    );
    assert!(!running.config.has_changed().unwrap());
    running.services(&["a", "b", "c"]).await;
    running.end().await;
}

#[tokio::test]
async fn a_file_entry_of_a_registered_backend_may_go_again() {
    let open =
        format!("[[service]]\nname = \"{GREETER}\"\nregister = {{ cidrs = [\"10.0.0.0/8\"] }}\n");
    let pinned = format!("{open}backends = [{{ address = \"10.0.0.1:80\", weight = 2 }}]\n");
    let running = Running::start("lookaside.toml", |path| fs::write(path, &pinned).unwrap());
    let name = ServiceName::parse(GREETER).unwrap();
    let register = |hosts: &[u8]| {
        let members = hosts.iter().map(|host| {
            let addr = format!("10.0.0.{host}:80").parse().unwrap();
            (addr, MemberFields::default())
        });
        let members = Arc::new(members.collect());
        let contribution = Contribution { members };
        running
            .fleet
            .contribute(&name, Source::Registration, contribution);
    };
    // Nobody has registered yet, so the service would be empty.
    running.replace(&open);
    running.reloads("refused", 1).await;
    // Then somebody does, and the file is looked at again by itself.
    register(&[1]);
    running.reloads("applied", 1).await;
    running.accepted().await;
    // Nor may a file take the registered ones away.
    running.replace(&format!("[[service]]\nname = \"{GREETER}\"\n"));
    running.reloads("refused", 2).await;
    running.replace(&pinned);
    running.reloads("applied", 2).await;
    running.end().await;
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
    let in_force = running.config.borrow().admin.listen;
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
    let service = timeout(DEADLINE, running.fleet.resolve(&name)).await;
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

/// Edits the file again and again, without a pause that would be quiet, until it
/// was followed `times` times.
async fn followed_while_edited(mut running: Running, times: u32, edit: fn(&Path, &str)) {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let path = running.path.clone();
    let editor = std::thread::spawn(move || {
        let pause = Duration::from_millis(20);
        for weight in (1..1000).cycle() {
            edit(&path, &file(weight));
            if stopped.recv_timeout(pause).is_ok() {
                return;
            }
        }
    });
    for _ in 0..times {
        let changed = timeout(DEADLINE, running.config.changed()).await;
        changed.unwrap().unwrap();
    }
    stop.send(()).unwrap();
    editor.join().unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_file_that_is_replaced_without_a_pause_is_followed_meanwhile() {
    let running = Running::usual();
    followed_while_edited(running, 5, |path, text| {
        let other = path.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(other, path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_written_without_a_pause_is_followed_meanwhile() {
    let running = Running::usual();
    followed_while_edited(running, 2, |path, text| fs::write(path, text).unwrap()).await;
}

#[tokio::test]
async fn half_of_a_file_that_is_renamed_into_place_is_refused_when_it_stays() {
    let mut running = Running::usual();
    running.weight(3).await;
    running.replace("[[service]]\nname = ");
    running.refused().await;
    running.unmoved();
    running.replace(&file(5));
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn what_is_not_a_file_in_its_place_changes_nothing_and_the_next_file_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    let places: [fn(&Path); 3] = [
        |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for (weight, place) in (5..).zip(places) {
        fs::remove_file(&running.path).unwrap();
        place(&running.path);
        running.refused().await;
        if running.path.is_dir() {
            fs::remove_dir(&running.path).unwrap();
        }
        running.replace(&file(weight));
        running.weight(weight).await;
        running.accepted().await;
    }
    running.end().await;
}
