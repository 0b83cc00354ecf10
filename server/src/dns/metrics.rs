//! What the DNS server counts.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::cookies::Shown;
use super::message::Reply;
use super::streams::Closed;

const KINDS: [&str; 7] = ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "other"];
const CODES: [&str; 11] = [
    "noerror",
    "formerr",
    "servfail",
    "nxdomain",
    "notimp",
    "refused",
    "notauth",
    "badvers",
    "badcookie",
    "dropped",
    "other",
];
const COOKIES: [&str; 5] = ["none", "client", "valid", "invalid", "malformed"];
const LIMITED: [&str; 2] = ["truncated", "badcookie"];
const CLOSED: [Closed; 6] = [
    Closed::Client,
    Closed::Idle,
    Closed::Lifetime,
    Closed::Evicted,
    Closed::Refused,
    Closed::Unreadable,
];

/// Handles to the DNS server's metrics. Labels come from short lists, so that
/// nothing from the wire can add one, and all counters are there from the start.
#[derive(Debug, Clone, Default)]
pub struct DnsMetrics {
    queries: Family<QueryLabels, Counter>,
    cookies: Family<CookieLabels, Counter>,
    limited: Family<LimitedLabels, Counter>,
    connections: Gauge,
    closed: Family<ClosedLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    r#type: &'static str,
    rcode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CookieLabels {
    cookie: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitedLabels {
    reply: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

impl DnsMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.begin_at_zero();
        registry.register(
            "dns_queries",
            "DNS messages received, by the type asked for and how they were answered",
            metrics.queries.clone(),
        );
        registry.register(
            "dns_cookies",
            "DNS messages that were replied to, by the cookie that the client showed",
            metrics.cookies.clone(),
        );
        registry.register(
            "dns_rate_limited",
            "DNS queries over UDP that were not answered because the client's network \
             had its share, by what was sent instead",
            metrics.limited.clone(),
        );
        registry.register(
            "dns_tcp_connections",
            "Open TCP connections of the DNS server",
            metrics.connections.clone(),
        );
        registry.register(
            "dns_tcp_closed",
            "TCP connections of the DNS server that were closed, by why",
            metrics.closed.clone(),
        );
        metrics
    }

    fn begin_at_zero(&self) {
        for r#type in KINDS {
            for rcode in CODES {
                drop(self.queries.get_or_create(&QueryLabels { r#type, rcode }));
            }
        }
        for cookie in COOKIES {
            drop(self.cookies.get_or_create(&CookieLabels { cookie }));
        }
        for reply in LIMITED {
            drop(self.limited.get_or_create(&LimitedLabels { reply }));
        }
        for closed in CLOSED {
            let reason = reason(closed);
            drop(self.closed.get_or_create(&ClosedLabels { reason }));
        }
    }

    /// `None` is a message that gets no reply.
    pub(super) fn replied(&self, reply: Option<&Reply>) {
        let labels = QueryLabels {
            r#type: kind(reply.and_then(|reply| reply.kind)),
            rcode: reply.map_or("dropped", |reply| code(reply.code)),
        };
        self.queries.get_or_create(&labels).inc();
        let Some(reply) = reply else {
            return;
        };
        let cookie = cookie(reply.shown);
        self.cookies.get_or_create(&CookieLabels { cookie }).inc();
        if reply.limited {
            let reply = if reply.code == ResponseCode::BADCOOKIE {
                "badcookie"
            } else {
                "truncated"
            };
            self.limited.get_or_create(&LimitedLabels { reply }).inc();
        }
    }

    pub(super) fn connections(&self, open: usize) {
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.connections.set(open);
    }

    pub(super) fn closed(&self, closed: Closed) {
        let reason = reason(closed);
        self.closed.get_or_create(&ClosedLabels { reason }).inc();
    }
}

fn kind(kind: Option<RecordType>) -> &'static str {
    match kind {
        Some(RecordType::A) => "A",
        Some(RecordType::AAAA) => "AAAA",
        Some(RecordType::SRV) => "SRV",
        Some(RecordType::TXT) => "TXT",
        Some(RecordType::SOA) => "SOA",
        Some(RecordType::NS) => "NS",
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
        ResponseCode::NotAuth => "notauth",
        ResponseCode::BADVERS => "badvers",
        ResponseCode::BADCOOKIE => "badcookie",
        _ => "other",
    }
}

fn cookie(shown: Shown) -> &'static str {
    match shown {
        Shown::Nothing => "none",
        Shown::ClientOnly(_) => "client",
        Shown::Valid(_) => "valid",
        Shown::Invalid(_) => "invalid",
        Shown::Malformed => "malformed",
    }
}

fn reason(closed: Closed) -> &'static str {
    match closed {
        Closed::Client => "client",
        Closed::Idle => "idle",
        Closed::Lifetime => "lifetime",
        Closed::Evicted => "evicted",
        Closed::Refused => "refused",
        Closed::Unreadable => "unreadable",
    }
}
