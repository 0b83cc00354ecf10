//! A BalanceLoad stream that a test drives message by message.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lookaside_proto::addr::socket_addr;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{
    ClientStats, InitialLoadBalanceRequest, InitialLoadBalanceResponse, LoadBalanceRequest,
    LoadBalanceResponse, Server,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::soon;

/// One end of a stream, the client's.
pub struct Follower {
    requests: mpsc::Sender<LoadBalanceRequest>,
    responses: Streaming<LoadBalanceResponse>,
    /// What the balancer said first.
    pub initial: InitialLoadBalanceResponse,
}

/// A list as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct List(pub Vec<Server>);

impl Follower {
    /// Opens a stream for a service; fails if the balancer refuses it.
    pub async fn open(balancer: SocketAddr, service: &str) -> Result<Self, Status> {
        let channel = Channel::from_shared(format!("http://{balancer}")).unwrap();
        let channel = soon("a connection", channel.connect()).await.unwrap();
        Self::open_on(channel, service).await
    }

    /// The same from another address of this machine, as 127.0.0.2.
    pub async fn open_from(
        client: IpAddr,
        balancer: SocketAddr,
        service: &str,
    ) -> Result<Self, Status> {
        let channel = Channel::from_shared(format!("http://{balancer}")).unwrap();
        let channel = channel.local_address(Some(client));
        let channel = soon("a connection", channel.connect()).await.unwrap();
        Self::open_on(channel, service).await
    }

    /// The same on a connection that is there.
    pub async fn open_on(channel: Channel, service: &str) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(16);
        let hello = InitialLoadBalanceRequest {
            name: service.to_owned(),
        };
        requests
            .send(request(LoadBalanceRequestType::InitialRequest(hello)))
            .await
            .unwrap();
        let mut client = LoadBalancerClient::new(channel);
        let opened = client.balance_load(ReceiverStream::new(queue));
        let mut responses = soon("headers", opened).await?.into_inner();
        let first = soon("initial_response", responses.message()).await?;
        let first = first.and_then(|response| response.load_balance_response_type);
        let Some(LoadBalanceResponseType::InitialResponse(initial)) = first else {
            panic!("the first message is no initial_response: {first:?}");
        };
        Ok(Self {
            requests,
            responses,
            initial,
        })
    }

    /// The next message; an error is how the stream ended.
    pub async fn next(&mut self) -> Result<LoadBalanceResponseType, Status> {
        let message = soon("a message", self.responses.message()).await?;
        let message = message.expect("a stream ends with a status");
        Ok(message.load_balance_response_type.unwrap())
    }

    /// The next message, which must be a list.
    pub async fn next_list(&mut self) -> List {
        match self.next().await {
            Ok(LoadBalanceResponseType::ServerList(list)) => List(list.servers),
            other => panic!("no list: {other:?}"),
        }
    }

    /// Sends statistics.
    pub async fn report(&self, stats: ClientStats) {
        let stats = request(LoadBalanceRequestType::ClientStats(stats));
        self.requests.send(stats).await.unwrap();
    }
}

impl List {
    /// How often each backend stands in it.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<SocketAddr, usize> {
        let mut counts = BTreeMap::new();
        for server in self.0.iter().filter(|server| !server.drop) {
            *counts.entry(socket_addr(server).unwrap()).or_default() += 1;
        }
        counts
    }
}

fn request(kind: LoadBalanceRequestType) -> LoadBalanceRequest {
    LoadBalanceRequest {
        load_balance_request_type: Some(kind),
    }
}
