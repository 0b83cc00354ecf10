//! A backend: the Greeter of gRPC's examples, behind a lookaside balancer.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin backend -- --listen 127.0.0.1:50051 --name blue
//! ```
//!
//! It answers "Hello X from NAME" and prints the token that each call carries.
//! The first line on stdout is the address it listens on, so that `--listen
//! 127.0.0.1:0` can be used from scripts. SIGTERM and Ctrl-C end it in good order:
//! clients are told to go elsewhere, calls under way finish.
//!
//! With `--balancer` it registers and reports its load, where the balancer's file
//! has `register` for the service; without, the file lists it:
//!
//! ```sh
//! cargo run -p lookaside-examples --bin backend -- --listen 127.0.0.1:0 \
//!     --balancer static:127.0.0.1:9000 --service greeter.example.com
//! ```
//!
//! `--weight`, `--zone` and `--label` are what it says of itself then. `--delay` makes
//! its calls slow: with `--limit` and a policy that learns from load, watch its share
//! fall.
//!
//! With `--tls-cert` and `--tls-key` it speaks TLS, and with `--tls-client-ca` it wants
//! certificates of its clients: of the balancer, too, which then needs `tls` for the
//! service, with `cert` and `key`. Where the balancer itself speaks TLS, `--balancer-ca`
//! says whom to trust, and the same certificate is shown to it.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use lookaside_backend::{Load, Registration, Utilization, lb_token};
use lookaside_client::ClientTls;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A Greeter backend that says who it is.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes any that is free.
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: SocketAddr,

    /// What the answers say they are from; the address if not given.
    #[arg(long)]
    name: Option<String>,

    /// Register with the balancers of this target, as
    /// dns:///lb.example.com:9000 or static:127.0.0.1:9000.
    #[arg(long)]
    balancer: Option<String>,

    /// What clients call the service; for --balancer.
    #[arg(long, default_value = "greeter.example.com")]
    service: String,

    /// What to show the balancer, if it wants a token.
    #[arg(long)]
    token: Option<String>,

    /// Its share of calls relative to other backends, above 0 and at most 1000000; 1 if
    /// not given. For --balancer.
    #[arg(long, requires = "balancer")]
    weight: Option<f64>,

    /// The zone it is in, e.g. eu-west-1a. For --balancer.
    #[arg(long, requires = "balancer")]
    zone: Option<String>,

    /// A label, e.g. version=v2; may be given several times. For --balancer.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label, requires = "balancer")]
    labels: Vec<(String, String)>,

    /// How long each call takes, e.g. 20ms.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "0s")]
    delay: Duration,

    /// As many calls at once are a utilization of 1; CPU is reported if it is not
    /// given.
    #[arg(long)]
    limit: Option<f64>,

    /// Speak TLS: the certificate chain, leaf first, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Want certificates of clients that one of these CAs has signed, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Register over TLS with balancers that one of these CAs has signed, in PEM form;
    /// they are shown --tls-cert.
    #[arg(long, value_name = "FILE", requires = "balancer")]
    balancer_ca: Option<PathBuf>,

    /// Do not print a line for each call.
    #[arg(long)]
    quiet: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // What the crates have to say: that a balancer refuses the registration, and why.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let tls = Files::read(&args)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let addr = listener.local_addr()?;
    println!("{addr}");

    let named = Named {
        name: args.name.clone().unwrap_or_else(|| addr.to_string()),
        delay: args.delay,
        quiet: args.quiet,
    };
    // How busy this backend is, and who is told.
    let load = Load::new(match args.limit {
        Some(limit) => Utilization::InFlight { limit },
        None => Utilization::Cpu,
    });
    let registration = registration(&args, &tls, addr, &load)?;
    // For balancers that check it (`health = { kind = "grpc" }`): it serves. Who has no
    // such service counts as healthy while it can be connected to.
    let (_, health) = tonic_health::server::health_reporter();
    let mut server = Server::builder();
    if let Some(tls) = tls.of_server() {
        server = server.tls_config(tls)?;
    }
    server
        .layer(load.layer())
        .add_service(health)
        .add_service(GreeterServer::new(named))
        // For balancers that ask for the load, and are not told.
        .add_service(load.orca())
        // After this: no new connections, GOAWAY to clients, then wait.
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            asked_to_stop().await;
            match &registration {
                // No list has it any more, and no call is under way.
                Some(registration) => {
                    registration.drain().await;
                }
                None => load.close(),
            }
        })
        .await?;
    Ok(())
}

/// Registers what listens on `addr`, if there is a balancer to register with.
fn registration(
    args: &Args,
    tls: &Files,
    addr: SocketAddr,
    load: &Load,
) -> anyhow::Result<Option<Registration>> {
    let Some(balancer) = &args.balancer else {
        return Ok(None);
    };
    let mut registration = Registration::builder(balancer)
        .service(&args.service)
        .port(addr.port())
        .load(load);
    if let Some(token) = &args.token {
        registration = registration.token(token);
    }
    if let Some(weight) = args.weight {
        registration = registration.weight(weight);
    }
    if let Some(zone) = &args.zone {
        registration = registration.zone(zone);
    }
    for (key, value) in &args.labels {
        registration = registration.label(key, value);
    }
    if let Some(tls) = tls.towards_balancer() {
        registration = registration.tls(tls);
    }
    Ok(Some(registration.start()?))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE, e.g. version=v2".to_owned()),
    }
}

/// What is in the files of TLS.
#[derive(Default)]
struct Files {
    /// Certificate chain and private key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
    client_ca: Option<Vec<u8>>,
    balancer_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(args: &Args) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let identity = match (&args.tls_cert, &args.tls_key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            _ => None,
        };
        Ok(Self {
            identity,
            client_ca: args.tls_client_ca.as_deref().map(read).transpose()?,
            balancer_ca: args.balancer_ca.as_deref().map(read).transpose()?,
        })
    }

    fn of_server(&self) -> Option<ServerTlsConfig> {
        let (cert, key) = self.identity.as_ref()?;
        let config = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
        Some(match &self.client_ca {
            Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
            None => config,
        })
    }

    fn towards_balancer(&self) -> Option<ClientTls> {
        let tls = ClientTls::new().ca_pem(self.balancer_ca.as_deref()?);
        Some(match &self.identity {
            Some((cert, key)) => tls.identity_pem(cert.as_slice(), key.as_slice()),
            None => tls,
        })
    }
}

struct Named {
    name: String,
    delay: Duration,
    quiet: bool,
}

#[tonic::async_trait]
impl Greeter for Named {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        // Which entry of the balancer's list led here. A call without a token came
        // from a client that has no balancer, or lost it.
        if !self.quiet {
            match lb_token(request.metadata()) {
                Some(token) => println!("call with lb-token {token}"),
                None => println!("call without lb-token"),
            }
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        // Sent back for the client to show; a real backend counts by it.
        let token = request.metadata().get("lb-token").cloned();
        let caller = request.into_inner().name;
        let mut reply = Response::new(HelloReply {
            message: format!("Hello {caller} from {}", self.name),
        });
        if let Some(token) = token {
            reply.metadata_mut().insert("seen-lb-token", token);
        }
        Ok(reply)
    }
}

/// Ends on SIGTERM, which is what init systems and Kubernetes send, and on Ctrl-C.
async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = match signal(SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                eprintln!("SIGTERM will not be graceful: {error}");
                let _ = interrupt.await;
                return;
            }
        };
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
}
