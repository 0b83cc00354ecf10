//! Who may register what: the configuration's `register` tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lookaside_client::tls::is_spiffe_id;
use lookaside_proto::registration_v1::Outcome;
use rustls::pki_types::ServerName;

use super::claim::Claim;
use super::tokens::Tokens;
use crate::config::{Config, RegisterConfig};
use crate::net::Peer;
use lookaside_core::model::{BackendAddr, DialRules, RequestedName, ServiceName};

/// Reports after which a silent backend is given up.
const REPORTS_IN_A_LEASE: u32 = 3;

/// What the configuration says of registration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rules {
    /// Every name of a service, and the one that it has here.
    names: BTreeMap<ServiceName, ServiceName>,
    /// What is open to registration.
    services: BTreeMap<ServiceName, Arc<Rule>>,
    /// How often backends report of whose services none says.
    report_interval: Duration,
}

/// What it says of one service.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    register: RegisterConfig,
    dial: DialRules,
    /// How often its backends report.
    interval: Duration,
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    /// The token it shows.
    pub(super) token: Option<String>,
}

/// Why a backend is not listed for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) outcome: Outcome,
    /// For the backend's operator.
    pub(super) error: String,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        let services = config.services.iter().filter_map(|service| {
            let rule = Rule {
                register: service.register.clone()?,
                dial: service.dial.clone(),
                interval: service.report_interval(&config.balancer),
            };
            Some((service.name.clone(), Arc::new(rule)))
        });
        let names = config.services.iter().flat_map(|service| {
            let names = std::iter::once(&service.name).chain(&service.aliases);
            names.map(|name| (name.clone(), service.name.clone()))
        });
        Self {
            names: names.collect(),
            services: services.collect(),
            report_interval: config.balancer.report_interval,
        }
    }

    /// The services that are open to registration, and the leases of their
    /// backends.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceName, Duration)> {
        let services = self.services.iter();
        services.map(|(name, rule)| (name, lease(rule.interval)))
    }

    /// How often a backend of these services reports: as often as the one that
    /// wants it most often.
    pub(super) fn interval<'a>(&self, services: impl Iterator<Item = &'a ServiceName>) -> Duration {
        let rules = services.filter_map(|name| self.services.get(name));
        let shortest = rules.map(|rule| rule.interval).min();
        shortest.unwrap_or(self.report_interval)
    }

    /// Whether backends of a service may say where they are.
    pub(super) fn any_address(&self, service: &ServiceName) -> bool {
        let rule = self.services.get(service);
        rule.is_some_and(|rule| rule.register.any_address)
    }

    /// The files of tokens.
    pub(super) fn token_files(&self) -> BTreeSet<PathBuf> {
        let rules = self.services.values();
        rules
            .filter_map(|r| r.register.token_file.clone())
            .collect()
    }

    /// Waits until the files of tokens that this claim is judged by were read.
    pub(super) async fn answered(&self, claim: &Claim, tokens: &Tokens) {
        for (_, name) in &claim.services {
            let service = name.as_ref().ok().and_then(|name| self.find(name));
            let rule = service.and_then(|service| self.services.get(service));
            if let Some(file) = rule.and_then(|rule| rule.register.token_file.as_ref()) {
                tokens.answered(file).await;
            }
        }
    }

    /// The service that a backend's name means, found as one that a client asks for.
    fn find(&self, name: &RequestedName) -> Option<&ServiceName> {
        let found = self.names.get(name.exact());
        found.or_else(|| self.names.get(name.host()))
    }

    /// Whether a backend at `addr` that is registered still may be; `has` says whether a
    /// token is in a file. What is not known yet is not held against it.
    pub(super) fn may(
        &self,
        service: &ServiceName,
        addr: BackendAddr,
        caller: &Caller,
        tokens: &Tokens,
        has: impl FnMut(&Path, &str) -> bool,
    ) -> Result<(), Refused> {
        // A service that is closed is the table's affair.
        let Some(rule) = self.services.get(service) else {
            return Ok(());
        };
        let file = rule.register.token_file.as_ref();
        if file.is_some_and(|file| !tokens.knows(file)) {
            return Ok(());
        }
        check_identity(&rule.register, caller, has)?;
        check_address(rule, addr, caller)
    }

    /// For each service of a claim, in its order, what it is called here, or why
    /// the backend may not have it.
    pub(super) fn judge(
        &self,
        claim: &Claim,
        caller: &Caller,
        tokens: &Tokens,
    ) -> Vec<Result<ServiceName, Refused>> {
        let judged = claim.services.iter().map(|(_, name)| {
            let name = name
                .as_ref()
                .map_err(|error| Refused::new(Outcome::UnknownService, error.as_str()))?;
            let name = self.find(name).ok_or_else(|| {
                Refused::new(
                    Outcome::UnknownService,
                    "this balancer has no such service; add it to lookaside.toml as a [[service]] \
                     or one of its aliases, or correct the name",
                )
            })?;
            let rule = self.services.get(name).ok_or_else(Refused::closed)?;
            let has = |file: &Path, token: &str| tokens.has(file, token);
            check_identity(&rule.register, caller, has)?;
            check_address(rule, claim.addr(), caller)?;
            Ok(name.clone())
        });
        judged.collect()
    }
}

