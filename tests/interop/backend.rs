//! A Greeter that answers with its own address, and counts the calls it got
//! and the `lb-token` that each brought.
//!
//! One process is one backend, so that the driver can kill it as a machine
//! would die and bring it back at the same port. It obeys lines on standard
//! input (see `README.md`) and ends with it, so that it never outlives its driver.
//! With `--report orca` it tells its load, as our backend crate does that.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use lookaside_backend::{Load, Utilization};
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use lookaside_proto::lb_v1::LB_TOKEN_KEY;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer as _;

/// Calls by the token they brought; `None` is a call without one.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<Option<String>, u64>>);

impl Counts {
    fn add(&self, token: Option<String>) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(token).or_default() += 1;
    }

    fn total(&self) -> u64 {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.values().sum()
    }

    fn json(&self) -> serde_json::Value {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens: BTreeMap<&str, u64> = calls
            .iter()
            .filter_map(|(token, calls)| Some((token.as_deref()?, *calls)))
            .collect();
        serde_json::json!({
            "calls": calls.values().sum::<u64>(),
            "without_token": calls.get(&None).copied().unwrap_or_default(),
            "tokens": tokens,
        })
    }
}

struct Named {
    listening: SocketAddr,
    counts: Arc<Counts>,
}

#[tonic::async_trait]
impl Greeter for Named {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let token = request.metadata().get(LB_TOKEN_KEY);
        let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
        self.counts.add(token);
        let message = self.listening.to_string();
        Ok(Response::new(HelloReply { message }))
    }
}

#[derive(Default)]
struct Flags {
    listen: Option<SocketAddr>,
    cert: Option<String>,
    key: Option<String>,
    /// Calls a second that are a utilization of 1.
    capacity: Option<f64>,
    /// How it tells its load, if it does.
    report: Option<String>,
}

impl Flags {
    fn parse() -> Result<Self> {
        let mut flags = Self::default();
        let mut words = std::env::args().skip(1);
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match flag.as_str() {
                "--listen" => flags.listen = Some(value.parse().context("--listen ip:port")?),
                "--cert" => flags.cert = Some(value),
                "--key" => flags.key = Some(value),
                "--capacity" => flags.capacity = Some(value.parse().context("--capacity")?),
                "--report" => flags.report = Some(value),
                _ => bail!(
                    "unknown flag {flag}; --listen, --cert, --key, --capacity and --report are known"
                ),
            }
        }
        Ok(flags)
    }

    fn tls(&self) -> Result<Option<TlsAcceptor>> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Ok(None);
        };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect)
            .with_context(|| cert.clone())?;
        let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.clone())?;
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Some(Arc::new(tls).into()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let flags = Flags::parse()?;
    let tls = flags.tls()?;
    let listen = flags.listen.context("--listen ip:port is missing")?;
    let listener = TcpListener::bind(listen).await.context("bind")?;
    let listening = listener.local_addr()?;
    let counts = Arc::new(Counts::default());
    let greeter = GreeterServer::new(Named {
        listening,
        counts: Arc::clone(&counts),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let load = Load::new(Utilization::Set);
    let mut services = Routes::new(greeter).add_service(health_service);
    if flags.report.as_deref() == Some("orca") {
        services = services.add_service(load.orca());
    }
    say(&serde_json::json!({ "listening": listening }))?;

    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut counted = 0;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.next_line() => match line?.as_deref() {
                Some(line) => say(&obey(line, &counts, &health).await)?,
                None => return Ok(()),
            },
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let (tls, services) = (tls.clone(), services.clone());
                let load = load.clone();
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, services, load).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, services, load).await,
                            Err(error) => eprintln!("handshake: {error}"),
                        },
                    }
                });
            }
            _ = seconds.tick() => {
                let before = std::mem::replace(&mut counted, counts.total());
                let calls = (counted - before) as f64;
                load.set_utilization(calls / flags.capacity.unwrap_or(100.0));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn obey(line: &str, counts: &Counts, health: &HealthReporter) -> serde_json::Value {
    let status = match line {
        "counts" => return counts.json(),
        "health serving" => ServingStatus::Serving,
        "health not_serving" => ServingStatus::NotServing,
        other => return serde_json::json!({ "error": format!("unknown command: {other}") }),
    };
    health.set_service_status("", status).await;
    serde_json::json!({})
}

/// One connection, until either side ends it; how it ended is the client's
/// business.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    services: Routes,
    load: Load,
) {
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(
            TokioIo::new(stream),
            TowerToHyperService::new(load.layer().layer(services)),
        )
        .await;
    if let Err(error) = served {
        eprintln!("connection: {error}");
    }
}

fn say(answer: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}
