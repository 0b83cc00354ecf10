//! Looks at a DNS that is not there, on a clock that jumps: what is passed on,
//! when it is looked again, and what is said of failures.

mod failures;
mod found;
mod times;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::look::{Client, Looks, Lookup};
use super::records::Records;
use super::server_choice::ServerChoice;
use super::*;
use crate::error::ResolveError;
use crate::resolve::{Balancers, Resolution};
use crate::service_config::PolicyConfig;

const SRV: &str = "SRV _grpclb._tcp.a.test";
const TXT: &str = "TXT _grpc_config.a.test";
const ROUND_ROBIN: &str =
    r#"grpc_config=[{"serviceConfig":{"loadBalancingConfig":[{"round_robin":{}}]}}]"#;

/// A DNS of the test's own. What it has no reply for does not exist.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    replies: HashMap<String, Reply>,
    asked: Vec<(String, Instant)>,
    /// Of every answer.
    ttl: Option<Duration>,
}

#[derive(Clone)]
enum Reply {
    Ips(Vec<IpAddr>),
    Srv(Vec<SrvTarget>),
    Txt(&'static str),
    Fails(&'static str),
    Late(Duration, Box<Self>),
    Never,
}

impl Fake {
    fn set(&self, question: &str, reply: Reply) {
        let mut world = self.0.lock().unwrap();
        world.replies.insert(question.to_owned(), reply);
    }

    async fn ask(&self, question: String) -> Result<Option<Reply>, ResolveError> {
        let mut reply = {
            let mut world = self.0.lock().unwrap();
            world.asked.push((question.clone(), Instant::now()));
            world.replies.get(&question).cloned()
        };
        while let Some(Reply::Late(after, inner)) = reply {
            sleep(after).await;
            reply = Some(*inner);
        }
        match reply {
            Some(Reply::Never) => std::future::pending().await,
            Some(Reply::Fails(text)) => Err(ResolveError(format!("{question}: {text}"))),
            reply => Ok(reply),
        }
    }

    fn records<T>(&self, list: Vec<T>) -> Records<T> {
        let ttl = self.0.lock().unwrap().ttl;
        Records { list, ttl }
    }

    /// When this was asked, in seconds from `start`.
    fn asked(&self, question: &str, start: Instant) -> Vec<f64> {
        let world = self.0.lock().unwrap();
        let times = world.asked.iter().filter(|(asked, _)| asked == question);
        times.map(|(_, at)| (*at - start).as_secs_f64()).collect()
    }

    fn looks(self, txt: bool) -> Looks<Self> {
        Looks {
            lookup: self,
            host: "a.test".to_owned(),
            port: 80,
            srv: true,
            txt: txt.then(|| Client {
                hostname: "me".to_owned(),
                seed: 7,
            }),
            by_ttl: false,
            rng: fastrand::Rng::with_seed(7),
        }
    }
}

impl Lookup for Fake {
    fn asked(&self) -> ServerChoice {
        ServerChoice::Server(([10, 0, 0, 53], 53).into())
    }

    async fn ips(&self, host: &str) -> Result<Records<IpAddr>, ResolveError> {
        match self.ask(format!("A {host}")).await? {
            Some(Reply::Ips(ips)) => Ok(self.records(ips)),
            _ => Ok(Records::default()),
        }
    }

    async fn srv(&self, name: &str) -> Result<Records<SrvTarget>, ResolveError> {
        match self.ask(format!("SRV {name}")).await? {
            Some(Reply::Srv(targets)) => Ok(self.records(targets)),
            _ => Ok(Records::default()),
        }
    }

    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, ResolveError> {
        match self.ask(format!("TXT {name}")).await? {
            Some(Reply::Txt(text)) => Ok(vec![text.as_bytes().to_vec()]),
            _ => Ok(vec![]),
        }
    }
}

fn ips(last: &[u8]) -> Reply {
    Reply::Ips(last.iter().map(|n| [10, 0, 0, *n].into()).collect())
}

fn srv(hosts: &[&str]) -> Reply {
    let target = |(i, host): (usize, &&str)| SrvTarget {
        priority: i as u16,
        weight: 0,
        port: 9000,
        host: (*host).to_owned(),
    };
    Reply::Srv(hosts.iter().enumerate().map(target).collect())
}

fn late(seconds: f64, reply: Reply) -> Reply {
    Reply::Late(Duration::from_secs_f64(seconds), Box::new(reply))
}

/// A resolution in short: last bytes of the addresses and of the balancers.
#[derive(Debug, PartialEq)]
struct Seen {
    endpoints: Vec<u8>,
    balancers: Option<Vec<u8>>,
    round_robin: bool,
    pending: bool,
}

fn seen(resolution: &Resolution) -> Seen {
    let last = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => panic!("{ip}"),
    };
    let endpoint = |endpoint: &Endpoint| match &endpoint.address {
        crate::endpoint::Address::Tcp(addr) => last(*addr),
        other => panic!("{other}"),
    };
    let config = resolution.service_config.as_ref();
    Seen {
        endpoints: resolution.endpoints.iter().map(endpoint).collect(),
        balancers: match &resolution.balancers {
            Balancers::Unknown => None,
            Balancers::Absent => Some(vec![]),
            Balancers::Known(known) => Some(known.iter().map(|b| last(b.addr)).collect()),
        },
        round_robin: config.is_some_and(|c| c.policy == Some(PolicyConfig::RoundRobin)),
        pending: resolution.pending,
    }
}

async fn next(stream: &mut ResolutionStream) -> Result<Seen, String> {
    let result = stream.next().await.unwrap();
    result
        .map(|resolution| seen(&resolution))
        .map_err(|error| error.0)
}

/// The last result of a look: nothing more is pending.
async fn settled(stream: &mut ResolutionStream) -> Result<Seen, String> {
    loop {
        match next(stream).await {
            Ok(seen) if seen.pending => {}
            result => return result,
        }
    }
}

fn found(endpoints: &[u8], balancers: &[u8], round_robin: bool) -> Result<Seen, String> {
    Ok(Seen {
        endpoints: endpoints.to_vec(),
        balancers: Some(balancers.to_vec()),
        round_robin,
        pending: false,
    })
}
