//! Which stream is in which group.
//!
//! A client has an order of preference of groups, from hashes of its address, the
//! service and each group, and gets the first that is not crowded. So it is
//! nearly always in the same group: after it reconnects, after a restart, and at
//! every replica. A stream keeps its group for life, but where groups come or go.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use lookaside_core::model::ServiceName;
use lookaside_core::plan::{Clients, Layout, score};

/// A group is crowded when it has so many times the mean of streams, and so many
/// more. Tighter bounds would even out the groups, which need not be even (lists
/// make up for it), but depend on the order in which clients come: with 1.1 and
/// one more, half to two thirds are in the same group after a restart, and with
/// these nine in ten.
const CROWDED: f64 = 1.25;
const CROWDED_BY: f64 = 2.0;

/// A client, as far as its place is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    ip: IpAddr,
    /// Hash of the address and the service.
    id: u64,
}

/// A stream's group: a list of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Which layout: its number among those the service has had.
    pub(super) epoch: u32,
    /// The list in it.
    pub(super) list: u32,
}

/// The groups of a service, and how many streams each has.
#[derive(Debug)]
pub(super) struct Seating {
    layout: Layout,
    epoch: u32,
    /// By list.
    streams: Vec<u32>,
    /// By audience.
    audiences: Vec<u32>,
}

impl Client {
    pub(super) fn new(ip: IpAddr, service: &ServiceName) -> Self {
        let ip = ip.to_canonical();
        let seed = xxh3_64_with_seed(service.as_str().as_bytes(), 0);
        let id = match ip {
            IpAddr::V4(v4) => xxh3_64_with_seed(&v4.octets(), seed),
            IpAddr::V6(v6) => xxh3_64_with_seed(&v6.octets(), seed),
        };
        Self { ip, id }
    }
}

impl Seat {
    pub(super) fn from_bits(bits: u64) -> Self {
        Self {
            epoch: (bits >> 32) as u32,
            list: bits as u32,
        }
    }

    pub(super) fn to_bits(self) -> u64 {
        (u64::from(self.epoch) << 32) | u64::from(self.list)
    }
}

impl Default for Seating {
    /// One group, until it is known which there are.
    fn default() -> Self {
        Self::new(Layout::default(), 0)
    }
}

impl Seating {
    fn new(layout: Layout, epoch: u32) -> Self {
        Self {
            streams: vec![0; layout.lists()],
            audiences: vec![0; layout.audiences()],
            layout,
            epoch,
        }
    }

    /// Which layout it is for.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many streams each group has.
    pub(super) fn clients(&self) -> Clients {
        Clients {
            layout: self.layout.clone(),
            streams: self.streams.clone(),
        }
    }

    /// A seat for a stream of this client.
    pub(super) fn take(&mut self, client: Client) -> Seat {
        let audience = self.layout.audience(client.ip);
        let groups = self.layout.groups();
        self.audiences[audience] += 1;
        let mean = f64::from(self.audiences[audience]) / groups as f64;
        let first = self.layout.list(audience, 0);
        let streams = &self.streams[first..first + groups];
        let open = |group: &usize| f64::from(streams[*group]) + 1.0 <= CROWDED * mean + CROWDED_BY;
        let group = if groups == 1 {
            0
        } else {
            let open = (0..groups).filter(open);
            let best = open.max_by_key(|group| score(client.id, self.layout.key(*group)));
            best.unwrap_or_default()
        };
        self.streams[first + group] += 1;
        self.seat(first + group)
    }

    /// The stream in this seat is gone.
    pub(super) fn leave(&mut self, seat: Seat) {
        let (audience, _) = self.layout.of_list(seat.list as usize);
        self.streams[seat.list as usize] -= 1;
        self.audiences[audience] -= 1;
    }

    /// Goes on with another layout, and says where the streams are then. They stay
    /// in their groups as far as those are still there and of their zone; groups
    /// that are new get those who would have preferred them.
    pub(super) fn change(
        &mut self,
        layout: Layout,
        epoch: u32,
        streams: &[(Client, Seat)],
    ) -> Vec<Seat> {
        let old = std::mem::replace(self, Self::new(layout, epoch));
        let new_groups = (0..self.layout.groups())
            .filter(|group| old.layout.same_group(&self.layout, *group).is_none());
        let new_groups: Vec<usize> = new_groups.collect();
        let stays = |(client, seat): &(Client, Seat)| {
            if seat.epoch != old.epoch {
                return None;
            }
            let (_, group) = old.layout.of_list(seat.list as usize);
            let same = self.layout.same_group(&old.layout, group)?;
            let liking = |group: usize| score(client.id, self.layout.key(group));
            let likes_more = |group: &usize| liking(*group) > liking(same);
            if new_groups.iter().any(likes_more) {
                return None;
            }
            let audience = self.layout.audience(client.ip);
            Some((audience, self.layout.list(audience, same)))
        };
        let kept: Vec<Option<(usize, usize)>> = streams.iter().map(stays).collect();
        for (audience, list) in kept.iter().flatten() {
            self.audiences[*audience] += 1;
            self.streams[*list] += 1;
        }
        let seats = streams
            .iter()
            .zip(kept)
            .map(|((client, _), kept)| match kept {
                Some((_, list)) => self.seat(list),
                None => self.take(*client),
            });
        seats.collect()
    }

