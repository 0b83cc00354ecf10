//! `lookaside watch` against balancers that are there, are not, or speak otherwise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use lookaside_server::app::{App, AppOptions};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SERVICE: &str = "greeter.test";

/// A balancer in this process, with its files.
struct Balancer {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Balancer {
    async fn start(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut text = "[balancer]\nlisten = \"127.0.0.1:0\"\nshutdown = \"0s\"\n\
                        [admin]\nlisten = \"127.0.0.1:0\"\n"
            .to_owned();
        if tls {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            std::fs::write(path("ca.pem"), ca.pem()).unwrap();
            for name in ["lb.test", "client.test"] {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new([name.to_owned()]).unwrap();
                let cert = params.signed_by(&key, &ca).unwrap();
                std::fs::write(path(&format!("{name}.pem")), cert.pem()).unwrap();
                std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            }
            text += &format!(
                "[balancer.tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
                path("lb.test.pem"),
                path("lb.test.key"),
                path("ca.pem"),
            );
        }
        text += &format!(
            "[[service]]\nname = \"{SERVICE}\"\nbackends = [{{ address = \"10.0.0.1:80\" }}]\n"
        );
        std::fs::write(path("lookaside.toml"), text).unwrap();
        let config = path("lookaside.toml");
        let app = App::bind(&config, AppOptions::default()).await.unwrap();
        let addr = app.addresses().balancer;
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let stopped = stop.clone();
        running.spawn(async move { app.run(stopped).await.unwrap() });
        Self {
            folder,
            addr,
            stop,
            running,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// What `watch` does with these arguments.
async fn watch(balancer: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookaside"));
    command
        .env_remove("RUST_LOG")
        .args(["watch", SERVICE, "--balancer", &balancer.to_string()])
        .args(arguments)
        .stdin(Stdio::null());
    let watched = tokio::task::spawn_blocking(move || command.output());
    watched.await.unwrap().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn a_dead_balancer_is_given_up_where_lists_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    for arguments in [
        &["--count", "1", "--timeout", "300ms"] as &[&str],
        &["--timeout", "0.3"],
        &["--count", "1", "--seconds", "0.3"],
    ] {
        let (code, out, err) = said(&watch(dead, arguments).await);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        let last = err.lines().last().unwrap();
        assert!(last.contains("Connection refused"), "{err}");
        assert!(last.contains(&dead.to_string()), "{err}");
    }
}

#[tokio::test]
async fn a_balancer_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let arguments = ["--count", "1", "--timeout", "300ms"];
    let (code, _, err) = said(&watch(silent, &arguments).await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("0 of 1 lists"), "{err}");
}

#[tokio::test]
async fn lists_have_their_time_and_watching_ends_with_its_seconds() {
    let balancer = Balancer::start(false).await;
    let (code, out, err) = said(&watch(balancer.addr, &["--count", "1"]).await);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    let list = lines.iter().find(|line| line.contains(" list 1: "));
    let (time, _) = list.unwrap().split_once(' ').unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{out}");

    let (code, out, err) = said(&watch(balancer.addr, &["--seconds", "1", "--json"]).await);
    assert_eq!(code, Some(0), "{err}");
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["list"], 1);
    assert!(last["time"].is_string(), "{last}");

    let arguments = ["--seconds", "1", "--count", "5"];
    let (code, _, err) = said(&watch(balancer.addr, &arguments).await);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("1 of 5 lists"), "{err}");
    balancer.end().await;
}

#[tokio::test]
async fn a_mismatch_of_tls_is_told_with_what_would_be_right() {
    let (plain, tls) = (Balancer::start(false).await, Balancer::start(true).await);
    let ca = tls.path("ca.pem");
    let with_ca = ["--ca", ca.to_str().unwrap(), "--server-name", "lb.test"];
    let within = ["--count", "1", "--timeout", "1s"];
    let with_ca_within = [with_ca.as_slice(), &within].concat();
    for (balancer, arguments, hint) in [
        (&tls, within.as_slice(), "speaks TLS: pass --ca"),
        (&plain, &with_ca_within, "not TLS: leave out --ca"),
        (&tls, &with_ca_within, "pass --cert and --key"),
    ] {
        let (code, out, err) = said(&watch(balancer.addr, arguments).await);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(hint), "{hint}: {err}");
    }
    let (cert, key) = (tls.path("client.test.pem"), tls.path("client.test.key"));
    let shows = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let arguments = [with_ca.as_slice(), &shows, &["--count", "1"]].concat();
    let (code, out, err) = said(&watch(tls.addr, &arguments).await);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("10.0.0.1:80"), "{out}");

    let other = tls.path("lb.test.key");
    let shows = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        other.to_str().unwrap(),
    ];
    let arguments = [with_ca.as_slice(), &shows].concat();
    let (code, _, err) = said(&watch(tls.addr, &arguments).await);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("is not the key of the certificate"), "{err}");
    plain.end().await;
    tls.end().await;
}
