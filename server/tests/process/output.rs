//! What the binary prints and logs where nothing takes it, and what peers can do
//! to it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread;

use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_proto::registration_v1::registration_service_client::RegistrationServiceClient;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{Folder, Serve, VALID, lookaside};

const SCENARIO: &str = "name = \"short\"\nduration = \"60s\"\nbackends = 3\nclients = 3\n\
                        policies = [\"round_robin\"]\n";

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// The end of a pipe that nobody reads.
fn closed() -> OwnedFd {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A pipe without room, and its reader.
fn stuffed() -> (File, OwnedFd) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let (reader, writer) = std::io::pipe().unwrap();
    let writer: OwnedFd = writer.into();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let mut stuffing = File::from(writer.try_clone().unwrap());
    while stuffing.write(b"0123456789abcde\n").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (File::from(OwnedFd::from(reader)), writer)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let serve = Serve::start(&folder, &["--log-format", format, "--log", "debug"], full());
        assert_eq!(serve.end(), Some(0), "{format}");
    }
}

#[test]
fn a_log_whose_reader_has_gone_stops_nothing() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let serve = Serve::start(&folder, &["--log-format", format], closed());
        assert_eq!(serve.end(), Some(0), "{format}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_tells_later_what_was_lost() {
    let folder = Folder::new();
    let (mut reader, writer) = stuffed();
    let serve = Serve::start(&folder, &["--log-format", "json"], writer);
    let reading = thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    // What it logs at its end goes through.
    assert_eq!(serve.end(), Some(0));
    let log = reading.join().unwrap();
    let lost = log
        .lines()
        .find(|line| line.contains("log lines were lost"));
    let lost: serde_json::Value = serde_json::from_str(lost.unwrap()).unwrap();
    assert!(lost["fields"]["lost"].as_u64().unwrap() > 0, "{lost}");
}

/// Runs every command that answers and ends, with this as its stdout.
fn with_stdout(stdout: impl Fn() -> Stdio, check: impl Fn(&str, Output)) {
    let folder = Folder::new();
    let serve = Serve::start(&folder, &[], Stdio::null());
    let balancer = serve.balancer.to_string();
    let (config, scenario) = (folder.path("lookaside.toml"), folder.path("scenario.toml"));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let (config, scenario) = (text(&config), text(&scenario));
    let backend = "10.0.0.1:80";
    for arguments in [
        &["--help"] as &[&str],
        &["--version"],
        &["help", "serve"],
        &["completions", "bash"],
        &["check", config],
        &["simulate", "--json", scenario],
        &["weight", "greeter.test", backend, "1", "--config", config],
        &["demo", "--seconds", "2", "--json"],
        &["watch", "greeter.test", "--balancer", &balancer],
        &["watch", "greeter.test", "--balancer", &balancer, "--json"],
    ] {
        let output = lookaside().args(arguments).stdout(stdout()).output();
        check(&arguments.join(" "), output.unwrap());
    }
    assert_eq!(serve.end(), Some(0));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    with_stdout(
        || closed().into(),
        |command, output| {
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{command}: {said}");
            // The demo's table and check's warnings go there.
            let noise = said.contains("panic") || said.contains("lookaside: ");
            assert!(!noise, "{command}: {said}");
        },
    );
}

#[test]
fn an_answer_on_a_full_disk_is_an_error() {
    with_stdout(
        || full().into(),
        |command, output| {
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            let wanted = "lookaside: cannot write to stdout: No space left on device";
            assert!(said.contains(wanted), "{command}: {said}");
        },
    );
}

#[test]
fn errors_that_stderr_does_not_take_keep_their_exit_code() {
    for log in [|| Stdio::from(full()), || Stdio::from(closed())] {
        for (arguments, code) in [
            (&["check", "/no/such/file"] as &[&str], 2),
            (&["serve", "--config", "/no/such/file"], 2),
            (&["--no-such-flag"], 2),
            (&["--log", "inof", "check", "/no/such/file"], 2),
        ] {
            let status = lookaside().args(arguments).stderr(log()).status();
            assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
        }
        let demo = lookaside()
            .args(["demo", "--seconds", "2", "--json"])
            .stdout(Stdio::null())
            .stderr(log())
            .status();
        assert_eq!(demo.unwrap().code(), Some(0));
    }
}

