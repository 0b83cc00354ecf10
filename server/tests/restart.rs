//! A balancer that ends or is killed and is started again, with the file that keeps what it
//! learned.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use lookaside_proto::addr::socket_addr;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{InitialLoadBalanceRequest, LoadBalanceRequest, LoadBalanceResponse};
use lookaside_proto::orca_v3::OrcaLoadReport;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_proto::registration_v1::registration_service_client::RegistrationServiceClient;
use lookaside_server::state::decode;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(90);

/// Ports, and how busy who is there says that it is, with as many calls each.
const BACKENDS: [(u16, f64); 3] = [(81, 0.3), (82, 0.6), (83, 0.9)];

/// A balancer that is killed when this is dropped, without warning.
struct Balancer {
    child: Child,
    addr: SocketAddr,
}

impl Balancer {
    async fn start(folder: &Path) -> Self {
        let ports = folder.join("ports");
        let _ = std::fs::remove_file(&ports);
        let child = Command::new(env!("CARGO_BIN_EXE_lookaside"))
            .arg("serve")
            .args([
                "--config".as_ref(),
                folder.join("lookaside.toml").as_os_str(),
            ])
            .args(["--ports-file".as_ref(), ports.as_os_str()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addresses = until("its ports", || std::fs::read_to_string(&ports).ok()).await;
        let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
        let addr = addresses["balancer"].as_str().unwrap().parse().unwrap();
        Self { child, addr }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Has it end in good order.
    async fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = until("its end", || self.child.try_wait().unwrap()).await;
        assert!(ended.success());
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Polls what another process does.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("never came: {what}"),
    }
}

/// Registers, and reports the same load every second.
async fn report(channel: Channel, port: u16, load: f64) {
    let (requests, queue) = mpsc::channel(4);
    let send = async |message| {
        let message = Some(message);
        requests.send(pb::RegisterRequest { message }).await.is_ok()
    };
    let registration = pb::Registration {
        services: vec!["greeter.test".to_owned()],
        r#where: Some(Where::Port(port.into())),
        instance: "a".to_owned(),
        ..pb::Registration::default()
    };
    send(Message::Registration(registration)).await;
    let mut client = RegistrationServiceClient::new(channel);
    let opened = client.register(ReceiverStream::new(queue)).await;
    let _answers = opened.unwrap();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let load = OrcaLoadReport {
            application_utilization: load,
            rps_fractional: 100.0,
            ..OrcaLoadReport::default()
        };
        let report = pb::LoadReport {
            load: Some(load),
            window: None,
        };
        if !send(Message::Load(report)).await {
            return;
        }
    }
}

/// A client that follows the lists.
struct Lists {
    _requests: mpsc::Sender<LoadBalanceRequest>,
    responses: Streaming<LoadBalanceResponse>,
}

impl Lists {
    async fn follow(channel: Channel) -> Self {
        let (requests, queue) = mpsc::channel(1);
        let name = "greeter.test".to_owned();
        let hello = LoadBalanceRequestType::InitialRequest(InitialLoadBalanceRequest { name });
        let hello = LoadBalanceRequest {
            load_balance_request_type: Some(hello),
        };
        requests.send(hello).await.unwrap();
        let mut client = LoadBalancerClient::new(channel);
        let opened = client.balance_load(ReceiverStream::new(queue)).await;
        Self {
            _requests: requests,
            responses: opened.unwrap().into_inner(),
        }
    }

    /// The next list, as each backend's share of the calls.
    async fn next(&mut self) -> BTreeMap<u16, f64> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            let message = message.unwrap().unwrap().unwrap();
            let Some(LoadBalanceResponseType::ServerList(list)) =
                message.load_balance_response_type
            else {
                continue;
            };
            let mut shares = BTreeMap::new();
            for server in &list.servers {
                let port = socket_addr(server).unwrap().port();
                *shares.entry(port).or_default() += 1.0 / list.servers.len() as f64;
            }
            return shares;
        }
    }
}

/// The weights in the file, if it has any.
fn saved(state: &Path) -> Option<BTreeMap<u16, f64>> {
    let decoded = decode(&std::fs::read(state).ok()?, SystemTime::now()).unwrap();
    let (_, remembered) = decoded.services.first()?;
    let plan = serde_json::to_value(&remembered.plan).unwrap();
    let weight = |port: u16| {
        let record = &plan["weights"]["backends"][format!("127.0.0.1:{port}")];
        Some((port, record["target"].as_f64()?))
    };
    BACKENDS.iter().map(|(port, _)| weight(*port)).collect()
}

fn config(folder: &Path, state: &Path) {
    let mut text = format!(
        "[balancer]\nlisten = \"127.0.0.1:0\"\nreport_interval = \"1s\"\nstate = {state:?}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [[service]]\nname = \"greeter.test\"\npolicy = \"feedback\"\n\
         register = {{ cidrs = [\"127.0.0.0/8\"] }}\nbackends = [\n"
    );
    for (port, _) in BACKENDS {
        text += &format!("  {{ address = \"127.0.0.1:{port}\" }},\n");
    }
    std::fs::write(folder.join("lookaside.toml"), text + "]\n").unwrap();
}

#[tokio::test]
async fn the_first_list_after_a_restart_or_a_kill_has_the_weights_that_were_learned() {
    let folder = tempfile::tempdir().unwrap();
    let state: PathBuf = folder.path().join("state");
    config(folder.path(), &state);
    let first = Balancer::start(folder.path()).await;
    let mut reporting = JoinSet::new();
    for (port, load) in BACKENDS {
        reporting.spawn(report(first.channel().await, port, load));
    }
    let mut lists = Lists::follow(first.channel().await).await;
    let mut learned = lists.next().await;
    while learned[&81] < 1.3 * learned[&83] {
        learned = lists.next().await;
    }
    // A list may have come meanwhile; the one of the file is what counts.
    first.end().await;
    let weights = saved(&state).unwrap();
    reporting.shutdown().await;

    // One that is killed before it could save anything leaves the file as it is.
    for _ in 0..2 {
        let next = Balancer::start(folder.path()).await;
        let shares = Lists::follow(next.channel().await).await.next().await;
        let sum: f64 = weights.values().sum();
        for (port, weight) in &weights {
            let (before, now) = (weight / sum, shares[port]);
            assert!((before - now).abs() < 0.02, "{port}: {before} became {now}");
        }
    }
}

#[tokio::test]
async fn whatever_the_file_holds_the_balancer_starts() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    config(folder.path(), &state);
    std::fs::write(
        &state,
        "lookaside-state 1 0123456789abcdef\n{\"saved_unix_ms\":",
    )
    .unwrap();
    let balancer = Balancer::start(folder.path()).await;
    let shares = Lists::follow(balancer.channel().await).await.next().await;
    assert_eq!(shares.len(), BACKENDS.len());
}
