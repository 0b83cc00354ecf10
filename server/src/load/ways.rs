//! The ways in which a backend is asked, one after the other until it knows one.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;
use tracing::info;

use super::prometheus::{Site, scrape};
use super::target::LoadTarget;
use super::{load_report, orca};
use crate::config::{LoadConfig, LoadKind};
use crate::subchannel::{Address, State, Subchannel, Subchannels};

/// A session with one backend.
pub(super) struct Ways {
    pub(super) asking: LoadTarget,
    /// In order of preference.
    pub(super) ways: Vec<LoadConfig>,
    /// What the backend is called where a way does not say.
    pub(super) name: String,
    pub(super) subchannels: Subchannels,
}

/// A way that the backend does not know, as long as its connection is this one:
/// what serves that will not learn it, but what serves the next may have.
struct Unknown {
    states: watch::Receiver<State>,
    _subchannel: Subchannel,
}

impl Ways {
    /// Asks until it is dropped.
    pub(super) async fn ask(self) {
        let mut unknown: Vec<Unknown> = Vec::new();
        let mut logged = false;
        loop {
            let way = self.ways.get(unknown.len());
            if way.is_none() && !logged {
                logged = true;
                let asked: Vec<_> = self.ways.iter().map(|way| way.kind.as_str()).collect();
                let backend = self.asking.backend;
                info!(%backend, ?asked, "it has nothing of what it is asked: its load is not known");
            }
            tokio::select! {
                biased;
                first = reconnected(&mut unknown) => {
                    if let Some(unknown) = unknown.get(first) {
                        self.asking.left(&unknown.states);
                    }
                    unknown.truncate(first);
                }
                found = self.ask_by(way) => unknown.push(found),
            }
        }
    }

    /// Asks in one way; ends if the backend does not know it.
    async fn ask_by(&self, way: Option<&LoadConfig>) -> Unknown {
        let Some(way) = way else {
            return pending().await;
        };
        let (asking, interval) = (&self.asking, way.interval);
        let _asked = asking.metrics.asked(way.kind.as_str());
        let backend = asking.backend;
        let port = way.port.unwrap_or_else(|| backend.port());
        let address = Address {
            target: SocketAddr::new(backend.ip(), port),
            authority: way.authority.clone(),
            tls: way.tls.clone(),
        };
        let subchannel = || self.subchannels.get(&address, &self.name);
        let (states, subchannel) = match &way.kind {
            LoadKind::Orca => {
                let subchannel = subchannel();
                (
                    orca::follow(asking, interval, &subchannel).await,
                    subchannel,
                )
            }
            LoadKind::LoadReport { capacity } => {
                let subchannel = subchannel();
                let poll = load_report::poll(asking, interval, *capacity, &subchannel);
                (poll.await, subchannel)
            }
            LoadKind::Prometheus(config) => {
                let authority = address.authority.clone();
                let site = Site {
                    target: address.target,
                    authority: authority.unwrap_or_else(|| self.name.clone()),
                    tls: address
                        .tls
                        .as_ref()
                        .map(|tls| self.subchannels.credential(tls)),
                    config: config.clone(),
                };
                scrape(asking, interval, site, self.subchannels.permits()).await
            }
        };
        Unknown {
            states,
            _subchannel: subchannel,
        }
    }
}

/// Waits until one of these connections is another; the first of them.
async fn reconnected(unknown: &mut [Unknown]) -> usize {
    let changes = unknown.iter_mut().map(|unknown| unknown.states.changed());
    let mut changes: Vec<_> = changes.map(Box::pin).collect();
    poll_fn(|cx| {
        let mut changes = changes.iter_mut();
        let first = changes.position(|change| pin!(change).as_mut().poll(cx).is_ready());
        first.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
