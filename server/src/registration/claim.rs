//! What a backend claims to be, read from the wire: nothing of it is believed yet.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::registration::Where;

use lookaside_core::model::{BackendAddr, Labels, RequestedName, Weight, Zone};

/// Services that one backend may have.
const MAX_SERVICES: usize = 64;

/// Characters of an instance.
const MAX_INSTANCE: usize = 64;

/// Bytes of a zone.
const MAX_ZONE: usize = 63;

/// A registration that can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The services, as the backend names them and as they are looked up; the
    /// error is of a name that cannot be one.
    pub(super) services: Vec<(String, Result<RequestedName, String>)>,
    pub(super) addr: BackendAddr,
    /// Whether the address is of the backend's own choice.
    pub(super) stated: bool,
    pub(super) weight: Option<Weight>,
    pub(super) zone: Option<Zone>,
    pub(super) labels: Labels,
    pub(super) instance: Arc<str>,
}

/// Why a registration cannot be read. The text is for the backend's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Claim {
    /// Reads a registration that came from `peer`.
    ///
    /// # Errors
    /// If something in it cannot be, as far as that concerns all of its services.
    pub fn read(message: pb::Registration, peer: IpAddr) -> Result<Self, Unreadable> {
        if message.services.is_empty() {
            return refuse("registration.services is empty; name what clients call the service");
        }
        if message.services.len() > MAX_SERVICES {
            let count = message.services.len();
            return refuse(format!(
                "registration.services has {count} names; at most {MAX_SERVICES} are taken"
            ));
        }
        let (addr, stated) = address(message.r#where, peer)?;
        let weight = match message.weight {
            None => None,
            // 0 would be a drain that no Registration can undo.
            Some(weight) if weight > 0.0 => {
                let weight = Weight::new(weight);
                Some(weight.map_err(|e| Unreadable(format!("registration.weight: {e}")))?)
            }
            Some(weight) => {
                return refuse(format!(
                    "registration.weight {weight} is out of range; write a number above 0 and at \
                     most 1000000, and send drain to get no calls"
                ));
            }
        };
        let labels = message.labels.iter();
        let labels = Labels::new(labels.map(|(name, value)| (name.as_str(), value.as_str())));
        let labels = labels.map_err(|e| Unreadable(format!("registration.labels: {e}")))?;
        let zone = Some(message.zone).filter(|zone| !zone.is_empty());
        if let Some(zone) = &zone {
            check_zone(zone)?;
        }
        let instance = message.instance;
        if instance.is_empty()
            || instance.len() > MAX_INSTANCE
            || !instance.bytes().all(|b| b.is_ascii_graphic())
        {
            return refuse(
                "registration.instance must be 1 to 64 printable ASCII characters, made anew when \
                 the backend starts",
            );
        }
        let services = message.services.into_iter().map(|service| {
            let name = RequestedName::parse(&service).map_err(|error| error.to_string());
            (service, name)
        });
        Ok(Self {
            services: services.collect(),
            addr,
            stated,
            weight,
            zone: zone.map(Zone::from),
            labels,
            instance: instance.into(),
        })
    }

    /// Where the backend says it is.
    #[must_use]
    pub fn addr(&self) -> BackendAddr {
        self.addr
    }

    /// Its weight, if it says one; above 0.
    #[must_use]
    pub fn weight(&self) -> Option<Weight> {
        self.weight
    }

    /// What else it is told by.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable(reason.into()))
}

fn address(stated: Option<Where>, peer: IpAddr) -> Result<(BackendAddr, bool), Unreadable> {
    let (addr, own) = match stated {
        None => return refuse("registration names no port; write port, or address as ip:port"),
        Some(Where::Port(port)) => match u16::try_from(port) {
            Ok(port) => (BackendAddr::new(SocketAddr::new(peer, port)), false),
            Err(_) => {
                return refuse(format!(
                    "registration.port {port} is no port; write 1 to 65535"
                ));
            }
        },
        Some(Where::Address(text)) => {
            let text: String = text.chars().take(64).collect();
            (text.parse(), true)
        }
    };
    match addr {
        Ok(addr) => Ok((addr, own)),
        Err(error) => refuse(format!("registration.address: {error}")),
    }
}

