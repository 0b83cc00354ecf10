//! Who is registered for one service.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Change, Seat};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::MemberFields;

/// A service that loses more than half of its backends within this time to
/// silence alone keeps the rest of them for [`HOLD`]: it is likelier that we
/// cannot hear them.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How much longer they stay.
pub(in crate::registration) const HOLD: Duration = Duration::from_secs(30);

/// The seats of one service.
#[derive(Debug)]
pub(super) struct Registrations {
    pub(super) seats: BTreeMap<BackendAddr, Seat>,
    pub(super) per_ip: HashMap<IpAddr, usize>,
    /// When backends left because nothing was heard of them.
    silent: VecDeque<Instant>,
    /// Until then backends of before a restart are waited for.
    pub(super) opens: Instant,
    /// Whether there may be any.
    pub(super) at_start: bool,
    /// Whether it is open to registration.
    pub(super) allowed: bool,
    /// Whether some stay though their leases are over, as was told.
    told_held: bool,
}

impl Registrations {
    /// Nobody yet, and nothing is told before `opens`.
    pub(super) fn new(opens: Instant, at_start: bool) -> Self {
        Self {
            seats: BTreeMap::new(),
            per_ip: HashMap::new(),
            silent: VecDeque::new(),
            opens,
            at_start,
            allowed: true,
            told_held: false,
        }
    }

    pub(super) fn remove(&mut self, addr: BackendAddr) {
        if self.seats.remove(&addr).is_none() {
            return;
        }
        if let Some(count) = self.per_ip.get_mut(&addr.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&addr.ip());
            }
        }
    }

    /// Whether anybody was taken out, or held.
    pub(super) fn expire(&mut self, now: Instant, expired: &mut Vec<BackendAddr>) -> bool {
        let seats = self.seats.iter();
        let due = seats.filter(|(_, seat)| seat.until <= now);
        let due: Vec<(BackendAddr, bool)> = due.map(|(addr, seat)| (*addr, seat.held)).collect();
        if due.is_empty() {
            return false;
        }
        while self.silent.front().is_some_and(|at| *at + AT_ONCE <= now) {
            self.silent.pop_front();
        }
        let going = self.silent.len() + due.iter().filter(|(_, held)| !held).count();
        let hold = 2 * going > self.seats.len() + self.silent.len();
        for (addr, held) in due {
            if hold && !held {
                if let Some(seat) = self.seats.get_mut(&addr) {
                    seat.held = true;
                    seat.until = now + HOLD;
                }
                continue;
            }
            if !held {
                self.silent.push_back(now);
            }
            self.remove(addr);
            expired.push(addr);
        }
        true
    }

    pub(super) fn change(&mut self, service: &ServiceName) -> Change {
        let mut suspects = Vec::new();
        for (addr, seat) in &mut self.seats {
            if seat.told_suspect != seat.suspect {
                seat.told_suspect = seat.suspect;
                suspects.push((*addr, seat.suspect));
            }
        }
        let members = self.seats.iter().map(|(addr, seat)| {
            let fields = MemberFields {
                weight: seat.weight,
                zone: seat.zone.clone(),
                drain: Some(seat.drain),
                labels: seat.labels.clone(),
                incarnation: Some(Arc::clone(&seat.instance)),
            };
            (*addr, fields)
        });
        let held = self.seats.values().any(|seat| seat.held);
        let told_held = std::mem::replace(&mut self.told_held, held);
        Change {
            service: service.clone(),
            contribution: members.collect(),
            suspects,
            held,
            told_held,
        }
    }
}
