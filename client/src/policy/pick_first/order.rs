//! In which order addresses are tried.

use std::collections::{HashSet, VecDeque};
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;

use crate::endpoint::{Address, Endpoint};

/// The endpoints without those whose address stood before: the first entry's
/// attributes are the ones that count.
pub(super) fn once_each(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut known = HashSet::with_capacity(endpoints.len());
    endpoints.retain(|endpoint| known.insert(endpoint.address.clone()));
    endpoints
}

/// The endpoints in turn of their address families, beginning with the family
/// that stands first (RFC 8305 §4), and within a family in the order given. If
/// one family does not work at all, every other attempt is one that may.
pub(super) fn interleaved(endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut families: Vec<(Family, VecDeque<Endpoint>)> = vec![];
    let count = endpoints.len();
    for endpoint in endpoints {
        let family = family(&endpoint.address);
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, members)) => members.push_back(endpoint),
            None => families.push((family, VecDeque::from([endpoint]))),
        }
    }
    let mut order = Vec::with_capacity(count);
    while order.len() < count {
        let turns = families.iter_mut();
        order.extend(turns.filter_map(|(_, members)| members.pop_front()));
    }
    order
}

/// The kind of address, and the version of IP if it is one of those.
type Family = (Discriminant<Address>, Option<Discriminant<SocketAddr>>);

fn family(address: &Address) -> Family {
    let version = match address {
        Address::Tcp(addr) => Some(discriminant(addr)),
        _ => None,
    };
    (discriminant(address), version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: &[&str]) -> Vec<Endpoint> {
        let addresses = addresses.iter().map(|text| match text.parse() {
            Ok(addr) => Address::Tcp(addr),
            Err(_) => Address::Unix(text.into()),
        });
        addresses.map(Endpoint::new).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        for (given, wanted) in [
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"][..],
            ),
            (
                &["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "/s"],
                &["1.1.1.1:1", "[::1]:1", "/s", "2.2.2.2:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(endpoints(given)), endpoints(wanted));
        }
    }

    #[test]
    fn of_an_address_listed_twice_the_first_entry_counts() {
        let mut list = endpoints(&["1.1.1.1:1", "2.2.2.2:1", "1.1.1.1:1"]);
        list[0].lb_token = Some("first".parse().unwrap());
        list[2].lb_token = Some("second".parse().unwrap());
        let wanted = list[..2].to_vec();
        assert_eq!(once_each(list), wanted);
    }
}
