//! `lookaside watch`: a grpclb client that calls no backend, and prints what the
//! balancer sends.

mod connect;
mod printer;
mod protocol;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use clap::Args;
use lookaside_client::backoff::Backoff;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{InitialLoadBalanceRequest, LoadBalanceRequest};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use self::connect::{Connector, deepest};
use self::printer::Printer;
use super::Failure;
use super::print::{Unwritable, say};
use crate::telemetry::printable;

/// With `--count`, a balancer that sends no list is given up after this.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of a balancer's message that are shown.
const MAX_MESSAGE: usize = 600;

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

    /// Show this certificate to the balancer (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    cert: Option<PathBuf>,

    /// Private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// End after this many lists
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds; with --count, fail if it is not reached
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,

    /// Fail if a balancer sends no first list for so long, as 30s or 500ms [default: 10s with --count, else never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let connector = Connector::new(args).map_err(Failure::Input)?;
    super::block_on(async {
        tokio::select! {
            watched = Watch::new(args, &connector).run() => watched,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// What is watched, and how that went.
struct Watch<'a> {
    args: &'a WatchArgs,
    connector: &'a Connector,
    printer: Printer,
    backoff: Backoff,
    /// When it ends at the latest.
    until: Option<Instant>,
    /// When it gives up, if there is no list before.
    patience: Option<Instant>,
    /// Why the last stream ended.
    failure: Option<String>,
}

/// Why a stream is not followed any more.
enum End {
    /// All lists have come that were asked for.
    Counted,
    Unwritable(Unwritable),
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl<'a> Watch<'a> {
    fn new(args: &'a WatchArgs, connector: &'a Connector) -> Self {
        let mut watch = Self {
            args,
            connector,
            printer: Printer::new(args.json),
            backoff: Backoff::default(),
            until: args.seconds.map(|seconds| Instant::now() + seconds),
            patience: None,
            failure: None,
        };
        watch.lose_patience();
        watch
    }

    /// Gives up some time from now.
    fn lose_patience(&mut self) {
        let default = self.args.count.map(|_| DEFAULT_TIMEOUT);
        self.patience = self.args.timeout.or(default).map(|t| Instant::now() + t);
    }

    /// Opens a stream, and another when it ends, until enough has been seen.
    async fn run(mut self) -> Result<(), Failure> {
        loop {
            let lists = self.printer.lists;
            let status = match self.follow().await {
                End::Counted => return Ok(()),
                End::Unwritable(error) => return Err(error.into()),
                End::Failed(status) => status,
            };
            let had_lists = self.printer.lists > lists;
            if self.is_over() {
                return self.over();
            }
            if matches!(status.code(), Code::NotFound | Code::InvalidArgument) {
                let message = printable(status.message(), MAX_MESSAGE);
                return Err(anyhow!("the balancer refuses: {message}").into());
            }
            let mut failure = describe(&status);
            if !had_lists && let Some(hint) = self.connector.hint(&failure).await {
                failure = format!("{failure}; {hint}");
            }
            if had_lists {
                self.lose_patience();
            }
            let pause = self.backoff.next_delay(&mut fastrand::Rng::new());
            say(&format_args!(
                "lookaside: {} stream to {} ended: {failure}; again in {:.1} s",
                now(),
                self.args.balancer,
                pause.as_secs_f64()
            ));
            self.failure = Some(failure);
            tokio::select! {
                () = sleep(pause) => {}
                () = at(self.end()) => return self.over(),
            }
        }
    }

    /// Follows one stream until it ends, or it is time to.
    async fn follow(&mut self) -> End {
        let end = self.end();
        let opening = async {
            let channel = self.connector.connect().await?;
            let hello = LoadBalanceRequest {
                load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
                    InitialLoadBalanceRequest {
                        name: self.args.service.clone(),
                    },
                )),
            };
            // The request stream stays open: a client that half-closes has left.
            let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
            LoadBalancerClient::new(channel)
                .balance_load(requests)
                .await
        };
        let opened = tokio::select! {
            opened = opening => opened,
            () = at(end) => Err(Status::deadline_exceeded("no answer")),
        };
        let mut responses = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => return End::Failed(status),
        };
        loop {
            let end = self.end();
            let response = tokio::select! {
                response = responses.message() => response,
                () = at(end) => return Status::deadline_exceeded("no list came").into(),
            };
            let response = match response {
                Ok(Some(response)) => response,
                Ok(None) => {
                    return Status::unavailable("the balancer closed the stream").into();
                }
                Err(status) => return status.into(),
            };
            self.backoff.reset();
            let lists = self.printer.lists;
            if let Err(error) = self.printer.print(response) {
                return End::Unwritable(error);
            }
            if self.printer.lists > lists {
                self.patience = None;
            }
            if self
                .args
                .count
                .is_some_and(|count| self.printer.lists >= count)
            {
                return End::Counted;
            }
        }
    }

    fn end(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.patience).min()
    }

    fn is_over(&self) -> bool {
        self.end().is_some_and(|end| end <= Instant::now())
    }

    /// How it ends when its time is over.
    fn over(self) -> Result<(), Failure> {
        let failure = self.failure.map_or_else(
            || "the balancer did not send one in time".to_owned(),
            |failure| format!("the last stream ended: {failure}"),
        );
        let balancer = &self.args.balancer;
        let lists = self.printer.lists;
        if let Some(count) = self.args.count {
            return Err(anyhow!("{lists} of {count} lists came from {balancer}: {failure}").into());
        }
        let in_time = self.until.is_some_and(|until| until <= Instant::now());
        if in_time {
            return Ok(());
        }
        Err(anyhow!("no list from {balancer}: {failure}").into())
    }
}

/// Now, in UTC, to a millisecond.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A status and what lies behind it, on one line.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(source) = std::error::Error::source(status) {
        let cause = deepest(source);
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    printable(&text, MAX_MESSAGE)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| (0.0..=86_400.0 * 365.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "not a number of seconds; write one, e.g. 10".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    seconds(text)
        .or_else(|_| humantime::parse_duration(text).map_err(|error| error.to_string()))
        .map_err(|error| format!("not a time ({error}); write one, e.g. 30s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "-1", "soon", "NaN", "1e99"] {
            assert!(duration(bad).unwrap_err().contains("e.g. 30s"), "{bad}");
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
