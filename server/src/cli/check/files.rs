//! The files that a configuration names: certificates, keys, tokens.

use std::sync::Arc;

use crate::config::{Config, ConfigError, HealthKind, ServiceConfig, locate};
use crate::net::{TlsFiles, TlsPaths};
use crate::registration::check_token_file;
use crate::subchannel::check_tls;
use lookaside_core::model::BackendTls;

/// What is wrong with the files, each at the key that names it.
pub(super) fn faults(config: &Config, text: &str) -> Vec<ConfigError> {
    let mut faults = Vec::new();
    let mut wrong = |key: String, message: String| {
        let (line, column) = locate(text, &key).unwrap_or_default();
        faults.push(ConfigError {
            line,
            column,
            key,
            message: format!("{message} (--no-files: do not look at files)"),
        });
    };
    if let Some(tls) = config.balancer.tls.clone() {
        let paths = TlsPaths {
            cert: tls.cert,
            key: tls.key,
            client_ca: tls.client_ca,
            client_crl: tls.client_crl,
        };
        if let Err(error) = TlsFiles::check(&paths) {
            wrong("balancer.tls".to_owned(), error.to_string());
        }
    }
    // What is inherited is looked at once, where it stands.
    let mut seen: Vec<Arc<BackendTls>> = Vec::new();
    let outer = config.backend_tls.iter();
    let outer = outer.map(|tls| ("backend_tls".to_owned(), Arc::clone(tls)));
    let services = config.services.iter().enumerate();
    let services = services.flat_map(|(index, service)| of_service(index, service));
    for (key, tls) in outer.chain(services) {
        if seen.contains(&tls) {
            continue;
        }
        if let Err(error) = check_tls(&tls) {
            wrong(key, error);
        }
        seen.push(tls);
    }
    for (index, service) in config.services.iter().enumerate() {
        let register = service.register.as_ref();
        let Some(file) = register.and_then(|register| register.token_file.as_ref()) else {
            continue;
        };
        if let Err(reason) = check_token_file(file) {
            let key = format!("service[{index}].register.token_file");
            wrong(key, format!("{}: {reason}", file.display()));
        }
    }
    faults
}

/// By which TLS the backends of a service are called, and where that stands.
fn of_service(index: usize, service: &ServiceConfig) -> Vec<(String, Arc<BackendTls>)> {
    let key = |key: &str| format!("service[{index}].{key}");
    let own = service.tls.iter().map(|tls| (key("tls"), tls));
    let health = service
        .health
        .as_ref()
        .and_then(|health| match &health.kind {
            HealthKind::Grpc { tls, .. } => tls.as_ref(),
            HealthKind::Tcp => None,
        });
    let health = health.map(|tls| (key("health"), tls));
    let load = service.load.iter().filter_map(|load| load.tls.as_ref());
    let load = load.map(|tls| (key("load"), tls));
    let all = own.chain(health).chain(load);
    all.map(|(key, tls)| (key, Arc::clone(tls))).collect()
}
