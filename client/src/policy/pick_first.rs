//! `pick_first`, gRPC's default: the first address that answers gets every RPC,
//! until its connection ends.

use http::HeaderValue;

use super::{Output, Pick, Picked, Picker, Policy};
use crate::endpoint::Endpoint;
use crate::subchannel::{Connection, Pool, Subchannel, SubchannelState};

/// gRPC's `pick_first`.
#[derive(Debug)]
pub struct PickFirst {
    subchannels: Vec<Subchannel>,
    /// What RPCs to each subchannel carry as `lb-token`: its first entry's.
    tokens: Vec<Option<HeaderValue>>,
    /// The connection in use, and to whom.
    chosen: Option<(Subchannel, Connection)>,
    output: Output,
}

impl PickFirst {
    /// Without addresses yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            subchannels: vec![],
            tokens: vec![],
            chosen: None,
            output: Output::connecting(),
        }
    }

    /// Tries the addresses in order. Says whether the output changed.
    fn evaluate(&mut self, pool: &mut Pool) -> bool {
        if let Some((subchannel, connection)) = &self.chosen {
            if matches!(pool.state(subchannel), SubchannelState::Ready(now) if now == *connection) {
                return false;
            }
            self.chosen = None;
        }
        let mut last_error = None;
        for (subchannel, token) in self.subchannels.iter().zip(&self.tokens) {
            pool.connect(subchannel);
            match pool.state(subchannel) {
                SubchannelState::Ready(connection) => {
                    self.output = Output::ready(Chosen {
                        connection: connection.clone(),
                        lb_token: token.clone(),
                    });
                    self.chosen = Some((subchannel.clone(), connection));
                    return true;
                }
                // The one before has failed, or there is none: wait for this.
                _ if pool.last_error(subchannel).is_none() => {
                    self.output = Output::connecting();
                    return true;
                }
                _ => last_error = pool.last_error(subchannel),
            }
        }
        self.output = match last_error {
            Some(last) => Output::failure(format!("none of the backends can be reached; {last}")),
            None => Output::failure("there are no addresses to call"),
        };
        true
    }
}

impl Default for PickFirst {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for PickFirst {
    fn update(&mut self, endpoints: Vec<Endpoint>, pool: &mut Pool) {
        let mut subchannels: Vec<Subchannel> = vec![];
        let mut tokens = vec![];
        for endpoint in endpoints {
            let subchannel = pool.acquire(&endpoint.address);
            if !subchannels.contains(&subchannel) {
                subchannels.push(subchannel);
                tokens.push(endpoint.lb_token);
            }
        }
        // An address that is still listed keeps its connection, with the token
        // that it has now.
        if let Some((subchannel, connection)) = &self.chosen {
            match subchannels.iter().position(|s| s == subchannel) {
                Some(place) => {
                    self.output = Output::ready(Chosen {
                        connection: connection.clone(),
                        lb_token: tokens[place].clone(),
                    });
                }
                None => self.chosen = None,
            }
        }
        self.subchannels = subchannels;
        self.tokens = tokens;
        self.evaluate(pool);
    }

    fn refresh(&mut self, pool: &mut Pool) -> bool {
        self.evaluate(pool)
    }

    fn output(&self) -> Output {
        self.output.clone()
    }
}

#[derive(Debug)]
struct Chosen {
    connection: Connection,
    lb_token: Option<HeaderValue>,
}

impl Picker for Chosen {
    fn pick(&self) -> Pick<'_> {
        Pick::Complete(Picked {
            lb_token: self.lb_token.as_ref(),
            ..Picked::from(&self.connection)
        })
    }
}
