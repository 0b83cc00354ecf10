//! What the queries of one look have been answered, and what that means beside
//! what was known before.

use std::time::Duration;

use super::super::{Balancers, Resolution};
use super::balancers::SrvBalancers;
use super::server_choice::ServerChoice;
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
use crate::service_config::ServiceConfig;

/// The answers of one look so far; `None` is not answered yet.
pub(super) struct Answers {
    /// Whose answers.
    pub(super) asked: ServerChoice,
    /// For how long those that there are hold.
    pub(super) ttl: Option<Duration>,
    pub(super) addresses: Option<Result<Vec<Endpoint>, ResolveError>>,
    pub(super) balancers: Option<Result<SrvBalancers, ResolveError>>,
    /// Whether the service has a balancer, wherever it is.
    pub(super) named: bool,
    /// Balancers that are known before all are.
    pub(super) some_balancers: Vec<super::super::BalancerAddress>,
    pub(super) config: Option<Result<Option<ServiceConfig>, ConfigFault>>,
}

/// Why there is no new service config.
pub(super) enum ConfigFault {
    /// It may be there the next time.
    Unanswered(String),
    /// Its owner has to mend it.
    Malformed(String),
}

impl Answers {
    /// Whether every query has been answered, or has failed.
    pub(super) fn are_complete(&self) -> bool {
        self.decide() && self.config.is_some()
    }

    /// Whether it is certain where RPCs can go, if perhaps not how.
    fn decide(&self) -> bool {
        self.addresses.is_some() && self.balancers.is_some()
    }

    /// Whether nothing is to be gained by asking again soon. A malformed service
    /// config stays malformed.
    pub(super) fn are_good(&self) -> bool {
        matches!(self.addresses, Some(Ok(_)))
            && matches!(self.balancers, Some(Ok(_)))
            && !matches!(self.config, Some(Err(ConfigFault::Unanswered(_))))
    }

    /// Whether an RPC could do something with them.
    pub(super) fn say_something(&self) -> bool {
        self.decide() || self.name_addresses() || self.name_balancers()
    }

    /// How long addresses should wait for balancers that are not known yet: `srv`
    /// to hear of any, `balancer` if there are some.
    pub(super) fn waits_for(&self, srv: Duration, balancer: Duration) -> Option<Duration> {
        let unknown = self.balancers.is_none() && self.some_balancers.is_empty();
        unknown.then_some(if self.named { balancer } else { srv })
    }

    fn name_addresses(&self) -> bool {
        matches!(&self.addresses, Some(Ok(endpoints)) if !endpoints.is_empty())
    }

    fn name_balancers(&self) -> bool {
        match &self.balancers {
            Some(Ok(found)) => !found.balancers.is_empty(),
            Some(Err(_)) => false,
            None => !self.some_balancers.is_empty(),
        }
    }

    /// The time is over: what is not answered has failed.
    pub(super) fn give_up(&mut self, host: &str, after: Duration) {
        let text = format!(
            "DNS lookup of {host} {}: no answer within {after:?}",
            self.asked
        );
        let error = || ResolveError(text.clone());
        self.addresses.get_or_insert_with(|| Err(error()));
        let some = std::mem::take(&mut self.some_balancers);
        self.balancers.get_or_insert_with(|| match some.is_empty() {
            true => Err(error()),
            false => Ok(SrvBalancers {
                balancers: some,
                ttl: None,
                left_out: Some(text.clone()),
            }),
        });
        self.config
            .get_or_insert_with(|| Err(ConfigFault::Unanswered(text.clone())));
    }

    fn balancers(&self) -> Balancers {
        match &self.balancers {
            Some(Ok(found)) if found.balancers.is_empty() => Balancers::Absent,
            Some(Ok(found)) => Balancers::Known(found.balancers.clone()),
            None if !self.some_balancers.is_empty() => {
                Balancers::Known(self.some_balancers.clone())
            }
            None | Some(Err(_)) => Balancers::Unknown,
        }
    }

    /// Why RPCs can go nowhere.
    fn failure(&self, host: &str) -> ResolveError {
        let addresses = match &self.addresses {
            Some(Err(error)) => error.0.clone(),
            _ => format!(
                "{host} has no addresses in DNS, looked up {} ({})",
                self.asked,
                self.asked.doubt()
            ),
        };
        let balancers = match &self.balancers {
            Some(Err(error)) => Some(&error.0),
            Some(Ok(found)) => found.left_out.as_ref(),
            None => None,
        };
        match balancers {
            Some(reason) if *reason != addresses => {
                ResolveError(format!("{addresses}; balancers: {reason}"))
            }
            _ => ResolveError(addresses),
        }
    }
}

/// What stays true until DNS says otherwise.
#[derive(Default)]
pub(super) struct LastGood {
    endpoints: Vec<Endpoint>,
    config: Option<ServiceConfig>,
    /// What has been logged and is still so: of addresses, balancers, config.
    logged: [Option<String>; 3],
}

impl LastGood {
    /// What `answers` mean for RPCs. Their failures change nothing, and neither do
    /// answers that would leave RPCs with nowhere to go.
    pub(super) fn learn(
        &mut self,
        answers: &Answers,
        host: &str,
    ) -> Result<Resolution, ResolveError> {
        if let Some(Ok(config)) = &answers.config {
            self.config.clone_from(config);
        }
        if answers.decide() && !answers.name_addresses() && !answers.name_balancers() {
            return Err(answers.failure(host));
        }
        if let Some(Ok(endpoints)) = &answers.addresses {
            self.endpoints.clone_from(endpoints);
        }
        Ok(Resolution {
            endpoints: self.endpoints.clone(),
            balancers: answers.balancers(),
            service_config: self.config.clone(),
            pending: !answers.are_complete(),
        })
    }

    /// Logs what failed, once per change and not once per look. `told`: the
    /// channel knows already where RPCs cannot go, and why.
    pub(super) fn log(&mut self, answers: &Answers, host: &str, told: bool) {
        let [addresses, balancers, config] = &mut self.logged;
        if !told {
            let fault = match &answers.addresses {
                Some(Err(error)) => Some(&error.0),
                _ => None,
            };
            if changed(addresses, fault) {
                tracing::warn!(host, reason = fault, "still using the known addresses");
            }
            let fault = match &answers.balancers {
                Some(Err(error)) => Some(&error.0),
                Some(Ok(found)) => found.left_out.as_ref(),
                None => None,
            };
            if changed(balancers, fault) {
                tracing::warn!(host, reason = fault, "not all balancers are known");
            }
        }
        let fault = match &answers.config {
            Some(Err(ConfigFault::Unanswered(text) | ConfigFault::Malformed(text))) => Some(text),
            _ => None,
        };
        if changed(config, fault) {
            tracing::warn!(host, reason = fault, "the service config stays what it was");
        }
    }
}

/// Takes note of `fault`; whether it is to be logged.
fn changed(logged: &mut Option<String>, fault: Option<&String>) -> bool {
    let changed = logged.as_ref() != fault;
    *logged = fault.cloned();
    changed && fault.is_some()
}
