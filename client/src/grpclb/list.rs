//! A balancer's server list, as RPCs will use it: backends in their order, and
//! the turns at which an RPC is dropped.

use std::collections::HashMap;

use http::HeaderValue;
use lookaside_proto::addr::socket_addr;
use lookaside_proto::lb_v1::Server;

use crate::endpoint::Endpoint;

/// Longest token that is sent, in bytes, as in C-core; the protocol says "under
/// 50".
const MAX_TOKEN: usize = 50;

/// A list that was checked entry by entry. What is wrong with an entry costs
/// only that entry, and its turn among the drops stays, so that the share of
/// drops is what the balancer meant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct List {
    /// The entries as they came, to tell an equal list.
    pub(super) servers: Vec<Server>,
    /// The backends, in order, with repetitions.
    pub(super) backends: Vec<Endpoint>,
    /// The full list's drops: which entries drop, by the position of their token
    /// in `drop_tokens`. Empty if none does.
    pub(super) drop_turns: Vec<Option<usize>>,
    /// The tokens of drop entries, each once.
    pub(super) drop_tokens: Vec<String>,
    /// How many entries were bad, and what was wrong with the first.
    pub(super) bad: Option<(usize, String)>,
}

impl List {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        let mut backends = Vec::with_capacity(servers.len());
        let mut drop_turns = Vec::with_capacity(servers.len());
        let mut drop_tokens: Vec<String> = vec![];
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut bad: Option<(usize, String)> = None;
        let mut complain = |entry: usize, what: String| match &mut bad {
            Some((count, _)) => *count += 1,
            None => bad = Some((1, format!("entry {entry}: {what}"))),
        };
        for (entry, server) in servers.iter().enumerate() {
            if server.drop {
                let token = &server.load_balance_token;
                let place = places.entry(token).or_insert_with(|| {
                    drop_tokens.push(token.clone());
                    drop_tokens.len() - 1
                });
                drop_turns.push(Some(*place));
                continue;
            }
            drop_turns.push(None);
            match socket_addr(server) {
                Ok(addr) => {
                    let mut endpoint = Endpoint::new(addr);
                    match token(&server.load_balance_token) {
                        Ok(token) => endpoint.lb_token = token,
                        Err(what) => complain(entry, what),
                    }
                    backends.push(endpoint);
                }
                Err(what) => complain(entry, what.to_string()),
            }
        }
        if drop_tokens.is_empty() {
            drop_turns.clear();
        }
        Self {
            servers,
            backends,
            drop_turns,
            drop_tokens,
            bad,
        }
    }

    /// Whether every RPC is to be dropped.
    pub(super) fn drops_all(&self) -> bool {
        !self.drop_turns.is_empty() && self.drop_turns.iter().all(Option::is_some)
    }
}

/// The header value for a token, none if the token is empty. An entry whose token
/// cannot be sent is called without one.
fn token(token: &str) -> Result<Option<HeaderValue>, String> {
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() > MAX_TOKEN {
        return Err(format!(
            "a token of {} bytes is not sent; at most {MAX_TOKEN} are",
            token.len()
        ));
    }
    if !token.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(format!(
            "token {token:?} is not printable ASCII and is not sent"
        ));
    }
    HeaderValue::from_str(token)
        .map(Some)
        .map_err(|_| format!("token {token:?} cannot be sent as a header"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backend(last: u8, port: i32, token: &str) -> Server {
        Server {
            ip_address: vec![127, 0, 0, last],
            port,
            load_balance_token: token.to_owned(),
            drop: false,
        }
    }

    fn drop_entry(token: &str) -> Server {
        Server {
            load_balance_token: token.to_owned(),
            drop: true,
            ..Server::default()
        }
    }

    #[test]
    fn duplicates_keep_order_and_their_own_tokens() {
        let list = List::new(vec![
            backend(1, 80, "a"),
            backend(1, 80, "b"),
            backend(2, 80, ""),
            backend(1, 80, "a"),
        ]);
        let tokens: Vec<_> = list
            .backends
            .iter()
            .map(|e| e.lb_token.as_ref().map(|t| t.to_str().unwrap().to_owned()))
            .collect();
        let wanted = [Some("a"), Some("b"), None, Some("a")];
        assert_eq!(tokens, wanted.map(|t| t.map(str::to_owned)));
        assert!(list.drop_turns.is_empty() && list.bad.is_none());
    }

    #[test]
    fn bad_entries_are_skipped_and_keep_their_turn() {
        let list = List::new(vec![
            backend(1, 80, ""),
            backend(1, 70_000, ""),
            backend(1, 0, ""),
            drop_entry("rate"),
            Server {
                ip_address: vec![1, 2, 3],
                port: 80,
                ..Server::default()
            },
        ]);
        assert_eq!(list.backends.len(), 1);
        assert_eq!(list.drop_turns, [None, None, None, Some(0), None]);
        let (count, first) = list.bad.unwrap();
        assert_eq!(count, 3);
        assert!(first.contains("70000"), "{first}");
    }

    #[test]
    fn tokens_that_cannot_be_sent_cost_only_the_token() {
        let long = "x".repeat(60);
        for bad in [long.as_str(), "grün", "a\nb"] {
            let list = List::new(vec![backend(1, 80, bad)]);
            assert_eq!(list.backends.len(), 1);
            assert_eq!(list.backends[0].lb_token, None, "{bad:?}");
            assert!(list.bad.is_some());
        }
    }

    #[test]
    fn a_list_of_drops_alone_drops_all() {
        let all = List::new(vec![drop_entry("a"), drop_entry("b"), drop_entry("a")]);
        assert!(all.drops_all());
        assert_eq!(all.drop_turns, [Some(0), Some(1), Some(0)]);
        assert!(!List::new(vec![]).drops_all());
        assert!(!List::new(vec![drop_entry("a"), backend(1, 80, "")]).drops_all());
    }

    proptest! {
        #[test]
        fn no_list_panics(
            entries in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..20), any::<i32>(), ".{0,60}", any::<bool>()),
                0..30,
            )
        ) {
            let servers: Vec<_> = entries
                .into_iter()
                .map(|(ip_address, port, load_balance_token, drop)| Server {
                    ip_address,
                    port,
                    load_balance_token,
                    drop,
                })
                .collect();
            let drops = servers.iter().filter(|s| s.drop).count();
            let count = servers.len();
            let list = List::new(servers);
            prop_assert_eq!(list.drop_turns.iter().flatten().count(), drops);
            prop_assert!(list.drop_turns.is_empty() || list.drop_turns.len() == count);
            prop_assert!(list.backends.len() + drops <= count);
        }
    }
}
