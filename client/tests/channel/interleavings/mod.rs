//! Lists, drops, streams, backends and names in any order, against a model that
//! fits on a page: whatever happens, an RPC goes where the model says, as often
//! as it says, and is reported once.
//!
//! The whole channel runs, in memory and on a paused clock. After each event a
//! little more than the second passes that a connection may have to wait; then
//! every backend is connected or known to have failed, and nothing is a matter of
//! luck. What RPCs meet before that is only bounded.

mod happening;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use lookaside_client::Channel;
use lookaside_proto::lb_v1::Server;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

use self::happening::{Entry, Happening, a_happening};
use self::model::{Model, Sent, Serving};
use crate::harness::{Backend, BalancerStream, World, call, drop_entry, entry, named};

/// Backends that lists may name; the rest are fallback addresses.
const LISTED: usize = 4;
const SPARES: usize = 2;

/// As many cases as take some seconds; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => asked.cases,
        None => 64,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..asked
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_order_of_events_breaks_a_promise(
        happenings in prop::collection::vec(a_happening(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async { Run::new().play(happenings).await });
    }
}

/// The channel, what is around it, and the model of it.
struct Run {
    world: World,
    channel: Channel,
    /// All of them, by number, while they live.
    backends: Vec<Option<Backend>>,
    addrs: Vec<std::net::SocketAddr>,
    stream: Option<BalancerStream>,
    last_list: Vec<Entry>,
    model: Model,
    /// RPCs that were begun at an awkward moment.
    waiting: Vec<JoinHandle<Result<String, Status>>>,
    drops: u64,
    calls: usize,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        let backends: Vec<_> = (0..LISTED + SPARES)
            .map(|number| world.backend(&number.to_string()))
            .collect();
        let spares: Vec<_> = backends[LISTED..].iter().collect();
        let channel = world.follow(&spares);
        let model = Model::new((LISTED..LISTED + SPARES).collect());
        Self {
            channel,
            addrs: backends.iter().map(|backend| backend.addr).collect(),
            backends: backends.into_iter().map(Some).collect(),
            stream: None,
            last_list: vec![],
            model,
            waiting: vec![],
            drops: 0,
            calls: 0,
            world,
        }
    }

    async fn play(mut self, happenings: Vec<Happening>) {
        self.settle().await;
        for happening in happenings {
            self.happen(happening).await;
            self.settle().await;
            self.check().await;
        }
        self.end().await;
    }

    async fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Greet => {
                if self.stream.is_none() && self.world.balancer.is_wanted() {
                    let second = Duration::from_secs(1);
                    self.stream = Some(self.world.balancer.greet_with(second).await);
                    self.model.greeted();
                }
            }
            Happening::Refuse => {
                if self.stream.is_none() && self.world.balancer.is_wanted() {
                    let stream = self.world.balancer.accept().await;
                    stream.fail(Status::unavailable("not now"));
                    self.model.lost();
                }
            }
            Happening::List(list) => {
                self.last_list = list;
                self.send_list();
            }
            Happening::SameList => self.send_list(),
            Happening::FallbackResponse => {
                if let Some(stream) = &self.stream {
                    stream.fallback();
                    self.model.fallback_response();
                }
            }
            Happening::EndStream => self.end_stream().await,
            Happening::KillBalancer => {
                self.end_stream().await;
                self.world.balancer.kill();
                self.model.lost();
            }
            Happening::StartBalancer => {
                // Also one that lives: it restarts.
                self.end_stream().await;
                self.world.restart_balancer();
                self.model.lost();
            }
            Happening::Kill(number) => {
                if let Some(backend) = &mut self.backends[number] {
                    backend.kill();
                }
                self.backends[number] = None;
            }
            Happening::Start(number) => {
                if self.backends[number].is_none() {
                    let name = number.to_string();
                    let backend = self.world.backend_at(&name, self.addrs[number]);
                    self.backends[number] = Some(backend);
                }
            }
            Happening::Fallback(named) => {
                let spares = named.iter().enumerate().filter(|(_, named)| **named);
                let spares: Vec<_> = spares.map(|(number, _)| LISTED + number).collect();
                let addrs: Vec<_> = spares.iter().map(|spare| self.addrs[*spare]).collect();
                self.world
                    .names
                    .balancers(&[self.world.balancer.addr], &addrs);
                self.model.resolved(spares);
            }
            Happening::Pass(seconds) => self.world.pass(seconds).await,
        }
    }

    fn send_list(&mut self) {
        let Some(stream) = &self.stream else { return };
        let servers: Vec<Server> = self.last_list.iter().map(|e| self.server(e)).collect();
        stream.list(servers);
        let entries = self.last_list.iter().map(|entry| match *entry {
            Entry::Backend(number, token) => model::Entry::Backend(number, token),
            Entry::BadToken(number) => model::Entry::Backend(number, ""),
            Entry::Drop(token) => model::Entry::Drop(token),
            // They differ, and so do lists that have one or the other.
            Entry::BadIp => model::Entry::Bad(-2),
            Entry::BadPort(port) => model::Entry::Bad(port),
        });
        let same_counts = self.model.list(entries.collect());
        if same_counts {
            // Between the lists, so to speak.
            for _ in 0..3 {
                self.calls += 1;
                let request = Request::new(named(&format!("between {}", self.calls)));
                self.waiting
                    .push(tokio::spawn(call(&self.channel, request)));
            }
        }
    }

    fn server(&self, of: &Entry) -> Server {
        match *of {
            Entry::Backend(number, token) => entry(self.addrs[number], token),
            Entry::Drop(token) => drop_entry(token),
            Entry::BadIp => {
                let mut bad = entry(self.addrs[0], "");
                bad.ip_address.pop();
                bad
            }
            Entry::BadPort(port) => Server {
                port,
                ..entry(self.addrs[0], "")
            },
            Entry::BadToken(number) => entry(self.addrs[number], "grün"),
        }
    }

    async fn end_stream(&mut self) {
        if self.stream.is_some() {
            self.check_reports().await;
            self.stream = None;
            self.model.lost();
        }
    }

    /// Lets everything come to rest, and tells the model what is connected.
    async fn settle(&mut self) {
        self.world.pass(1.3).await;
        let until_startup_ends = 10.0 - self.world.now();
        if until_startup_ends.abs() < 0.05 {
            self.world.pass(0.1).await;
        }
        // What is due in this very millisecond is to happen now, and not while RPCs
        // are made.
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        let connected = self
            .addrs
            .iter()
            .map(|addr| self.world.net.is_connected(*addr));
        self.model.settled(connected.collect(), self.world.now());
        self.finish_waiting().await;
    }

    /// Everything that was begun between two lists has ended by now, unless there has
    /// never been anything to send it to.
    async fn finish_waiting(&mut self) {
        if matches!(self.model.serving(), Serving::Nothing) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            assert!(waiting.is_finished(), "an RPC hangs in {:?}", self.model);
            let outcome = waiting.await.unwrap();
            let sent = self.sent(&outcome, "between");
            if let Some(sent) = &sent {
                assert!(
                    self.model.may_send(sent),
                    "{sent:?} is in none of the lists of {:?}",
                    self.model
                );
            }
            self.note(sent);
        }
    }

    /// Whole rounds of RPCs: as many to each entry, and as many dropped, as the list
    /// says.
    async fn check(&mut self) {
        let expected = match self.model.serving() {
            // RPCs wait.
            Serving::Nothing => return,
            serving => self.model.round(serving),
        };
        let count = expected.values().sum();
        let mut seen = BTreeMap::<_, usize>::new();
        for _ in 0..count {
            self.calls += 1;
            let name = format!("round {}", self.calls);
            let outcome = call(&self.channel, Request::new(named(&name))).await;
            let sent = self.sent(&outcome, &name);
            *seen.entry(sent.clone()).or_default() += 1;
            self.note(sent);
        }
        assert_eq!(seen, expected, "{:?}", self.model);
    }

    /// What became of an RPC: nothing, if there was nowhere to send it.
    fn sent(&self, outcome: &Result<String, Status>, name: &str) -> Option<Sent> {
        match outcome {
            Ok(number) => {
                let number: usize = number.parse().unwrap();
                let calls = self.backends[number].as_ref().unwrap().calls();
                let call = calls.iter().rev().find(|c| c.caller.starts_with(name));
                let token = call.unwrap().lb_token.clone().unwrap_or_default();
                Some(Sent::To(number, token))
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                let dropped = status.message().contains("dropped");
                dropped.then_some(Sent::Dropped)
            }
        }
    }

    fn note(&mut self, sent: Option<Sent>) {
        self.drops += u64::from(sent == Some(Sent::Dropped));
        match sent {
            Some(Sent::To(number, _)) if number >= LISTED => {}
            Some(sent) => self.model.count(&sent),
            None => {}
        }
    }

    /// What the open stream was told is what happened since its list.
    async fn check_reports(&mut self) {
        self.world.pass(1.2).await;
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut reported = model::Counts::default();
        while let Some(report) = stream.report().now_or_never() {
            assert_eq!(report.num_calls_finished_with_client_failed_to_send, 0);
            reported.started += report.num_calls_started;
            reported.finished += report.num_calls_finished;
            reported.received += report.num_calls_finished_known_received;
            let drops = report.calls_finished_with_drop.iter();
            reported.dropped += drops.map(|drop| drop.num_calls).sum::<i64>();
        }
        assert_eq!(&reported, self.model.counts(), "{:?}", self.model);
    }

    /// A last list makes everything end that still waits.
    async fn end(mut self) {
        self.check_reports().await;
        self.happen(Happening::Start(0)).await;
        if !self.world.net.is_listening(self.world.balancer.addr) {
            self.world.restart_balancer();
        }
        if self.stream.is_none() {
            self.stream = Some(self.world.balancer.greet().await);
        }
        self.stream
            .as_ref()
            .unwrap()
            .list([entry(self.addrs[0], "end")]);
        self.world.pass(150.0).await;
        for waiting in self.waiting {
            assert!(waiting.is_finished(), "an RPC has been lost");
            let _: Result<String, Status> = waiting.await.unwrap();
        }
        let request = Request::new(named("end"));
        assert_eq!(call(&self.channel, request).await.unwrap(), "0");
        let metrics = self.channel.metrics();
        assert_eq!(metrics.picks, metrics.finished);
        assert!(metrics.drops >= self.drops);
    }
}
