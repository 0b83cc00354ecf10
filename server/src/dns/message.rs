//! From the bytes of a query to the bytes of the reply.

use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::answer::Answer;
use super::cookies::{Cookies, Shown, WholeCookie};
use super::request::{AskedEdns, COOKIE, Request, Signature};

/// Largest reply over UDP, in bytes: what passes every path unfragmented
/// (DNS flag day 2020).
pub const MAX_UDP: u16 = 1232;

/// Largest reply over UDP to a client that says nothing of its size, in bytes
/// (RFC 1035 §4.2.1), and to one that may be somewhere else than it says.
const PLAIN_UDP: u16 = 512;

/// The error in a TSIG record whose key is not known (RFC 8945 §5.2.1).
const BADKEY: u16 = 17;

/// What carried a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// How the query came.
    pub transport: Transport,
    /// Where it says it comes from.
    pub ip: IpAddr,
    /// What makes and judges cookies.
    pub cookies: &'a Cookies,
    /// Seconds since 1970.
    pub now: u32,
}

/// A reply, and what it is counted as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// The type asked for, if the question could be read.
    pub kind: Option<RecordType>,
    /// How it went.
    pub code: ResponseCode,
    /// Whether it is no answer because the client's network has had its share.
    pub limited: bool,
    /// What the client showed.
    pub(super) shown: Shown,
}

/// Replies to a message. `None` if it deserves none: it is itself a reply (two
/// servers could go on for ever), or too short to have an id.
///
/// A client over UDP that shows no valid cookie may be somebody else, to whom
/// the reply is an attack. It gets an answer if `may_answer`, and no record that
/// it can do without; else it is sent to TCP, or to its cookie, by a reply that
/// is hardly longer than the query.
pub fn respond(
    message: &[u8],
    asker: &Asker<'_>,
    may_answer: impl FnOnce() -> bool,
    answer: impl FnOnce(&Query) -> Answer,
) -> Option<Reply> {
    let request = Request::read(message)?;
    let cookie = request.edns.as_ref().and_then(|edns| edns.cookie);
    let shown = asker.cookies.judge(cookie, asker.ip, asker.now);
    let is_known = asker.transport == Transport::Tcp || matches!(shown, Shown::Valid(_));
    let mut draft = Draft::to(&request, asker, shown);
    let refused = match (&request, shown) {
        (
            Request {
                fault: Some(fault), ..
            },
            _,
        ) => Some(*fault),
        (_, Shown::Malformed) => Some(ResponseCode::FormErr),
        (
            Request {
                edns: Some(edns), ..
            },
            _,
        ) if edns.version > 0 => Some(ResponseCode::BADVERS),
        (
            Request {
                signature: Some(signature),
                ..
            },
            _,
        ) => {
            draft.refuse(signature);
            Some(ResponseCode::NotAuth)
        }
        _ => None,
    };
    let Some(query) = request.query.as_ref().filter(|_| refused.is_none()) else {
        return Some(draft.close(refused.unwrap_or(ResponseCode::NoError)));
    };
    if !is_known && !may_answer() {
        draft.limited = true;
        // Who has a cookie from now on needs no TCP (RFC 7873 §5.2.3).
        let code = match shown {
            Shown::ClientOnly(_) | Shown::Invalid(_) => ResponseCode::BADCOOKIE,
            _ => {
                draft.message.metadata.truncation = true;
                ResponseCode::NoError
            }
        };
        return Some(draft.close(code));
    }
    let answer = answer(query);
    draft.message.metadata.authoritative = answer.authoritative;
    draft.message.answers = answer.answers;
    draft.message.authorities = answer.authorities;
    // Who asks for name servers can do nothing without their addresses; who
    // asks for an SRV record asks for those next.
    if is_known || query.query_type() == RecordType::NS {
        draft.message.additionals = answer.additionals;
    }
    Some(draft.close(answer.code))
}

/// A reply that is being made.
#[derive(Debug)]
struct Draft {
    message: Message,
    kind: Option<RecordType>,
    limit: u16,
    limited: bool,
    shown: Shown,
}

