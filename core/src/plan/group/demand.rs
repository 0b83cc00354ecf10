//! Where the clients are.
//!
//! A stream is taken for a share of all calls. That is the best honest measure:
//! clients report how much they call, but to believe them would let one client
//! move the calls of all others, and a client that starts calling would be late.
//!
//! What lists are made for is a frozen picture of the streams. It is renewed
//! when enough of them are elsewhere, so that single streams that come and go
//! push nothing to anybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::layout::Layout;

/// How many streams each list has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    /// Which lists there are.
    pub layout: Layout,
    /// Streams of each; empty if there are none at all.
    pub streams: Vec<u32>,
}

/// So many streams, in shares of all or by number, have to be elsewhere.
const MOVED: f64 = 0.05;
const MOVED_LEAST: f64 = 4.0;

/// Or so many more or fewer in one list, as a share of what was expected there.
const CROWDED: f64 = 0.25;

/// When more than half of the streams are gone, they may be about to come back,
/// as after a restart. So long the picture stays.
const RETURN: Duration = Duration::from_secs(30);

/// The streams as lists were made for them.
#[derive(Debug, Default)]
pub(super) struct Demand {
    frozen: Option<Frozen>,
    saved: Option<SavedDemand>,
    /// Since when more than half of the streams are gone.
    few_since: Option<Duration>,
    /// Whether the last look made another picture.
    renewed: bool,
}

#[derive(Debug)]
struct Frozen {
    layout: Layout,
    /// Of each list.
    streams: Vec<f64>,
    all: f64,
}

/// What is saved of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedDemand {
    zones: Vec<String>,
    streams: Vec<f64>,
}

impl Demand {
    /// Each list's share of all clients, those of `layout`; `None` while there
    /// are too few clients to tell.
    pub(super) fn shares(
        &mut self,
        layout: &Layout,
        clients: &Clients,
        now: Duration,
    ) -> Option<Vec<f64>> {
        self.look(layout, clients, now);
        let frozen = self.frozen.as_ref()?;
        let shares = frozen.streams.iter().map(|streams| streams / frozen.all);
        Some(shares.collect())
    }

    /// Whether lists should be made anew for these clients.
    pub(super) fn has_moved(&self, clients: &Clients) -> bool {
        let streams: Vec<f64> = clients.streams.iter().copied().map(f64::from).collect();
        let all: f64 = streams.iter().sum();
        match &self.frozen {
            None => all >= MOVED_LEAST,
            Some(frozen) => frozen.layout != clients.layout || frozen.is_off(&streams, all),
        }
    }

    /// Whether the shares are others than those of the plan before.
    pub(super) fn is_renewed(&self) -> bool {
        self.renewed
    }

    fn look(&mut self, layout: &Layout, clients: &Clients, now: Duration) {
        self.renewed = false;
        if self.frozen.is_none() {
            let saved = self.saved.take();
            self.frozen = saved.and_then(|saved| saved.restored(layout));
            self.renewed = self.frozen.is_some();
        }
        let streams = counted(clients, layout);
        let all: f64 = streams.iter().sum();
        if let Some(frozen) = &self.frozen
            && frozen.layout == *layout
        {
            if all < frozen.all / 2.0 {
                let since = *self.few_since.get_or_insert(now);
                if now.saturating_sub(since) < RETURN {
                    return;
                }
            } else {
                self.few_since = None;
            }
            if !frozen.is_off(&streams, all) {
                return;
            }
        }
        self.few_since = None;
        self.renewed = true;
        self.frozen = (all >= MOVED_LEAST).then(|| Frozen {
            layout: layout.clone(),
            streams,
            all,
        });
    }

    pub(super) fn save(&self) -> Option<SavedDemand> {
        let frozen = self.frozen.as_ref()?;
        let zones = frozen.layout.zones().iter().map(|zone| zone.to_string());
        Some(SavedDemand {
            zones: zones.collect(),
            streams: frozen.streams.clone(),
        })
    }

    pub(super) fn load(saved: Option<SavedDemand>) -> Self {
        Self {
            saved,
            ..Self::default()
        }
    }
}

