//! The channels under test, and one RPC over them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;
use http_body_util::Full;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use prost::Message as _;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::transport::Endpoint;
use tonic::transport::channel::Change;

use crate::backends::SERVICE;

/// Room for changes of a `balance_list`; there are only first ones.
const CHANGES: usize = 16;

/// No channel of a healthy run takes as long to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// This repository's, which follows the balancer at the address.
    Ours,
    /// tonic's to one address.
    Channel,
    /// tonic's over all addresses.
    BalanceList,
}

/// A channel of either sort.
pub(crate) enum Either {
    /// [`Kind::Ours`].
    Ours(lookaside_client::Channel),
    /// The others.
    Tonic(tonic::transport::Channel),
}

/// Connects; tonic's with this window for a connection, if it is not the usual one.
///
/// # Errors
/// If it does not succeed in time. A `balance_list` connects with its first RPC.
pub(crate) async fn connect(
    kind: Kind,
    addrs: &[SocketAddr],
    window: Option<u32>,
) -> Result<Either> {
    let first = addrs.first().context("a channel needs an address")?;
    let endpoint = |addr: &SocketAddr| {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        let endpoint = endpoint.tcp_nodelay(true);
        Ok::<_, anyhow::Error>(endpoint.initial_connection_window_size(window))
    };
    let connecting = async {
        Ok::<_, anyhow::Error>(match kind {
            Kind::Ours => {
                let channel = lookaside_client::Channel::builder(format!("dns:///{SERVICE}"))
                    .balancer(first.to_string());
                Either::Ours(channel.connect().await?)
            }
            Kind::Channel => Either::Tonic(endpoint(first)?.connect().await?),
            Kind::BalanceList => {
                let (channel, changes) = tonic::transport::Channel::balance_channel(CHANGES);
                for addr in addrs {
                    let change = Change::Insert(*addr, endpoint(addr)?);
                    changes.send(change).await.ok().context("no channel")?;
                }
                Either::Tonic(channel)
            }
        })
    };
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.with_context(|| format!("no channel within {PATIENCE:?}"))?
}

/// What an RPC can be sent over.
pub(crate) trait Callable:
    GrpcService<
        Body,
        Future: Send,
        Error: Into<StdError> + Send,
        ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl Callable for lookaside_client::Channel {}
impl Callable for tonic::transport::Channel {}

/// One RPC of this caller; gives the answer.
///
/// # Errors
/// Its status.
pub(crate) async fn echo(
    stub: &mut GreeterClient<impl Callable>,
    caller: &str,
) -> Result<String, tonic::Status> {
    let request = HelloRequest {
        name: caller.to_owned(),
    };
    Ok(stub.say_hello(request).await?.into_inner().message)
}

/// Begins an RPC with this request. Gives the response, whose body is not read.
///
/// # Errors
/// If there is none.
pub(crate) async fn begin<C: Callable>(
    mut channel: C,
    message: String,
) -> Result<http::Response<C::ResponseBody>> {
    let message = HelloRequest { name: message }.encode_to_vec();
    let length = u32::try_from(message.len())?;
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(&message);
    let request = http::Request::post("http://bench/helloworld.Greeter/SayHello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(frame.freeze())))?;
    let failed = |error: C::Error| anyhow::anyhow!(error.into());
    let ready = std::future::poll_fn(|cx| channel.poll_ready(cx)).await;
    ready.map_err(failed)?;
    channel.call(request).await.map_err(failed)
}
