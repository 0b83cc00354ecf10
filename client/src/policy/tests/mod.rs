//! A network in memory, and a policy on it: what is connected to when, and to
//! whom RPCs go, on a paused clock.

mod spread;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::{ConnectivityState, Pick, PickArgs, Policy};
use crate::endpoint::{Address, Endpoint};
use crate::subchannel::{Connect, ConnectOptions, Connection, Pool, Transport};

pub(super) const A: &str = "10.0.0.1:1";
pub(super) const B: &str = "10.0.0.2:1";
pub(super) const C: &str = "10.0.0.3:1";
pub(super) const V6: &str = "[fd00::1]:1";

/// What becomes of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Answers,
    AnswersAfter(Duration),
    Refuses,
    /// Packets are swallowed.
    Silent,
}

/// A network in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Network(pub(super) Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) fates: HashMap<Address, Fate>,
    pub(super) attempts: Vec<(Address, Instant)>,
    /// The servers' ends of the connections that were opened.
    pub(super) accepted: Vec<(Address, DuplexStream)>,
}

impl Network {
    pub(super) fn set(&self, address: &str, fate: Fate) {
        let mut seen = self.0.lock().unwrap();
        seen.fates.insert(at(address), fate);
    }

    /// The attempts since the last call: to whom, and how many milliseconds after
    /// `start`.
    pub(super) fn attempts(&self, start: Instant) -> Vec<(String, u128)> {
        let attempts = std::mem::take(&mut self.0.lock().unwrap().attempts);
        let attempts = attempts.into_iter();
        attempts
            .map(|(address, at)| (address.to_string(), (at - start).as_millis()))
            .collect()
    }

    pub(super) fn accepted(&self, address: &str) -> DuplexStream {
        let accepted = &mut self.0.lock().unwrap().accepted;
        let place = accepted.iter().position(|(to, _)| *to == at(address));
        accepted.remove(place.expect("a connection")).1
    }
}

impl Connect for Network {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let (network, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let fate = {
                let mut seen = network.0.lock().unwrap();
                seen.attempts.push((address.clone(), Instant::now()));
                seen.fates[&address]
            };
            match fate {
                Fate::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                Fate::Silent => std::future::pending().await,
                Fate::Answers => {}
                Fate::AnswersAfter(time) => tokio::time::sleep(time).await,
            }
            let (client, mut server) = tokio::io::duplex(1 << 16);
            // An empty SETTINGS frame.
            server.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            network.0.lock().unwrap().accepted.push((address, server));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

/// A policy with what the control task does for it.
pub(super) struct Channel<P> {
    pub(super) network: Network,
    pub(super) pool: Pool,
    pub(super) policy: P,
    pub(super) start: Instant,
}

pub(super) fn at(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

pub(super) fn endpoints(addresses: &[&str]) -> Vec<Endpoint> {
    addresses.iter().map(|a| Endpoint::new(at(a))).collect()
}

pub(super) fn channel<P: Policy>(policy: P, fates: &[(&str, Fate)]) -> Channel<P> {
    let network = Network::default();
    for (address, fate) in fates {
        network.set(address, *fate);
    }
    let options = ConnectOptions {
        connector: Arc::new(network.clone()),
        ..ConnectOptions::default()
    };
    Channel {
        network,
        pool: Pool::new(options, fastrand::Rng::with_seed(1), Arc::default()),
        policy,
        start: Instant::now(),
    }
}

impl<P: Policy> Channel<P> {
    pub(super) fn update(&mut self, addresses: &[&str]) {
        self.policy.update(endpoints(addresses), &mut self.pool);
    }

    /// Runs until something has happened and been told to the policy.
    pub(super) async fn step(&mut self) {
        let due = self.policy.next_due();
        tokio::select! {
            () = self.pool.changed() => {}
            () = async { sleep_until(due.unwrap()).await }, if due.is_some() => {}
        }
        self.policy.refresh(&mut self.pool);
    }

    pub(super) async fn until(&mut self, wanted: ConnectivityState) {
        while self.policy.output().state != wanted {
            self.step().await;
        }
    }

    pub(super) async fn run_for(&mut self, time: Duration) {
        let forever = async {
            loop {
                self.step().await;
            }
        };
        let _: Result<(), _> = timeout(time, forever).await;
    }

    pub(super) fn elapsed(&self) -> u128 {
        self.start.elapsed().as_millis()
    }

    pub(super) fn attempts(&self) -> Vec<(String, u128)> {
        self.network.attempts(self.start)
    }

    /// The connection and token of the next RPC.
    pub(super) fn pick(&self) -> (Connection, Option<HeaderValue>) {
        let (uri, headers) = (Uri::default(), HeaderMap::new());
        match self
            .policy
            .output()
            .picker
            .pick(&PickArgs::new(&uri, &headers))
        {
            Pick::Complete(picked) => (picked.connection.clone(), picked.lb_token.cloned()),
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until the client has closed.
pub(super) async fn closed(mut server: DuplexStream) {
    let mut buffer = [0; 1024];
    while server.read(&mut buffer).await.unwrap() > 0 {}
}