impl Frozen {
    /// Whether `streams`, `all` together, are so much elsewhere that it counts.
    fn is_off(&self, streams: &[f64], all: f64) -> bool {
        if all == 0.0 {
            return false;
        }
        let pairs = self.streams.iter().zip(streams);
        let mut moved = 0.0;
        for (expected, found) in pairs {
            let expected = expected * all / self.all;
            let off = (found - expected).abs();
            if off > MOVED_LEAST + CROWDED * expected {
                return true;
            }
            moved += off;
        }
        moved > MOVED_LEAST.max(MOVED * all)
    }
}

impl SavedDemand {
    /// The same, if it is of this layout and sound.
    fn restored(self, layout: &Layout) -> Option<Frozen> {
        let zones = layout.zones().iter().map(|zone| &**zone);
        let all: f64 = self.streams.iter().sum();
        let sound = self.streams.iter().all(|s| s.is_finite() && *s >= 0.0);
        let same =
            zones.eq(self.zones.iter().map(String::as_str)) && self.streams.len() == layout.lists();
        (same && sound && all.is_finite() && all >= MOVED_LEAST).then(|| Frozen {
            layout: layout.clone(),
            streams: self.streams,
            all,
        })
    }
}

/// The streams of each list of `layout`. If they are of another layout, those of
/// a zone are spread over its groups.
fn counted(clients: &Clients, layout: &Layout) -> Vec<f64> {
    let streams = clients.streams.iter().copied().map(f64::from);
    if clients.layout == *layout && clients.streams.len() == layout.lists() {
        return streams.collect();
    }
    let mut counted = vec![0.0; layout.lists()];
    for (list, streams) in streams.enumerate() {
        let (audience, _) = clients.layout.of_list(list);
        let zone = audience
            .checked_sub(1)
            .and_then(|i| clients.layout.zones().get(i));
        let same = |zone| layout.zones().iter().position(|other| other == zone);
        let audience = zone.and_then(same).map_or(0, |index| index + 1);
        for group in 0..layout.groups() {
            counted[layout.list(audience, group)] += streams / layout.groups() as f64;
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(streams: &[u32]) -> Clients {
        // Two groups a round make sixteen.
        let layout = Layout::new(None, 2);
        let mut streams = streams.to_vec();
        streams.resize(layout.lists(), 0);
        Clients { layout, streams }
    }

    fn look(demand: &mut Demand, streams: &[u32], seconds: u64) -> Option<f64> {
        let clients = clients(streams);
        let now = Duration::from_secs(seconds);
        let shares = demand.shares(&clients.layout, &clients, now)?;
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        Some(shares[0])
    }

    #[test]
    fn single_streams_that_come_and_go_change_nothing() {
        let mut demand = Demand::default();
        assert_eq!(look(&mut demand, &[3], 0), None);
        assert_eq!(look(&mut demand, &[50, 50], 1), Some(0.5));
        for streams in [[51, 50], [50, 51], [49, 50], [52, 50]] {
            assert!(!demand.has_moved(&clients(&streams)));
            assert_eq!(look(&mut demand, &streams, 2), Some(0.5));
        }
        assert!(demand.has_moved(&clients(&[60, 40])));
        assert_eq!(look(&mut demand, &[60, 40], 3), Some(0.6));
    }

    #[test]
    fn clients_that_are_away_for_a_moment_are_waited_for() {
        let mut demand = Demand::default();
        assert_eq!(look(&mut demand, &[50, 50], 0), Some(0.5));
        assert_eq!(look(&mut demand, &[40, 0], 1), Some(0.5));
        assert_eq!(look(&mut demand, &[50, 47], 2), Some(0.5));
        assert_eq!(look(&mut demand, &[40, 0], 10), Some(0.5));
        assert_eq!(look(&mut demand, &[40, 0], 39), Some(0.5));
        assert_eq!(look(&mut demand, &[40, 0], 40), Some(1.0));
    }

    #[test]
    fn a_restart_goes_on_with_the_clients_it_had() {
        let mut demand = Demand::default();
        look(&mut demand, &[60, 40], 0);
        let mut demand = Demand::load(demand.save());
        assert_eq!(look(&mut demand, &[], 0), Some(0.6));
        assert_eq!(look(&mut demand, &[5, 1], 1), Some(0.6));
        let other = Layout::new(None, 3);
        assert_eq!(demand.save().unwrap().restored(&other).map(|f| f.all), None);
    }

    #[test]
    fn of_another_layout_the_zones_are_counted() {
        let clients = clients(&[8, 8]);
        let counted = counted(&clients, &Layout::new(None, 4));
        assert_eq!(counted, vec![0.5; 32]);
    }
}
