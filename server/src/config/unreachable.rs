//! What a configuration lists, and nobody would reach or find.

use super::{Config, ServiceConfig};

/// Addresses that clients elsewhere cannot use.
pub(super) fn of_balancer(config: &Config) -> Option<String> {
    let dns = config.dns.as_ref()?;
    let mut advertise = config.balancer.advertise.iter();
    let local = advertise.find(|addr| addr.ip().to_canonical().is_loopback())?;
    let asked_from_elsewhere = !dns.listen.ip().to_canonical().is_loopback();
    asked_from_elsewhere.then(|| {
        format!(
            "balancer.advertise: DNS answers {local} to clients on other machines, which reach \
             themselves there; write the addresses that they can reach"
        )
    })
}

/// A backend that is the balancer itself.
pub(super) fn itself(service: &ServiceConfig, config: &Config) -> Option<String> {
    let dns = config.dns.as_ref();
    let listens = [
        ("balancer.listen", config.balancer.listen),
        ("admin.listen", config.admin.listen),
    ];
    let advertised = config.balancer.advertise.iter();
    let advertised = advertised.map(|addr| ("balancer.advertise", *addr));
    let own = listens.into_iter().chain(advertised);
    let own = own.chain(dns.map(|dns| ("dns.listen", dns.listen)));
    let own: Vec<_> = own.collect();
    let mut addresses = service.backends.iter().map(|backend| backend.address);
    addresses.find_map(|addr| {
        let (key, _) = own.iter().find(|(_, own)| *own == addr.socket_addr())?;
        Some(format!(
            "backend {addr} is the balancer itself ({key}), which serves no calls of this \
             service; write the address of a backend"
        ))
    })
}

/// A port for DNS that no backend has.
pub(super) fn fallback_of_nobody(service: &ServiceConfig) -> Option<String> {
    let port = service.fallback_port?;
    let mut ports = service
        .backends
        .iter()
        .map(|backend| backend.address.port());
    let first = ports.clone().next()?;
    // Who registers says its port.
    (service.register.is_none() && ports.all(|other| other != port)).then(|| {
        format!(
            "fallback_port = {port} is no backend's port, so the service's own name has no \
             addresses in DNS; write fallback_port = {first}, or remove it"
        )
    })
}

/// A `match` of labels that no backend has.
pub(super) fn match_of_nobody(service: &ServiceConfig) -> Option<String> {
    if service.register.is_some() || service.backends.is_empty() {
        return None;
    }
    let matches = |index: &usize| {
        let labels = &service.matches[*index].labels;
        service
            .backends
            .iter()
            .any(|backend| backend.labels.contain(labels))
    };
    let index = (0..service.matches.len()).find(|index| !matches(index))?;
    Some(format!(
        "match[{index}] is of no effect, for no backend has its labels; write labels at the \
         backends, or remove it"
    ))
}

#[cfg(test)]
mod tests {
    use crate::config::{parse, warnings};

    fn warned(text: &str) -> Vec<String> {
        warnings(&parse(text, "f").unwrap())
    }

    /// The one warning of a service with these lines, behind these tables.
    #[track_caller]
    fn one(tables: &str, lines: &str, parts: &[&str]) {
        let all = warned(&format!("{tables}\n[[service]]\nname = \"a\"\n{lines}\n"));
        assert_eq!(all.len(), 1, "{lines}: {all:?}");
        for part in parts {
            assert!(all[0].contains(part), "{part} in {}", all[0]);
        }
    }

    #[track_caller]
    fn none(tables: &str, lines: &str) {
        let all = warned(&format!("{tables}\n[[service]]\nname = \"a\"\n{lines}\n"));
        assert!(all.is_empty(), "{lines}: {all:?}");
    }

    const BACKENDS: &str = "backends = [{ address = \"10.0.0.1:80\" }]";

    #[test]
    fn a_loopback_address_in_answers_to_others_is_warned_of() {
        let listen = "[balancer]\nlisten = \"127.0.0.1:9000\"\n[dns]\n";
        one(listen, BACKENDS, &["balancer.advertise", "127.0.0.1:9000"]);
        none(&format!("{listen}listen = \"127.0.0.1:9053\""), BACKENDS);
        none("[balancer]\nlisten = \"127.0.0.1:9000\"", BACKENDS);
    }

    #[test]
    fn a_backend_that_is_the_balancer_is_warned_of() {
        let tables = "[balancer]\nadvertise = [\"10.0.0.1:80\"]";
        one(
            tables,
            BACKENDS,
            &["service `a`: backend 10.0.0.1:80", "balancer.advertise"],
        );
        none("", BACKENDS);
    }

    #[test]
    fn a_fallback_port_that_no_backend_has_is_warned_of() {
        let port = format!("fallback_port = 81\n{BACKENDS}");
        one("", &port, &["fallback_port = 81", "fallback_port = 80"]);
        none("", &port.replace("81", "80"));
        none(
            "",
            &format!("{port}\nregister = {{ cidrs = [\"10.0.0.0/8\"] }}"),
        );
    }

    #[test]
    fn a_match_of_labels_that_no_backend_has_is_warned_of() {
        let matches = format!("match = [{{ labels = {{ v = \"2\" }}, weight = 2 }}]\n{BACKENDS}");
        one("", &matches, &["match[0]", "no backend has its labels"]);
        none(
            "",
            &matches.replace(":80\"", ":80\", labels = { v = \"2\" }"),
        );
        none(
            "",
            &format!("{matches}\nregister = {{ cidrs = [\"10.0.0.0/8\"] }}"),
        );
    }
}