impl Draft {
    /// A reply without records.
    fn to(request: &Request<'_>, asker: &Asker<'_>, shown: Shown) -> Self {
        let metadata = &request.metadata;
        let mut message = Message::response(metadata.id, metadata.op_code);
        message.metadata = Metadata::response_from_request(metadata);
        message.queries.extend(request.query.clone());
        let cookie = match shown {
            Shown::ClientOnly(client) | Shown::Valid(client) | Shown::Invalid(client) => {
                Some(asker.cookies.make(&client, asker.ip, asker.now))
            }
            Shown::Nothing | Shown::Malformed => None,
        };
        let asked = request.edns.as_ref();
        message.edns = asked.map(|asked| edns_of_reply(asked, cookie));
        let limit = match (asker.transport, asked, shown) {
            (Transport::Tcp, ..) => u16::MAX,
            (Transport::Udp, Some(asked), Shown::Valid(_)) => {
                asked.max_payload.clamp(PLAIN_UDP, MAX_UDP)
            }
            (Transport::Udp, ..) => PLAIN_UDP,
        };
        Self {
            message,
            kind: request.query.as_ref().map(Query::query_type),
            limit,
            limited: false,
            shown,
        }
    }

    /// Says that the key of a signature is not known: there are none here. The
    /// client learns it from a TSIG record without a signature, which is last.
    fn refuse(&mut self, signature: &Signature) {
        let mut data = signature.head.clone();
        data.extend_from_slice(&0_u16.to_be_bytes());
        data.extend_from_slice(&signature.original_id);
        data.extend_from_slice(&BADKEY.to_be_bytes());
        data.extend_from_slice(&0_u16.to_be_bytes());
        let data = RData::Unknown {
            code: RecordType::TSIG,
            rdata: NULL::with(data),
        };
        let mut record = Record::from_rdata(signature.key.clone(), 0, data);
        record.dns_class = DNSClass::ANY;
        let edns = self.message.edns.take();
        let edns = edns.as_ref().map(Record::from);
        self.message.additionals = edns.into_iter().chain([record]).collect();
    }

    fn close(mut self, code: ResponseCode) -> Reply {
        self.message.metadata.response_code = code;
        let bytes = encode(&mut self.message, self.limit).unwrap_or_else(|_| {
            // Only a record of ours that cannot be written leads here.
            let metadata = &self.message.metadata;
            let (id, op_code) = (metadata.id, metadata.op_code);
            let failure = Message::error_msg(id, op_code, ResponseCode::ServFail);
            failure.to_vec().unwrap_or_default()
        });
        Reply {
            bytes,
            kind: self.kind,
            code,
            limited: self.limited,
            shown: self.shown,
        }
    }
}

/// At most `limit` bytes: without the additional records if need be, else
/// without any but marked as truncated, so that the client asks over TCP.
fn encode(message: &mut Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let limit = usize::from(limit);
    let bytes = message.to_vec()?;
    // The encoder stops at 65535 bytes, and says so. A reply without records
    // may be truncated too, and is short.
    if bytes.len() <= limit && (!is_truncated(&bytes) || message.metadata.truncation) {
        return Ok(bytes);
    }
    message.additionals.clear();
    let bytes = message.to_vec()?;
    if bytes.len() <= limit && !is_truncated(&bytes) {
        return Ok(bytes);
    }
    message.answers.clear();
    message.authorities.clear();
    message.metadata.truncation = true;
    message.to_vec()
}

fn is_truncated(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

fn edns_of_reply(asked: &AskedEdns<'_>, cookie: Option<WholeCookie>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    // RFC 3225 §3: the bit is copied, whether or not it is understood.
    edns.set_dnssec_ok(asked.dnssec_ok);
    if let Some(cookie) = cookie {
        let option = EdnsOption::Unknown(COOKIE, cookie.to_vec());
        edns.options_mut().insert(option);
    }
    edns
}
