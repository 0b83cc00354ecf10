//! The binary, as an operator runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const VALID: &str = r#"
[balancer]
listen = "127.0.0.1:0"
shutdown = "100ms"
[admin]
listen = "127.0.0.1:0"

[[service]]
name = "greeter.test"
backends = [
  { address = "10.0.0.1:80", weight = 3 }, # the big one
  { address = "10.0.0.2:80" },
]
"#;

/// How long a line may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.config(), text).unwrap();
        folder
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("lookaside.toml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }
}

fn lookaside() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookaside"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], config: &Path) -> Output {
    let mut command = lookaside();
    command.args(arguments).arg("--config").arg(config);
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `lookaside serve`. Killed if a test fails before it ends.
struct Serve {
    child: Child,
    log: Receiver<String>,
}

impl Serve {
    fn start(config: &Path) -> Self {
        let mut child = lookaside()
            .args(["serve", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, log }
    }

    /// Reads the log up to a line with `word`, and returns that line.
    fn until(&self, word: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if line.contains(word) {
                return line;
            }
            seen.push(line);
        }
        panic!("no `{word}` in\n{}", seen.join("\n"));
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, and what was logged since the last look.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        // The log ends with the process.
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        (self.child.wait().unwrap().code(), rest.join("\n"))
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serve_says_where_it_listens_and_ends_with_0_on_sigterm() {
    let folder = Folder::with(VALID);
    let serve = Serve::start(&folder.config());
    let line = serve.until("listening");
    assert!(line.contains("127.0.0.1:"), "{line}");
    serve.signal(Signal::TERM);
    serve.until("SIGTERM");
    assert_eq!(serve.end().0, Some(0));
}

#[test]
fn serve_refuses_an_invalid_file_with_2_and_says_where() {
    let folder = Folder::with(&VALID.replace("weight = 3", "weight = -3"));
    let (code, log) = Serve::start(&folder.config()).end();
    assert_eq!(code, Some(2));
    assert!(log.contains("lookaside.toml:11:"), "{log}");
    assert!(log.contains("-3"), "{log}");
}

#[test]
fn serve_names_a_file_that_is_not_there() {
    let folder = Folder::with(VALID);
    let (code, log) = Serve::start(&folder.0.path().join("other.toml")).end();
    assert_eq!(code, Some(2));
    assert!(log.contains("other.toml"), "{log}");
}

#[test]
fn serve_names_a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let text = VALID.replacen("127.0.0.1:0", &addr.to_string(), 1);
    let (code, log) = Serve::start(&Folder::with(&text).config()).end();
    assert_eq!(code, Some(1));
    assert!(log.contains(&addr.to_string()), "{log}");
}

#[test]
fn a_bad_edit_is_logged_with_its_place_and_a_good_one_follows_on_sighup() {
    let folder = Folder::with(VALID);
    let serve = Serve::start(&folder.config());
    serve.until("listening");
    std::fs::write(folder.config(), VALID.replace("weight = 3", "weigth = 3")).unwrap();
    serve.signal(Signal::HUP);
    let line = serve.until("weigth");
    assert!(line.contains("lookaside.toml:11:"), "{line}");
    std::fs::write(folder.config(), VALID.replace("weight = 3", "weight = 2")).unwrap();
    serve.signal(Signal::HUP);
    serve.until("configuration applied");
    serve.signal(Signal::TERM);
    assert_eq!(serve.end().0, Some(0));
}

#[test]
fn check_says_ok_with_0_and_lists_faults_with_2() {
    let folder = Folder::with(VALID);
    let check = |folder: &Folder| {
        lookaside()
            .arg("check")
            .arg(folder.config())
            .output()
            .unwrap()
    };
    let ok = check(&folder);
    assert_eq!(ok.status.code(), Some(0), "{}", stderr(&ok));
    let bad = VALID
        .replace("weight = 3", "weight = 1e9")
        .replace("10.0.0.2:80", "host:80");
    let bad = check(&Folder::with(&bad));
    assert_eq!(bad.status.code(), Some(2));
    assert!(bad.stdout.is_empty());
    for place in ["lookaside.toml:11:", "lookaside.toml:12:"] {
        assert!(stderr(&bad).contains(place), "{}", stderr(&bad));
    }
}

#[test]
fn weight_and_drain_edit_the_file_and_keep_its_comments() {
    let folder = Folder::with(VALID);
    let edit = |arguments: &[&str]| run(arguments, &folder.config());
    let output = edit(&["weight", "greeter.test", "10.0.0.1:80", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(folder.text().contains("weight = 7"), "{}", folder.text());
    let both = ["drain", "greeter.test", "10.0.0.1:80", "10.0.0.2:80"];
    let output = edit(&both);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    assert!(!folder.text().contains("drain"), "{}", folder.text());
    let output = edit(&[&both[..], &["--force"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(folder.text().matches("drain = true").count(), 2);
    let output = edit(&["undrain", "greeter.test", "10.0.0.2:80"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(folder.text().matches("drain = true").count(), 1);
    assert!(folder.text().contains("# the big one"));
}

#[test]
fn an_edit_of_something_unknown_says_what_there_is_and_writes_nothing() {
    let folder = Folder::with(VALID);
    for (arguments, hint) in [
        (
            ["weight", "greter.test", "10.0.0.1:80", "7"],
            "greeter.test",
        ),
        (
            ["weight", "greeter.test", "10.0.0.9:80", "7"],
            "10.0.0.1:80",
        ),
        (["weight", "greeter.test", "10.0.0.1:80", "-7"], "-7"),
    ] {
        let output = run(&arguments, &folder.config());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(hint), "{}", stderr(&output));
    }
    assert_eq!(folder.text(), VALID);
}

#[test]
fn the_demo_ends_by_itself_with_shares_as_wanted_and_no_failed_call() {
    let output = lookaside()
        .args(["demo", "--seconds", "4", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let result: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(result["failed"], 0);
    assert!(result["rpcs"].as_u64().unwrap() > 100);
    assert!(result["reload_ms"].as_f64().is_some());
    for backend in result["backends"].as_array().unwrap() {
        let wanted = backend["share_wanted"].as_f64().unwrap();
        let seen = backend["share_seen"].as_f64().unwrap();
        assert!((wanted - seen).abs() < 0.02, "{result}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = lookaside().args(["completions", shell]).output().unwrap();
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("undrain"),
            "{shell}"
        );
    }
}

const SCENARIO: &str = r#"
name = "short"
seed = 3
duration = "120s"
backends = 5
clients = 10
policies = ["round_robin", "feedback"]
"#;

#[test]
fn simulate_ends_with_one_line_of_json_a_scenario_and_draws() {
    let folder = Folder::with(SCENARIO);
    let picture = folder.0.path().join("picture.svg");
    let simulate = || {
        let mut command = lookaside();
        command.args(["simulate", "--json", "--plot"]).arg(&picture);
        command.arg(folder.config()).output().unwrap()
    };
    let output = simulate();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(json["scenario"], "short");
    let policies = json["policies"].as_array().unwrap();
    let names: Vec<_> = policies.iter().map(|policy| &policy["policy"]).collect();
    assert_eq!(names, ["round_robin", "feedback"]);
    for key in [
        "max_over_avg",
        "worst_utilization",
        "quiet_ticks",
        "failed_share",
    ] {
        assert!(policies[1][key].is_number(), "{key}: {text}");
    }
    assert!(policies[1].get("resettle_s").is_some(), "{text}");
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg "));
    assert_eq!(simulate().stdout, output.stdout, "the same digits");
}

#[test]
fn a_scenario_that_is_wrong_is_bad_input_with_its_line() {
    let folder = Folder::with("name = \"a\"\nbackend = 5\n");
    let mut command = lookaside();
    let output = command.arg("simulate").arg(folder.config()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("lookaside.toml:2:1: unknown key `backend`"),
        "{told}"
    );
    assert!(told.contains("did you mean `backends`?"), "{told}");
}