#[test]
fn a_log_filter_that_would_log_nothing_is_refused_with_2() {
    let folder = Folder::new();
    let check = || {
        let mut command = lookaside();
        command.arg("check").arg(folder.path("lookaside.toml"));
        command
    };
    let by_flag = check().args(["--log", "inof"]).output().unwrap();
    let by_variable = check().env("RUST_LOG", "info,inof").output().unwrap();
    for (from, output) in [("--log", by_flag), ("RUST_LOG", by_variable)] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(from) && said.contains("`inof`"), "{said}");
        assert!(said.contains("error, warn, info"), "{said}");
    }
    for good in ["", "warn", "h2=debug"] {
        let output = check().env("RUST_LOG", good).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

/// What the balancer answers to a registration.
async fn register(balancer: SocketAddr, registration: pb::Registration) -> Status {
    let endpoint = Endpoint::from_shared(format!("http://{balancer}")).unwrap();
    let mut client = RegistrationServiceClient::new(endpoint.connect().await.unwrap());
    let request = pb::RegisterRequest {
        message: Some(Message::Registration(registration)),
    };
    let requests = tokio_stream::once(request);
    client.register(requests).await.unwrap_err()
}

fn registration(service: &str, address: &str) -> pb::Registration {
    pb::Registration {
        services: vec![service.to_owned()],
        r#where: Some(Where::Address(address.to_owned())),
        instance: "a".to_owned(),
        ..pb::Registration::default()
    }
}

#[tokio::test]
async fn what_peers_send_forges_no_line_and_moves_no_terminal() {
    const HOSTILE: &str = "x\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}2J\u{202e}\u{2028}";
    for format in ["text", "json"] {
        let folder = Folder::new();
        let log = folder.path("log");
        let arguments = ["--log-format", format, "--log", "trace"];
        let serve = Serve::start(&folder, &arguments, File::create(&log).unwrap());
        let balancer = serve.balancer;
        let address = register(balancer, registration("greeter.test", HOSTILE)).await;
        let service = register(balancer, registration(HOSTILE, "127.0.0.1:1")).await;
        let mut labels = registration("greeter.test", "127.0.0.1:1");
        labels.labels.insert(HOSTILE.to_owned(), String::new());
        let labels = register(balancer, labels).await;
        for status in [address, service, labels] {
            let hidden = status
                .message()
                .chars()
                .any(|c| c.is_control() || c == '\u{202e}');
            assert!(!hidden && status.message().contains("forged"), "{status:?}");
        }
        assert_eq!(serve.end(), Some(0));
        let log = std::fs::read_to_string(&log).unwrap();
        for hidden in ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}'] {
            assert!(!log.contains(hidden), "{format}: {hidden:?}");
        }
        let forged: Vec<_> = log.lines().filter(|line| line.contains("forged")).collect();
        assert!(!forged.is_empty(), "{log}");
        for line in forged {
            assert!(!line.starts_with("2026-01-01T00:00:00Z"), "{line}");
            if format == "json" {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_long_name_is_refused_with_the_reason_and_not_with_too_many_headers() {
    let folder = Folder::new();
    let serve = Serve::start(&folder, &[], Stdio::null());
    let mut names = registration(&"a".repeat(200), "127.0.0.1:1");
    names.services = vec!["ä".repeat(2000); 12];
    let status = register(serve.balancer, names).await;
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert!(
        status.message().contains("at most 255 are allowed"),
        "{status:?}"
    );
    assert!(status.message().chars().count() <= 601, "{status:?}");
    assert_eq!(serve.end(), Some(0));
}

#[tokio::test]
async fn a_refused_backend_is_logged_with_its_address() {
    let folder = Folder::new();
    let log = folder.path("log");
    let serve = Serve::start(&folder, &[], File::create(&log).unwrap());
    register(serve.balancer, registration("nobody.test", "127.0.0.1:1")).await;
    assert_eq!(serve.end(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("registration refused"));
    assert!(line.unwrap().contains("peer=127.0.0.1:"), "{log}");
}

#[test]
fn the_first_line_has_version_file_and_allocator() {
    let folder = Folder::new();
    let log = folder.path("log");
    let serve = Serve::start(&folder, &[], File::create(&log).unwrap());
    assert_eq!(serve.end(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    let first = log.lines().next().unwrap();
    for wanted in [
        env!("CARGO_PKG_VERSION"),
        "lookaside.toml",
        "allocator",
        "tls",
    ] {
        assert!(first.contains(wanted), "{first}");
    }
}

#[test]
fn every_port_that_cannot_be_bound_is_named_with_its_key_and_what_would_be_right() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (key, addr, hint) in [
        ("balancer.listen", taken.as_str(), "write another port"),
        ("admin.listen", &taken, "write another port"),
        ("dns.listen", &taken, "write another port"),
        ("admin.listen", "192.0.2.1:0", "one that it has"),
        ("dns.listen", "192.0.2.1:0", "one that it has"),
    ] {
        let folder = Folder::new();
        let (table, _) = key.split_once('.').unwrap();
        let mut text = VALID.replace("[balancer]", "[dns]\nlisten = \"127.0.0.1:0\"\n[balancer]");
        let header = format!("[{table}]\nlisten = \"");
        text = text.replace(&format!("{header}127.0.0.1:0"), &format!("{header}{addr}"));
        std::fs::write(folder.path("lookaside.toml"), text).unwrap();
        let output = lookaside()
            .args(["serve", "--config"])
            .arg(folder.path("lookaside.toml"))
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for wanted in [key, addr, hint] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
}
