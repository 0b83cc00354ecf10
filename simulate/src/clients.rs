//! Modelled clients: they walk the lists they were sent, entry by entry.

use std::sync::Arc;

use crate::exact::exp;
use crate::random::Random;
use crate::scenario::Scenario;

/// Backends in the order of a list.
pub(super) type Walk = Arc<[u32]>;

/// An entry whose call is dropped.
pub(super) const DROP: u32 = u32::MAX;

/// A client.
#[derive(Debug)]
struct Client {
    /// Its share of all calls.
    share: f64,
    /// Its stream's number, which picks its list's variant.
    ordinal: u64,
    walk: Walk,
    at: usize,
    /// A list on its way, and when it comes.
    next: Option<(f64, Walk)>,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    each: Vec<Client>,
    push_delay: f64,
    traffic: Random,
    pushes: Random,
}

impl Clients {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed, "clients");
        let rates: Vec<f64> = (0..scenario.clients)
            .map(|_| exp(scenario.client_sigma * random.normal()))
            .collect();
        let sum: f64 = rates.iter().sum();
        let each = (0u64..).zip(rates).map(|(ordinal, rate)| Client {
            share: rate / sum,
            ordinal,
            walk: Walk::from([]),
            at: 0,
            next: None,
        });
        Self {
            each: each.collect(),
            push_delay: scenario.push_delay.as_secs_f64(),
            traffic: Random::new(scenario.seed, "traffic"),
            pushes: Random::new(scenario.seed, "pushes"),
        }
    }

    /// Sends every client the list for its stream, if there is a new one.
    pub(super) fn push(&mut self, now: f64, mut news: impl FnMut(u64) -> Option<Walk>) {
        let third = self.push_delay / 3.0;
        for client in &mut self.each {
            let slow = self.pushes.unit() < 0.1;
            let delay = if slow {
                self.pushes.between(2.0 * third, 10.0 * third)
            } else {
                self.pushes.between(0.1 * third, third)
            };
            if let Some(walk) = news(client.ordinal) {
                client.next = Some((now + delay, walk));
            }
        }
    }

    /// Every client has its list already: a simulation begins with clients that
    /// are connected.
    pub(super) fn begin(&mut self, mut list: impl FnMut(u64) -> Walk) {
        for client in &mut self.each {
            client.adopt(list(client.ordinal), &mut self.pushes);
        }
    }

    /// The streams broke: they come again in any order, within `within` seconds.
    pub(super) fn reconnect(&mut self, now: f64, within: f64, mut list: impl FnMut(u64) -> Walk) {
        let order = self.pushes.shuffled(self.each.len());
        for (client, ordinal) in self.each.iter_mut().zip(order) {
            client.ordinal = ordinal as u64;
            let at = now + self.pushes.between(0.0, within);
            client.next = Some((at, list(client.ordinal)));
        }
    }

    /// Calls of `step` seconds, `rate` a second in all: counts them by backend,
    /// and returns how many were dropped.
    /// Backends that are down are passed over, as by clients that are connected
    /// to none.
    pub(super) fn call(
        &mut self,
        now: f64,
        step: f64,
        rate: f64,
        is_up: &[bool],
        counts: &mut [f64],
    ) -> f64 {
        let mut dropped = 0.0;
        for client in &mut self.each {
            if let Some((_, walk)) = client.next.take_if(|(at, _)| *at <= now) {
                client.adopt(walk, &mut self.pushes);
            }
            let calls = self.traffic.poisson(client.share * rate * step);
            dropped += client.walk(calls, is_up, counts);
        }
        dropped
    }
}

impl Client {
    /// Goes on with another list: every push comes in another rotation.
    fn adopt(&mut self, walk: Walk, random: &mut Random) {
        self.at = if walk.is_empty() {
            0
        } else {
            random.index(walk.len())
        };
        self.walk = walk;
    }

    fn walk(&mut self, calls: u64, is_up: &[bool], counts: &mut [f64]) -> f64 {
        let walk = &self.walk[..];
        let mut dropped = 0.0;
        if walk.is_empty() {
            return dropped;
        }
        for _ in 0..calls {
            for _ in 0..walk.len() {
                let entry = walk[self.at];
                self.at += 1;
                if self.at == walk.len() {
                    self.at = 0;
                }
                if entry == DROP {
                    dropped += 1.0;
                    break;
                }
                let backend = entry as usize;
                if is_up[backend] {
                    counts[backend] += 1.0;
                    break;
                }
            }
        }
        dropped
    }
}
