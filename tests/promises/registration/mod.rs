//! Backends that register: who may, and how they come and go.

mod comings;
mod reports;
mod rolling;
mod rules;

use std::net::SocketAddr;
use std::time::Duration;

use lookaside_backend::Registration;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::orca_v3::OrcaLoadReport;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_proto::registration_v1::registration_service_client::RegistrationServiceClient;
use lookaside_tests::{Balancer, Follower, soon};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

const GREETER: &str = "greeter.test";

/// Backends report every second, so leases are of three, and a balancer knows
/// after three who is there.
pub(crate) fn tables(listen: &str) -> String {
    format!(
        "[balancer]\nlisten = \"{listen}\"\nreport_interval = \"1s\"\nshutdown = \"100ms\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\nmetrics_interval = \"0s\"\n"
    )
}

fn open_service(register: &str) -> String {
    format!("[[service]]\nname = \"{GREETER}\"\nregister = {register}\n")
}

const LOCAL: &str = "{ cidrs = [\"127.0.0.0/8\"] }";

async fn balancer(services: &str) -> Balancer {
    Balancer::start_with(&tables("127.0.0.1:0"), services).await
}

fn register(balancer: SocketAddr, port: u16) -> Registration {
    Registration::builder(format!("static:{balancer}"))
        .service(GREETER)
        .port(port)
        .start()
        .unwrap()
}

/// Follows until a list has exactly these backends, each as often as the others.
pub(crate) async fn until_listed(follower: &mut Follower, wanted: &[SocketAddr]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    loop {
        let counts = match follower.next().await.unwrap() {
            LoadBalanceResponseType::ServerList(list) => {
                lookaside_tests::List(list.servers).counts()
            }
            _ => Default::default(),
        };
        let listed: Vec<SocketAddr> = counts.keys().copied().collect();
        let first = counts.values().next();
        if listed == wanted && counts.values().all(|count| Some(count) == first) {
            return;
        }
    }
}

/// Waits until a line is among the metrics.
pub(crate) async fn until_counted(balancer: &Balancer, line: &str) {
    balancer.counted(line).await;
}

/// A registration stream, message by message.
pub(crate) struct Raw {
    requests: mpsc::Sender<pb::RegisterRequest>,
    responses: Streaming<pb::RegisterResponse>,
}

impl Raw {
    pub(crate) async fn open(
        channel: &Channel,
        said: pb::Registration,
        token: &str,
    ) -> Result<Self, Status> {
        soon("an answer", Self::opened(channel, said, token)).await
    }

    /// The same, for as long as it takes.
    async fn opened(
        channel: &Channel,
        said: pb::Registration,
        token: &str,
    ) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(4);
        send(&requests, Message::Registration(said)).await;
        let mut request = Request::new(ReceiverStream::new(queue));
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = RegistrationServiceClient::new(channel.clone());
        let responses = client.register(request).await?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    pub(crate) async fn registered(&mut self) -> pb::Registered {
        match self.next().await.unwrap() {
            Answer::Registered(registered) => registered,
            other => panic!("{other:?}"),
        }
    }

    async fn next(&mut self) -> Result<Answer, Status> {
        let answer = soon("an answer", self.responses.message()).await?;
        Ok(answer.unwrap().message.unwrap())
    }

    async fn load(&self, load: OrcaLoadReport) {
        let report = pb::LoadReport {
            load: Some(load),
            window: None,
        };
        send(&self.requests, Message::Load(report)).await;
    }
}

async fn send(requests: &mpsc::Sender<pb::RegisterRequest>, message: Message) {
    let request = pb::RegisterRequest {
        message: Some(message),
    };
    requests.send(request).await.unwrap();
}

pub(crate) async fn channel(balancer: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{balancer}")).unwrap();
    soon("a connection", endpoint.connect()).await.unwrap()
}

pub(crate) fn said(r#where: Where, instance: &str) -> pb::Registration {
    pb::Registration {
        services: vec![GREETER.to_owned()],
        r#where: Some(r#where),
        instance: instance.to_owned(),
        ..pb::Registration::default()
    }
}

fn at(address: &str) -> Where {
    Where::Address(address.to_owned())
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
