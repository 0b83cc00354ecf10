//! What a question is answered.

use std::net::IpAddr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{NS, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::settings::Balancers;
use super::zone::{Node, Zone, ZoneMatch};

/// Most backends in an answer for a service's own name: with a name of usual
/// length they fit in 512 bytes, the most that the simplest client takes.
pub const MAX_BACKENDS: usize = 8;

/// Most addresses beside the names of name servers. One is enough, and strangers
/// get them too.
const MAX_GLUE: usize = 8;

/// `grpc_config=` and a list of one: grpclb, and round_robin for clients that
/// do not have it. A Go client without the grpclb import takes the second.
const SERVICE_CONFIG: &str = concat!(
    r#"grpc_config=[{"serviceConfig":{"loadBalancingConfig":"#,
    r#"[{"grpclb":{}},{"round_robin":{}}]}}]"#
);

// One character-string of a TXT record.
const _: () = assert!(SERVICE_CONFIG.len() <= 255);

/// Of a SOA: seconds between two looks at the serial, seconds to the next look
/// if one fails, and seconds after which to give up. Nobody may transfer these
/// zones, so the figures only have to be sane.
const REFRESH: i32 = 60;
const RETRY: i32 = 30;
const EXPIRE: i32 = 86_400;

/// Everything an answer depends on but the question.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The names; `None` while it is not known which services there are.
    pub zone: Option<&'a Zone>,
    /// The addresses that a question about a service's own name is answered;
    /// `None` while nothing is known of its backends.
    pub backends: Option<&'a [IpAddr]>,
    /// Which of several records comes first, counted round and round.
    pub turn: usize,
}

/// Records and a response code.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// Whether we say so with authority.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The SOA, if there is nothing of what was asked for.
    pub authorities: Vec<Record>,
    /// Addresses of SRV targets and name servers; may be left out.
    pub additionals: Vec<Record>,
}

/// Answers a question. `serial` is that of the name's zone; it is asked for if
/// a SOA goes out.
///
/// * In a zone a name that exists, or lies above one that does, is never denied:
///   without records of the type the answer is NODATA.
/// * A name below a zone's apex that does not exist is NXDOMAIN. C-core, Go and
///   Java take both for "nothing here"; caches learn more from NXDOMAIN.
/// * Other names, also those above a zone, other classes, ANY and transfers are
///   REFUSED.
/// * A service whose backends are not known yet is SERVFAIL: clients keep what
///   they have, which after NODATA they would drop.
#[must_use]
pub fn answer(query: &Query, view: View<'_>, serial: impl FnOnce() -> u32) -> Answer {
    let kind = query.query_type();
    if query.query_class() != DNSClass::IN || is_meta(kind) {
        return Answer::failure(ResponseCode::Refused);
    }
    let Some(zone) = view.zone else {
        return Answer::failure(ResponseCode::ServFail);
    };
    let name = query.name();
    let node = match zone.find(name) {
        ZoneMatch::Node(node) => node,
        ZoneMatch::Missing => {
            return Answer::denial(ResponseCode::NXDomain, soa(zone, name, serial()));
        }
        ZoneMatch::Outside => return Answer::failure(ResponseCode::Refused),
    };
    if ZoneMatch::Node(node).service().is_some() && is_address(kind) && view.backends.is_none() {
        return Answer::failure(ResponseCode::ServFail);
    }
    let answers: Vec<Record> = match kind {
        RecordType::SOA if node.apex.is_some() => soa(zone, name, serial()).into_iter().collect(),
        _ => {
            let records = records(zone, node, query, &view);
            if records.is_empty() {
                return Answer::denial(ResponseCode::NoError, soa(zone, name, serial()));
            }
            records
        }
    };
    let mut additionals = additionals(zone, &answers, &view);
    if kind == RecordType::NS {
        additionals.truncate(MAX_GLUE);
    }
    Answer {
        code: ResponseCode::NoError,
        authoritative: true,
        additionals,
        answers,
        authorities: Vec::new(),
    }
}

