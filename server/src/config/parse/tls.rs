//! TLS: of the balancer's port, and towards backends.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lookaside_client::tls::is_spiffe_id;

use super::read::{Node, Table};
use crate::config::error::Faults;
use crate::config::{HealthConfig, HealthKind, LoadConfig, TlsConfig};
use lookaside_core::model::{BackendTls, ServiceName, TlsIdentity};

/// As it is written.
const EXAMPLE: &str = "{ ca = \"/etc/lookaside/backends.pem\" }";

/// `[balancer.tls]`.
pub(super) fn read_port(node: &Node<'_>, faults: &mut Faults) -> Option<TlsConfig> {
    let mut table = node.table(faults, "[balancer.tls]")?;
    let cert = table.require("cert", faults, "\"server.pem\"");
    let cert = cert.and_then(|node| path(&node, faults));
    let key = table.require("key", faults, "\"server.key\"");
    let key = key.and_then(|node| path(&node, faults));
    let client_ca = table.take("client_ca");
    let client_ca_stated = client_ca.is_some();
    let client_ca = client_ca.and_then(|node| path(&node, faults));
    let client_crl = table.take("client_crl");
    let client_crl = client_crl.and_then(|node| {
        if !client_ca_stated {
            let message = "clients show no certificate that could be revoked; write client_ca \
                           beside it, or remove it";
            faults.clash(&node.place, message);
        }
        path(&node, faults)
    });
    table.finish(faults, &[]);
    Some(TlsConfig {
        cert: cert?,
        key: key?,
        client_ca,
        client_crl,
    })
}

/// `tls` of a service, or of its `health` or `load`, or `[backend_tls]`: what is not
/// said is as `outer` says.
pub(super) fn read_backend(
    node: &Node<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Option<Arc<BackendTls>> {
    match node.switch() {
        Some(false) => return None,
        Some(true) => return Some(outer.cloned().unwrap_or_default()),
        None => {}
    }
    let table = node.table(faults, EXAMPLE)?;
    Some(read_table(table, outer, faults))
}

/// The same where `tls` is a key that may be absent.
pub(super) fn inherit(
    table: &mut Table<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Option<Arc<BackendTls>> {
    match table.take("tls") {
        Some(node) => read_backend(&node, outer, faults),
        None => outer.cloned(),
    }
}

pub(super) fn read_table(
    mut table: Table<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Arc<BackendTls> {
    let mut tls = outer.map(|outer| (**outer).clone()).unwrap_or_default();
    if let Some(node) = table.take("ca") {
        tls.ca = path(&node, faults);
    }
    let (cert, key) = (table.take("cert"), table.take("key"));
    match (cert, key) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            let (cert, key) = (path(&cert, faults), path(&key, faults));
            tls.identity = cert.zip(key).map(|(cert, key)| TlsIdentity { cert, key });
        }
        (Some(node), None) => {
            let message = "a certificate is shown with its private key; write key beside it";
            faults.clash(&node.place, message);
        }
        (None, Some(node)) => {
            let message = "a private key goes with its certificate; write cert beside it";
            faults.clash(&node.place, message);
        }
    }
    if let Some(node) = table.take("server_name") {
        tls.server_name = read_server_name(&node, faults);
    }
    table.finish(faults, &[]);
    Arc::new(tls)
}

fn read_server_name(node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    let name = node.text(faults, "\"greeter.example.com\"")?;
    if is_name_in_certificate(name) {
        return Some(name.to_owned());
    }
    let message = format!(
        "`{name}` is not a name in a certificate; write a host name without wildcards, an IP \
         address, or a SPIFFE ID, as \"spiffe://example.org/greeter\""
    );
    faults.wrong(&node.place, message);
    None
}

/// Whether a certificate may be asked to be for this.
pub(super) fn is_name_in_certificate(name: &str) -> bool {
    let host = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        rustls::pki_types::DnsName::try_from(name).is_ok() && name.chars().all(good)
    };
    is_spiffe_id(name) || name.parse::<IpAddr>().is_ok() || host(name)
}

/// Whose certificate is expected to be for a service's name is called by it: then
/// services that differ in that share no connection.
pub(super) fn call_by_name(
    service: &ServiceName,
    health: Option<&mut HealthConfig>,
    load: &mut [LoadConfig],
) {
    let health = health.and_then(|health| match &mut health.kind {
        HealthKind::Grpc { authority, tls, .. } => Some((authority, tls)),
        HealthKind::Tcp => None,
    });
    let load = load
        .iter_mut()
        .map(|load| (&mut load.authority, &mut load.tls));
    for (authority, tls) in load.chain(health) {
        if tls.as_ref().is_some_and(|tls| tls.server_name.is_none()) && authority.is_none() {
            *authority = Some(service.host().to_owned());
        }
    }
}

/// The path of a PEM file.
fn path(node: &Node<'_>, faults: &mut Faults) -> Option<PathBuf> {
    let text = node.text(faults, "\"/etc/lookaside/server.pem\"")?;
    if text.is_empty() || text.contains('\0') {
        faults.wrong(
            &node.place,
            "this names no file; write the path of a PEM file",
        );
        return None;
    }
    Some(text.into())
}