fn check_zone(zone: &str) -> Result<(), Unreadable> {
    if zone.len() > MAX_ZONE || zone.chars().any(char::is_control) {
        return refuse(format!(
            "registration.zone: a zone has at most {MAX_ZONE} printable bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn good() -> pb::Registration {
        pb::Registration {
            services: vec!["greeter.test".to_owned()],
            r#where: Some(Where::Port(80)),
            instance: "a".to_owned(),
            ..pb::Registration::default()
        }
    }

    fn read(message: pb::Registration) -> Result<Claim, String> {
        let peer = "10.0.0.1".parse().unwrap();
        Claim::read(message, peer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_port_is_of_the_peers_ip_and_an_address_stands_for_itself() {
        let claim = read(good()).unwrap();
        assert_eq!(claim.addr.to_string(), "10.0.0.1:80");
        assert!(!claim.stated);
        let stated = pb::Registration {
            r#where: Some(Where::Address("10.0.0.2:81".to_owned())),
            ..good()
        };
        let claim = read(stated).unwrap();
        assert_eq!(claim.addr.to_string(), "10.0.0.2:81");
        assert!(claim.stated);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_be_right() {
        let with = |change: fn(&mut pb::Registration)| {
            let mut message = good();
            change(&mut message);
            read(message).unwrap_err()
        };
        for (wanted, fault) in [
            ("services is empty", with(|m| m.services.clear())),
            (
                "at most 64",
                with(|m| m.services = vec!["a".to_owned(); 65]),
            ),
            ("names no port", with(|m| m.r#where = None)),
            ("port 0", with(|m| m.r#where = Some(Where::Port(0)))),
            ("no port", with(|m| m.r#where = Some(Where::Port(70_000)))),
            (
                "write ip:port",
                with(|m| m.r#where = Some(Where::Address("host:1".to_owned()))),
            ),
            (
                "names no host",
                with(|m| m.r#where = Some(Where::Address("0.0.0.0:1".to_owned()))),
            ),
            ("send drain", with(|m| m.weight = Some(0.0))),
            ("send drain", with(|m| m.weight = Some(f64::NAN))),
            ("out of range", with(|m| m.weight = Some(1e9))),
            ("zone", with(|m| m.zone = "z".repeat(64))),
            (
                "at most 16",
                with(|m| m.labels = (0..17).map(|i| (i.to_string(), String::new())).collect()),
            ),
            ("instance", with(|m| m.instance.clear())),
            ("instance", with(|m| m.instance = "a b".to_owned())),
        ] {
            assert!(fault.contains(wanted), "{wanted}: {fault}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_the_fault_of_that_service_alone() {
        let mut message = good();
        message.services.push(String::new());
        let claim = read(message).unwrap();
        assert!(claim.services[0].1.is_ok());
        assert!(claim.services[1].1.is_err());
    }

    proptest! {
        #[test]
        fn no_message_panics(
            services in proptest::collection::vec("\\PC{0,300}", 0..3),
            address in "\\PC{0,80}", port: u32, which in 0..3, weight: Option<f64>,
            zone in "\\PC{0,70}", instance in "\\PC{0,70}",
        ) {
            let r#where = match which {
                0 => None,
                1 => Some(Where::Port(port)),
                _ => Some(Where::Address(address)),
            };
            let message = pb::Registration {
                services, r#where, weight, zone, instance, ..pb::Registration::default()
            };
            if let Ok(claim) = read(message) {
                prop_assert!(claim.weight.is_none_or(|weight| !weight.is_drained()));
            }
        }
    }
}