/// How long a backend that reports so often stays listed after its last message.
pub(super) fn lease(interval: Duration) -> Duration {
    interval * REPORTS_IN_A_LEASE
}

impl Refused {
    pub(super) fn new(outcome: Outcome, error: impl Into<String>) -> Self {
        Self {
            outcome,
            error: error.into(),
        }
    }

    /// Of a service that is not open to registration.
    pub(super) fn closed() -> Self {
        Self::new(
            Outcome::Forbidden,
            "backends may not register for it; to let them, write register = { cidrs = [\"…\"] } \
             at the [[service]]",
        )
    }
}

fn check_identity(
    register: &RegisterConfig,
    caller: &Caller,
    mut has: impl FnMut(&Path, &str) -> bool,
) -> Result<(), Refused> {
    let wants_token = register.token_file.is_some();
    let wants_name = !register.client_names.is_empty();
    if !wants_token && !wants_name {
        // Then the addresses say who may.
        let ip = caller.peer.addr.ip();
        if register.cidrs.iter().any(|cidr| cidr.contains(ip)) {
            return Ok(());
        }
        let error = format!("{ip} is in none of the service's register.cidrs");
        return Err(Refused::new(Outcome::Forbidden, error));
    }
    if let Some(file) = &register.token_file
        && let Some(token) = &caller.token
        && has(file, token)
    {
        return Ok(());
    }
    if wants_name && has_name(&caller.peer, &register.client_names) {
        return Ok(());
    }
    let wanted = match (wants_token, wants_name) {
        (true, true) => {
            "a token of the service's token_file, or a client certificate for one of \
                         its client_names"
        }
        (true, false) => {
            "a token of the service's token_file, as metadata `authorization: Bearer \
                          <token>`"
        }
        _ => "a client certificate for one of the service's client_names",
    };
    Err(Refused::new(Outcome::Forbidden, format!("show {wanted}")))
}

/// Whether the peer showed a certificate for one of these names. It was verified
/// when the connection began, and is again when CAs or revocation lists change.
fn has_name(peer: &Peer, names: &[String]) -> bool {
    if peer.untrusted.is_cancelled() {
        return false;
    }
    let leaf = peer.certificates.as_ref().and_then(|chain| chain.first());
    let Some(Ok(leaf)) = leaf.map(webpki::EndEntityCert::try_from) else {
        return false;
    };
    names.iter().any(|name| {
        if is_spiffe_id(name) {
            return leaf.valid_uri_names().any(|uri| uri == name);
        }
        let name = ServerName::try_from(name.as_str());
        name.is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    })
}

fn check_address(rule: &Rule, addr: BackendAddr, caller: &Caller) -> Result<(), Refused> {
    let register = &rule.register;
    let refused = |error: String| Err(Refused::new(Outcome::AddressRefused, error));
    let (ip, peer) = (addr.ip(), caller.peer.addr.ip().to_canonical());
    if ip != peer && !register.any_address {
        return refused(format!(
            "{ip} is not the address this stream comes from, {peer}; register that, or let \
             any_address = true be written at the service's register"
        ));
    }
    if let Some(what) = rule.dial.refuse(ip) {
        return refused(format!(
            "{ip} is {what}, and this balancer calls no such address"
        ));
    }
    if !register.cidrs.is_empty() && !register.cidrs.iter().any(|cidr| cidr.contains(ip)) {
        return refused(format!("{ip} is in none of the service's register.cidrs"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_certificate_is_for_the_names_in_it() {
        let names = ["greeter.test".to_owned(), "10.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let mut peer = Peer {
            addr: "10.0.0.1:5".parse().unwrap(),
            connection: CancellationToken::new(),
            untrusted: CancellationToken::new(),
            certificates: Some(vec![certificate.der().clone()]),
        };
        for (wanted, good) in [
            (vec!["greeter.test"], true),
            (vec!["other.test", "GREETER.test"], true),
            (vec!["10.0.0.1"], true),
            (vec!["other.test"], false),
            (vec!["test"], false),
            (vec![], false),
        ] {
            let names: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(has_name(&peer, &names), good, "{wanted:?}");
        }
        let id = "spiffe://example.org/greeter";
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
        let certificate = params.self_signed(&key).unwrap();
        peer.certificates = Some(vec![certificate.der().clone()]);
        assert!(has_name(&peer, &["greeter.test".to_owned(), id.to_owned()]));
        for other in [
            "spiffe://example.org",
            "spiffe://example.org/greeter2",
            "greeter",
        ] {
            assert!(!has_name(&peer, &[other.to_owned()]), "{other}");
        }
        peer.untrusted.cancel();
        assert!(!has_name(&peer, &[id.to_owned()]));
        peer.untrusted = CancellationToken::new();
        let names = ["greeter.test".to_owned()];
        peer.certificates = Some(vec![vec![1, 2, 3].into()]);
        assert!(!has_name(&peer, &names));
        peer.certificates = None;
        assert!(!has_name(&peer, &names));
    }
}
