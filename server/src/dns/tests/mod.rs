//! The DNS server's promises: what is answered, what bytes get which reply,
//! and that sockets carry it.

mod answers;
mod floods;
mod messages;
mod rules;
mod running;
mod sockets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::settings::ZoneSettings;
use super::zone::{Zone, ZoneService};
use crate::config::DnsConfig;
use lookaside_core::model::ServiceName;

fn config() -> DnsConfig {
    DnsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ttl: Duration::from_secs(5),
        target: None,
        service_config: true,
        responses_per_second: 0,
        tcp_connections: 40,
    }
}

fn addrs(addrs: &[&str]) -> Vec<SocketAddr> {
    addrs.iter().map(|addr| addr.parse().unwrap()).collect()
}

fn service(names: &[&str]) -> ZoneService {
    let names = names.iter().map(|name| ServiceName::parse(name).unwrap());
    let names: Vec<_> = names.collect();
    ZoneService {
        name: names[0].clone(),
        names,
    }
}

fn zone_of(config: &DnsConfig, advertise: &[&str], services: &[&[&str]]) -> Zone {
    let settings = ZoneSettings::new(config, &addrs(advertise)).unwrap();
    let services = services.iter().map(|names| service(names));
    Zone::new(Arc::new(settings), services)
}

fn query(name: &str, kind: RecordType) -> Query {
    Query::query(Name::from_ascii(name).unwrap(), kind)
}

/// Records as text without owner and TTL, in their order.
fn data(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| text(&record.data)).collect()
}

fn text(data: &RData) -> String {
    match data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(aaaa) => aaaa.0.to_string(),
        RData::SRV(srv) => format!("{}:{}", srv.target, srv.port),
        RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).unwrap(),
        other => other.to_string(),
    }
}