impl Answer {
    fn failure(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    fn denial(code: ResponseCode, soa: Option<Record>) -> Self {
        Self {
            authoritative: true,
            authorities: soa.into_iter().collect(),
            ..Self::failure(code)
        }
    }
}

fn records(zone: &Zone, node: &Node, query: &Query, view: &View<'_>) -> Vec<Record> {
    let name = query.name();
    let ttl = zone.settings().ttl();
    match query.query_type() {
        kind @ (RecordType::A | RecordType::AAAA) => {
            let (ips, most) = match node.balancers {
                Some(index) => (balancers(zone, index), usize::MAX),
                None if node.service.is_some() => (view.backends.unwrap_or_default(), MAX_BACKENDS),
                None => return Vec::new(),
            };
            let records = addresses(name, kind, ips, ttl);
            rotate(records, view.turn).take(most).collect()
        }
        RecordType::SRV => {
            let targets = node.srv.iter().flat_map(|targets| targets.iter());
            let balancers = zone.settings().balancers();
            let records = targets.zip(balancers).map(|(target, balancers)| {
                let srv = SRV::new(0, weight(balancers), balancers.port, target.clone());
                Record::from_rdata(name.clone(), ttl, RData::SRV(srv))
            });
            rotate(records.collect(), view.turn).collect()
        }
        RecordType::TXT if node.config => {
            let txt = TXT::from_bytes(vec![SERVICE_CONFIG.as_bytes()]);
            vec![Record::from_rdata(name.clone(), ttl, RData::TXT(txt))]
        }
        RecordType::NS => {
            let servers = node.apex.iter().flat_map(|servers| servers.iter());
            let records = servers
                .map(|server| Record::from_rdata(name.clone(), ttl, RData::NS(NS(server.clone()))));
            records.collect()
        }
        _ => Vec::new(),
    }
}

/// The addresses of the names that were answered, in the order of the names.
fn additionals(zone: &Zone, answers: &[Record], view: &View<'_>) -> Vec<Record> {
    let mut records = Vec::new();
    for answer in answers {
        let target = match &answer.data {
            RData::SRV(srv) => &srv.target,
            RData::NS(server) => &server.0,
            _ => continue,
        };
        let ZoneMatch::Node(Node {
            balancers: Some(index),
            ..
        }) = zone.find(target)
        else {
            continue;
        };
        for kind in [RecordType::A, RecordType::AAAA] {
            let ttl = zone.settings().ttl();
            let found = addresses(target, kind, balancers(zone, *index), ttl);
            records.extend(rotate(found, view.turn));
        }
    }
    records
}

fn balancers(zone: &Zone, index: usize) -> &[IpAddr] {
    let balancers = zone.settings().balancers().get(index);
    balancers.map_or(&[], |balancers| &balancers.ips)
}

/// Clients that heed the weight split themselves over addresses, not ports.
fn weight(balancers: &Balancers) -> u16 {
    u16::try_from(balancers.ips.len()).unwrap_or(u16::MAX)
}

fn addresses(name: &Name, kind: RecordType, ips: &[IpAddr], ttl: u32) -> Vec<Record> {
    let data = ips.iter().filter_map(|ip| match (kind, ip) {
        (RecordType::A, IpAddr::V4(ip)) => Some(RData::A((*ip).into())),
        (RecordType::AAAA, IpAddr::V6(ip)) => Some(RData::AAAA((*ip).into())),
        _ => None,
    });
    data.map(|data| Record::from_rdata(name.clone(), ttl, data))
        .collect()
}

/// C-core and Java call the first and do not shuffle.
fn rotate(mut records: Vec<Record>, turn: usize) -> impl Iterator<Item = Record> {
    if !records.is_empty() {
        let first = turn % records.len();
        records.rotate_left(first);
    }
    records.into_iter()
}

/// The SOA of the zone of a name; `None` if it is in no zone.
fn soa(zone: &Zone, name: &Name, serial: u32) -> Option<Record> {
    let ttl = zone.settings().ttl();
    let apex = zone.apex(name)?;
    let server = apex.servers.first().unwrap_or(&apex.name);
    let contact = apex.name.prepend_label("hostmaster");
    let soa = SOA::new(
        server.clone(),
        contact.unwrap_or_else(|_| apex.name.clone()),
        serial,
        REFRESH,
        RETRY,
        EXPIRE,
        ttl,
    );
    Some(Record::from_rdata(apex.name, ttl, RData::SOA(soa)))
}

fn is_address(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::AAAA)
}

/// Types that are questions only (RFC 6895 §3.1), ANY and transfers among them.
fn is_meta(kind: RecordType) -> bool {
    kind == RecordType::OPT || (128..=255).contains(&u16::from(kind))
}
