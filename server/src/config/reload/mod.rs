//! What a changed file means for a running balancer.

use std::net::SocketAddr;

use super::{BalancerConfig, Config, ConfigErrors, ServiceConfig, parse};
use crate::model::ServiceName;

/// What to do about a file that was read again.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The file says what is in force, but perhaps for keys that only a
    /// restart applies.
    Unchanged {
        /// Those keys, as `balancer.listen`.
        restart: Vec<&'static str>,
    },
    /// Another configuration is to be in force.
    Applied {
        /// It: the file's, with what is running where only a restart applies
        /// the file's.
        config: Box<Config>,
        /// Keys that only a restart applies, and that the file changes.
        restart: Vec<&'static str>,
    },
    /// What is in force stays.
    Refused(Refusal),
}

/// Why a file that was read again is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no configuration.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// It has no service, and there are some.
    #[error(
        "{file}: it has no service any more, but {count} are running; a file that is cut short \
         looks like this. To take backends out of service, drain them (`lookaside drain`); \
         to allow an empty file, run `lookaside serve --allow-empty`"
    )]
    NoServices {
        /// The file.
        file: String,
        /// How many services are in force.
        count: usize,
    },
    /// A service has no backend any more, and has some.
    #[error(
        "{file}: {} no backends any more; a file that is cut short looks like this. To take \
         backends out of service, drain them (`lookaside drain`) or remove the service; to allow \
         services to become empty, run `lookaside serve --allow-empty`",
        have(services)
    )]
    NoBackends {
        /// The file.
        file: String,
        /// The services.
        services: Vec<ServiceName>,
    },
}

/// Decides about the text of a file, read again.
///
/// `running` is what is in force: on start the file's configuration, later the
/// last one of [`Outcome::Applied`]. A file that would leave the balancer
/// without services, or a service without the backends it has, is refused
/// unless `allow_empty`: a TOML file that was cut short can be valid.
#[must_use]
pub fn reload(running: &Config, text: &str, file: &str, allow_empty: bool) -> Outcome {
    let mut config = match parse(text, file) {
        Ok(config) => config,
        Err(errors) => return Outcome::Refused(errors.into()),
    };
    if !allow_empty && let Err(refusal) = guard(&running.services, &config.services, file) {
        return Outcome::Refused(refusal);
    }
    let restart = keep_running(running, &mut config);
    if config == *running {
        Outcome::Unchanged { restart }
    } else {
        Outcome::Applied {
            config: Box::new(config),
            restart,
        }
    }
}

fn guard(old: &[ServiceConfig], new: &[ServiceConfig], file: &str) -> Result<(), Refusal> {
    let file = file.to_owned();
    if new.is_empty() && !old.is_empty() {
        return Err(Refusal::NoServices {
            file,
            count: old.len(),
        });
    }
    let had_backends = |name: &ServiceName| {
        let same = old.iter().find(|service| service.name == *name);
        same.is_some_and(|service| !service.backends.is_empty())
    };
    let emptied = new
        .iter()
        .filter(|service| service.backends.is_empty() && had_backends(&service.name))
        .map(|service| service.name.clone());
    let services: Vec<_> = emptied.collect();
    if services.is_empty() {
        Ok(())
    } else {
        Err(Refusal::NoBackends { file, services })
    }
}

/// Puts back what cannot change while the balancer runs, and names the keys in
/// which the file differs: sockets are bound once, which files TLS reads is
/// settled with them (what is in those files is not), and connections are told at
/// their start how they will end.
fn keep_running(running: &Config, config: &mut Config) -> Vec<&'static str> {
    let mut keep = Keep::default();
    let (balancer, runs) = (&mut config.balancer, &running.balancer);
    // Unstated, what is advertised is what is listened on: not the file's
    // address, but the one that was bound.
    if stated_advertise(balancer).is_empty() {
        if stated_advertise(runs).is_empty() {
            balancer.advertise.clone_from(&runs.advertise);
        } else if runs.listen.ip().to_canonical().is_unspecified() {
            let (runs, advertise) = (&runs.advertise, &mut balancer.advertise);
            keep.value("balancer.advertise", runs, advertise);
        } else {
            balancer.advertise = runs.default_advertise();
        }
    }
    keep.value("balancer.listen", &runs.listen, &mut balancer.listen);
    keep.value("balancer.shutdown", &runs.shutdown, &mut balancer.shutdown);
    keep.value("balancer.state", &runs.state, &mut balancer.state);
    keep.value("balancer.tls", &runs.tls, &mut balancer.tls);
    keep.value(
        "admin.listen",
        &running.admin.listen,
        &mut config.admin.listen,
    );
    match (&running.dns, &mut config.dns) {
        (Some(runs), Some(dns)) => {
            keep.value("dns.listen", &runs.listen, &mut dns.listen);
        }
        (runs, dns) => keep.value("dns", runs, dns),
    }
    keep.restart
}

/// Keys whose values were put back.
#[derive(Debug, Default)]
struct Keep {
    restart: Vec<&'static str>,
}

impl Keep {
    fn value<T: PartialEq + Clone>(&mut self, key: &'static str, runs: &T, value: &mut T) {
        if value != runs {
            self.restart.push(key);
            value.clone_from(runs);
        }
    }
}

fn stated_advertise(balancer: &BalancerConfig) -> &[SocketAddr] {
    if balancer.advertise == [balancer.listen] {
        &[]
    } else {
        &balancer.advertise
    }
}

fn have(services: &[ServiceName]) -> String {
    let names: Vec<String> = services.iter().map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "has" } else { "have" };
    match names.as_slice() {
        [] | [_] | [_, _] | [_, _, _] => format!("{} {verb}", names.join(", ")),
        [first, second, rest @ ..] => {
            format!("{first}, {second} and {} more services {verb}", rest.len())
        }
    }
}

#[cfg(test)]
mod tests;
