//! `register`: who may register as a backend of a service.

use std::path::PathBuf;

use super::read::Node;
use super::tls::is_name_in_certificate;
use crate::config::RegisterConfig;
use crate::config::error::Faults;
use lookaside_core::model::Cidr;

/// As it is written.
const EXAMPLE: &str = "{ cidrs = [\"10.0.0.0/8\"] }";

/// Reads networks.
pub(super) fn read_cidrs(node: &Node<'_>, faults: &mut Faults) -> Vec<Cidr> {
    let Some(cidrs) = node.array(faults, "[\"10.0.0.0/8\"]") else {
        return Vec::new();
    };
    if cidrs.is_empty() {
        let message = "no backend has an address of no network; write cidrs = [\"10.0.0.0/8\"], \
                       or remove it";
        faults.wrong(&node.place, message);
    }
    cidrs
        .iter()
        .filter_map(|node| node.parsed(faults, "\"10.0.0.0/8\""))
        .collect()
}

pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<RegisterConfig> {
    let mut table = node.table(faults, EXAMPLE)?;
    let token_file = table.take("token_file");
    // What is given and wrong has its own fault.
    let mut identified = token_file.is_some();
    let token_file = token_file.and_then(|node| {
        let path = node.text(faults, "\"/etc/lookaside/tokens\"")?;
        if path.is_empty() {
            let message = "an empty path names no file; write one, as \"/etc/lookaside/tokens\"";
            faults.wrong(&node.place, message);
            return None;
        }
        Some(PathBuf::from(path))
    });
    let client_names = table.take("client_names");
    identified |= client_names.is_some();
    let example = "[\"greeter.example.com\"]";
    let client_names = client_names.and_then(|node| node.array(faults, example));
    let client_names = client_names.unwrap_or_default().into_iter();
    let client_names = client_names.filter_map(|node| {
        let name = node.text(faults, "\"greeter.example.com\"")?;
        if !is_name_in_certificate(name) {
            let message = format!(
                "`{name}` is not a name in a certificate; write a host name without wildcards, an \
                 IP address, or a SPIFFE ID, as \"spiffe://example.org/greeter\""
            );
            faults.wrong(&node.place, message);
            return None;
        }
        Some(name.to_owned())
    });
    let client_names: Vec<String> = client_names.collect();
    let cidrs = table.take("cidrs");
    let cidrs_given = cidrs.is_some();
    let cidrs = cidrs.map(|node| read_cidrs(&node, faults));
    let cidrs = cidrs.unwrap_or_default();
    let any_address = table.take("any_address");
    let any_address = any_address.and_then(|node| node.boolean(faults, "true"));
    let place = table.place.clone();
    table.finish(faults, &[]);
    let register = RegisterConfig {
        token_file,
        client_names,
        cidrs,
        any_address: any_address.unwrap_or_default(),
    };
    if !identified && !cidrs_given {
        let message = "it does not say who may register; write cidrs = [\"10.0.0.0/8\"], \
                       token_file or client_names";
        faults.clash(&place, message);
    }
    if register.any_address && !identified && cidrs_given {
        let message = "with any_address, whoever may register can direct calls anywhere; write \
                       token_file or client_names too";
        faults.clash(&place, message);
    }
    Some(register)
}
