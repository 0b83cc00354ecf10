//! What the DNS server counts.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::message::Reply;

/// Handles to the DNS server's metrics. Labels come from two short lists, so
/// that nothing from the wire can add one.
#[derive(Debug, Clone, Default)]
pub struct DnsMetrics {
    queries: Family<QueryLabels, Counter>,
    connections: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    r#type: &'static str,
    rcode: &'static str,
}

impl DnsMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "dns_queries",
            "DNS messages received, by the type asked for and how they were answered",
            metrics.queries.clone(),
        );
        registry.register(
            "dns_tcp_connections",
            "Open TCP connections of the DNS server",
            metrics.connections.clone(),
        );
        metrics
    }

    /// `None` is a message that gets no reply.
    pub(super) fn replied(&self, reply: Option<&Reply>) {
        let labels = QueryLabels {
            r#type: kind(reply.and_then(|reply| reply.kind)),
            rcode: reply.map_or("dropped", |reply| code(reply.code)),
        };
        self.queries.get_or_create(&labels).inc();
    }

    pub(super) fn connections(&self, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.connections.set(open);
    }
}

fn kind(kind: Option<RecordType>) -> &'static str {
    match kind {
        Some(RecordType::A) => "A",
        Some(RecordType::AAAA) => "AAAA",
        Some(RecordType::SRV) => "SRV",
        Some(RecordType::TXT) => "TXT",
        Some(RecordType::SOA) => "SOA",
        _ => "other",
    }
}

fn code(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "noerror",
        ResponseCode::FormErr => "formerr",
        ResponseCode::ServFail => "servfail",
        ResponseCode::NXDomain => "nxdomain",
        ResponseCode::NotImp => "notimp",
        ResponseCode::Refused => "refused",
        ResponseCode::BADVERS => "badvers",
        _ => "other",
    }
}
