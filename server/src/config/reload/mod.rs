//! What a changed file means for a running balancer.

mod changes;
mod guard;
mod restart;

pub use changes::{Change, Changes};
pub use guard::{Allowed, Refusal};

use std::collections::BTreeSet;

use super::{Config, parse};
use lookaside_core::model::ServiceName;

/// What a changed file is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// What is in force: on start the file's configuration, later the last one of
    /// [`Outcome::Applied`].
    pub config: &'a Config,
    /// Services of which sources other than the file list backends, as
    /// registration.
    pub elsewhere: &'a BTreeSet<ServiceName>,
}

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
        /// What is different in it.
        changes: Changes,
        /// Keys that only a restart applies, and that the file changes.
        restart: Vec<&'static str>,
    },
    /// What is in force stays.
    Refused(Refusal),
}

/// Decides about the text of a file, read again.
///
/// A file that would leave the balancer without services or most of them, or a
/// service without the backends it has, is refused unless that is `allowed`: a
/// TOML file that was cut short can be valid.
#[must_use]
pub fn reload(running: Running<'_>, text: &str, file: &str, allowed: Allowed) -> Outcome {
    let mut config = match parse(text, file) {
        Ok(config) => config,
        Err(errors) => return Outcome::Refused(errors.into()),
    };
    if let Err(refusal) = guard::guard(running, &config, file, allowed) {
        return Outcome::Refused(refusal);
    }
    let restart = restart::keep_running(running.config, &mut config);
    if config == *running.config {
        Outcome::Unchanged { restart }
    } else {
        Outcome::Applied {
            changes: Changes::between(running.config, &config),
            config: Box::new(config),
            restart,
        }
    }
}

#[cfg(test)]
mod tests;
