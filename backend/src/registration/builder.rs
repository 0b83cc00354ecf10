//! What a registration says, and to whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(feature = "tls")]
use lookaside_client::ClientTls;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::registration::Where;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::lookup::{Balancers, look};
use super::session::Identity;
use super::status::Board;
use super::{Phase, Registration, Wanted};
use crate::load::{Load, Utilization};

/// The largest weight a balancer takes.
const MAX_WEIGHT: f64 = 1e6;

/// Makes a [`Registration`].
#[derive(Debug)]
pub struct RegistrationBuilder {
    targets: Vec<String>,
    message: pb::Registration,
    token: Option<String>,
    load: Option<Load>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

/// Why a backend is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// A balancer's target cannot be used.
    #[error("balancer target `{target}`: {reason}")]
    Target {
        /// The target.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that is said of the backend cannot be.
    #[error("{0}")]
    Invalid(String),
    /// No balancer has answered so far, for this reason.
    #[error("not registered yet: {0}")]
    NoAnswer(String),
    /// A balancer does not take it.
    #[error("balancer {balancer} refuses this backend: {reason}")]
    Refused {
        /// Which one.
        balancer: SocketAddr,
        /// Its words.
        reason: String,
    },
}

impl RegistrationBuilder {
    pub(super) fn new(target: String) -> Self {
        let mut rng = fastrand::Rng::new();
        let instance = std::iter::repeat_with(|| rng.alphanumeric());
        Self {
            targets: vec![target],
            message: pb::Registration {
                instance: instance.take(16).collect(),
                ..pb::Registration::default()
            },
            token: None,
            load: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Registers with the balancers of this target too.
    #[must_use]
    pub fn balancer(mut self, target: impl Into<String>) -> Self {
        self.targets.push(target.into());
        self
    }

    /// A service that the backend has, by the name that clients call it. At least
    /// one is needed; called again, it has these too.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.message.services.push(name.into());
        self
    }

    /// Clients call it on this port of the ip that its streams come from. This or
    /// [`Self::address`] is needed.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.message.r#where = Some(Where::Port(port.into()));
        self
    }

    /// Clients call it there. The balancer checks that it is the ip that its
    /// streams come from, unless its operator set `any_address`.
    #[must_use]
    pub fn address(mut self, addr: SocketAddr) -> Self {
        self.message.r#where = Some(Where::Address(addr.to_string()));
        self
    }

    /// Its share of calls relative to other backends, above 0 and at most 10⁶; 1
    /// unless you say.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.message.weight = Some(weight);
        self
    }

    /// Where it stands, as the balancer's operators name it.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.message.zone = zone.into();
        self
    }

    /// Something else to tell it by, as its version.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.message.labels.insert(key.into(), value.into());
        self
    }

    /// Which life of the backend this is, 1 to 64 printable ASCII characters: a
    /// pod's id, say. Random unless you say.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.message.instance = instance.into();
        self
    }

    /// What the balancers know it by: one line of the service's `token_file`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The load to report. Without one, reports say that the backend is there,
    /// and nothing more.
    #[must_use]
    pub fn load(mut self, load: &Load) -> Self {
        self.load = Some(load.clone());
        self
    }

    /// TLS towards balancers (feature `tls`); off unless you say.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Begins to register, and keeps at it. The server should listen already.
    ///
    /// # Errors
    /// If a target cannot be used, or what is said of the backend cannot be, or this
    /// is called outside a tokio runtime.
    pub fn start(self) -> Result<Registration, RegistrationError> {
        self.check()?;
        if tokio::runtime::Handle::try_current().is_err() {
            let reason = "start was called outside a tokio runtime; call it in async code";
            return Err(RegistrationError::Invalid(reason.to_owned()));
        }
        let board = Board::default();
        board.looking_up(self.targets.iter().cloned());
        let load = self.load.unwrap_or_else(|| Load::new(Utilization::Set));
        let (wanted, _) = watch::channel(Wanted {
            message: Arc::new(self.message),
            phase: Phase::Serving,
        });
        let mut looks = Vec::new();
        for target in self.targets {
            looks.push(look(target)?);
        }
        let identity = Identity {
            token: self.token,
            #[cfg(feature = "tls")]
            tls: self.tls,
        };
        let balancers = Balancers::new(
            identity,
            wanted.subscribe(),
            board.clone(),
            load.clone(),
            looks,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(balancers.run());
        Ok(Registration {
            wanted,
            board,
            load,
            _tasks: tasks,
        })
    }

    /// What every balancer would refuse is better said here.
    fn check(&self) -> Result<(), RegistrationError> {
        let invalid = |reason: &str| Err(RegistrationError::Invalid(reason.to_owned()));
        let message = &self.message;
        if message.services.is_empty() {
            return invalid("no service is named; call service(\"greeter.example.com\")");
        }
        if message.services.iter().any(String::is_empty) {
            return invalid("a service has no name; write what clients call it");
        }
        match &message.r#where {
            None => return invalid("no port is named; call port(50051), or address(…)"),
            Some(Where::Port(0)) => {
                return invalid("port 0 cannot be called; give the port that was bound");
            }
            Some(_) => {}
        }
        check_weight(message.weight.unwrap_or(1.0))?;
        let instance = &message.instance;
        let printable = instance.bytes().all(|b| b.is_ascii_graphic());
        if instance.is_empty() || instance.len() > 64 || !printable {
            return invalid("an instance has 1 to 64 printable ASCII characters");
        }
        let labels: BTreeMap<_, _> = message.labels.iter().collect();
        if labels.len() > 16 {
            return invalid("there are more than 16 labels");
        }
        let long = |text: &&String| text.len() > 63;
        let texts = labels.iter().flat_map(|(key, value)| [*key, *value]);
        if let Some(text) = texts.chain([&message.zone]).find(long) {
            let reason = format!("`{text}` is longer than the 63 bytes of a zone or label");
            return Err(RegistrationError::Invalid(reason));
        }
        if let Some(token) = &self.token
            && (token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()))
        {
            return invalid("a token has printable ASCII characters only, and at least one");
        }
        Ok(())
    }
}

pub(super) fn check_weight(weight: f64) -> Result<(), RegistrationError> {
    if weight > 0.0 && weight <= MAX_WEIGHT {
        return Ok(());
    }
    Err(RegistrationError::Invalid(format!(
        "weight {weight} is out of range; it is above 0 and at most 1000000"
    )))
}
