//! A resolver that says what the test says, when the test says it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, stream};
use lookaside_client::ResolveError;
use lookaside_client::endpoint::Endpoint;
use lookaside_client::resolve::{
    BalancerAddress, Balancers, Reresolve, Resolution, ResolutionStream, Resolve,
};
use tokio::sync::mpsc;

type Answer = Result<Resolution, ResolveError>;

/// The test's end of the resolver.
pub(crate) struct Names {
    answers: mpsc::UnboundedSender<Answer>,
    wishes: Arc<AtomicUsize>,
}

/// The channel's end.
pub(crate) struct NamesResolver {
    /// Each resolution that is begun goes on with those that are left.
    answers: Arc<Mutex<mpsc::UnboundedReceiver<Answer>>>,
    wishes: Arc<AtomicUsize>,
}

impl Names {
    pub(crate) fn new() -> (Self, NamesResolver) {
        let (sender, answers) = mpsc::unbounded_channel();
        let wishes = Arc::<AtomicUsize>::default();
        let names = Self {
            answers: sender,
            wishes: Arc::clone(&wishes),
        };
        let answers = Arc::new(Mutex::new(answers));
        (names, NamesResolver { answers, wishes })
    }

    /// These are the addresses, and there is no balancer.
    pub(crate) fn addresses(&self, addresses: &[SocketAddr]) {
        self.answer(Ok(endpoints(addresses).into()));
    }

    /// These are the balancers, and these the fallback addresses.
    pub(crate) fn balancers(&self, balancers: &[SocketAddr], fallback: &[SocketAddr]) {
        let balancers = balancers.iter().map(|addr| balancer(*addr, "lb.test"));
        let resolution = Resolution::from(endpoints(fallback));
        self.answer(Ok(resolution.with_balancers(balancers.collect())));
    }

    /// These are the addresses; of balancers nothing is known.
    pub(crate) fn balancers_unknown(&self, addresses: &[SocketAddr]) {
        let mut resolution = Resolution::from(endpoints(addresses));
        resolution.balancers = Balancers::Unknown;
        self.answer(Ok(resolution));
    }

    /// These are the addresses so far; the rest, balancers perhaps, is on its way.
    pub(crate) fn pending(&self, addresses: &[SocketAddr]) {
        let mut resolution = Resolution::from(endpoints(addresses));
        resolution.balancers = Balancers::Unknown;
        resolution.pending = true;
        self.answer(Ok(resolution));
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.answer(Err(ResolveError(reason.to_owned())));
    }

    pub(crate) fn answer(&self, answer: Answer) {
        // A channel that is gone needs no answer.
        let _ = self.answers.send(answer);
    }

    /// How often the channel asked for another look.
    pub(crate) fn wishes(&self) -> usize {
        self.wishes.load(Ordering::SeqCst)
    }
}

impl Resolve for NamesResolver {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        let answers = Arc::clone(&self.answers);
        let answers = stream::poll_fn(move |cx| answers.lock().unwrap().poll_recv(cx));
        let wishes = Arc::clone(&self.wishes);
        // Part of the stream, so that it ends with it.
        let listen = stream::once(async move {
            loop {
                reresolve.requested().await;
                wishes.fetch_add(1, Ordering::SeqCst);
            }
        });
        Box::pin(stream::select(answers, listen).fuse())
    }
}

pub(crate) fn balancer(addr: SocketAddr, authority: &str) -> BalancerAddress {
    BalancerAddress {
        addr,
        authority: authority.to_owned(),
    }
}

fn endpoints(addresses: &[SocketAddr]) -> Vec<Endpoint> {
    addresses.iter().copied().map(Endpoint::from).collect()
}