    fn seat(&self, list: usize) -> Seat {
        Seat {
            epoch: self.epoch,
            list: list as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use lookaside_core::model::ZoneTable;

    fn client(number: u32) -> Client {
        let service = ServiceName::parse("greeter.test").unwrap();
        Client::new(
            Ipv4Addr::from_bits(0x0a00_0000_u32.wrapping_add(number)).into(),
            &service,
        )
    }

    fn seated(layout: &Layout, clients: impl Iterator<Item = u32>) -> (Seating, Vec<Seat>) {
        let mut seating = Seating::new(layout.clone(), 1);
        let seats = clients.map(|number| seating.take(client(number)));
        let seats = seats.collect();
        (seating, seats)
    }

    #[test]
    fn same_client_same_group_after_a_restart() {
        let layout = Layout::new(None, 15);
        let (_, before) = seated(&layout, 0..3000);
        // They come back in another order.
        let (_, mut after) = seated(&layout, (0..3000).rev());
        after.reverse();
        let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        assert!(same > 2550, "{same}");
    }

    #[test]
    fn streams_stay_in_their_groups_while_there_are_as_many() {
        let layout = Layout::new(None, 15);
        let (mut seating, seats) = seated(&layout, 0..3000);
        let streams: Vec<(Client, Seat)> = (0..3000).map(client).zip(seats).collect();
        let more = Layout::new(None, 16);
        let moved = seating.change(more.clone(), 2, &streams);
        let lists = |seat: &Seat, layout: &Layout| layout.key(seat.list as usize);
        let pairs = streams.iter().zip(&moved);
        let moves = pairs.filter(|((_, old), new)| lists(old, &layout) != lists(new, &more));
        // A sixteenth, and few who find those crowded.
        let moves = moves.count();
        assert!((150..400).contains(&moves), "{moves}");
        let back: Vec<(Client, Seat)> = (0..3000).map(client).zip(moved).collect();
        let again = seating.change(layout.clone(), 3, &back);
        let pairs = streams.iter().zip(&again);
        let same = pairs.filter(|((_, old), new)| old.list == new.list).count();
        assert!(same > 2700, "{same}");
        assert_eq!(seating.clients().streams.iter().sum::<u32>(), 3000);
    }

    #[test]
    fn clients_of_a_zone_are_an_audience() {
        let cidrs = |text: &str| vec![text.parse().unwrap()];
        let zones = ZoneTable::new(vec![
            ("a".into(), cidrs("10.0.0.0/25")),
            ("b".into(), cidrs("10.0.0.128/25")),
        ]);
        let layout = Layout::new(Some(Arc::new(zones)), 4);
        let (mut seating, seats) = seated(&layout, 0..300);
        for (number, seat) in seats.iter().enumerate() {
            let audience = layout.of_list(seat.list as usize).0;
            assert_eq!(audience, [1, 2, 0][number / 128]);
        }
        assert_eq!(seating.audiences, [44, 128, 128]);
        for seat in seats {
            seating.leave(seat);
        }
        assert_eq!(seating.audiences, [0, 0, 0]);
        assert!(seating.streams.iter().all(|streams| *streams == 0));
    }

    proptest! {
        #[test]
        fn no_group_is_crowded(groups in 1usize..40, clients in 1u32..2000, seed: u32) {
            let layout = Layout::new(None, groups);
            let (seating, _) = seated(&layout, (0..clients).map(|n| n.wrapping_mul(seed | 1)));
            let mean = f64::from(clients) / layout.groups() as f64;
            for streams in seating.streams {
                prop_assert!(f64::from(streams) <= 1.25 * mean + 2.0);
            }
        }

        #[test]
        fn seats_read_back(epoch: u32, list: u32) {
            let seat = Seat { epoch, list };
            prop_assert_eq!(Seat::from_bits(seat.to_bits()), seat);
        }
    }
}
