//! `lookaside watch`: a grpclb client that calls nobody, and prints what it is
//! told.

mod connect;
mod printer;

use std::path::PathBuf;

use clap::Args;
use lookaside_client::backoff::Backoff;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{InitialLoadBalanceRequest, LoadBalanceRequest};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use self::connect::Connector;
use self::printer::Printer;
use super::Failure;

/// Arguments of `lookaside watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Name of the service, as clients ask for it
    service: String,

    /// Address of the balancer, as 10.0.0.5:9000
    #[arg(long, value_name = "HOST:PORT")]
    balancer: String,

    /// Connect by TLS, and trust certificates that one of these signed (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Name that the balancer's certificate must have [default: the host of --balancer]
    #[arg(long, value_name = "NAME", requires = "ca")]
    server_name: Option<String>,

    /// End after this many lists
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let ca = args.ca.as_deref();
    let connector = Connector::new(&args.balancer, ca, args.server_name.as_deref());
    let connector = connector.map_err(Failure::Input)?;
    super::block_on(async {
        tokio::select! {
            watched = watch(args, &connector) => watched,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// Opens a stream, and another when it ends, until enough has been seen.
async fn watch(args: &WatchArgs, connector: &Connector) -> Result<(), Failure> {
    let mut printer = Printer::new(args.json);
    let mut backoff = Backoff::default();
    loop {
        let ended = follow(args, connector, &mut printer, &mut backoff).await;
        let status = match ended {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        if matches!(status.code(), Code::NotFound | Code::InvalidArgument) {
            let refused = anyhow::anyhow!("{}", status.message());
            return Err(Failure::Run(refused.context("the balancer refuses")));
        }
        let pause = backoff.next_delay(&mut fastrand::Rng::new());
        eprintln!(
            "lookaside: stream to {} ended: {}; again in {:.1} s",
            args.balancer,
            describe(&status),
            pause.as_secs_f64()
        );
        tokio::time::sleep(pause).await;
    }
}

/// Follows one stream; `Ok` once enough lists have come.
async fn follow(
    args: &WatchArgs,
    connector: &Connector,
    printer: &mut Printer,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let channel = connector.connect().await?;
    let hello = LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
            InitialLoadBalanceRequest {
                name: args.service.clone(),
            },
        )),
    };
    // The request stream stays open: a client that half-closes has left.
    let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut client = LoadBalancerClient::new(channel);
    let mut responses = client.balance_load(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        backoff.reset();
        if printer.print(response).is_err() {
            // Nobody reads stdout any more, as behind `| head`.
            return Ok(());
        }
        if args.count.is_some_and(|count| printer.lists >= count) {
            return Ok(());
        }
    }
    Err(Status::unavailable("the balancer closed the stream"))
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
