//! From the bytes of a query to the bytes of the reply.

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::answer::Answer;

/// Largest reply over UDP, in bytes: what passes every path unfragmented
/// (DNS flag day 2020).
pub const MAX_UDP: u16 = 1232;

/// Largest reply over UDP to a client that says nothing of its size, in bytes
/// (RFC 1035 §4.2.1).
const PLAIN_UDP: u16 = 512;

/// Most records that a query may carry besides its question: OPT and a
/// signature. More only cost time.
const MAX_ADDITIONALS: u16 = 2;

/// What carried a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
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
}

/// Replies to a message. `None` if it deserves none: it is itself a reply (two
/// servers could go on for ever), or too short to have an id.
pub fn respond(
    message: &[u8],
    transport: Transport,
    answer: impl FnOnce(&Query) -> Answer,
) -> Option<Reply> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).ok()?;
    if header.metadata.message_type == MessageType::Response {
        return None;
    }
    let mut reply = Message::response(header.metadata.id, header.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&header.metadata);
    let refused = if header.metadata.op_code != OpCode::Query {
        Some(ResponseCode::NotImp)
    } else if !is_one_question(&header.counts) {
        Some(ResponseCode::FormErr)
    } else {
        None
    };
    if let Some(code) = refused {
        return Some(Reply::new(reply, None, code, PLAIN_UDP));
    }

    let Ok(query) = Query::read(&mut decoder) else {
        return Some(Reply::new(reply, None, ResponseCode::FormErr, PLAIN_UDP));
    };
    let kind = Some(query.query_type());
    let additionals = header.counts.additionals.into();
    let read = Message::read_records(&mut decoder, additionals, true, OpCode::Query);
    let Ok((_, edns, _)) = read else {
        reply.queries.push(query);
        return Some(Reply::new(reply, kind, ResponseCode::FormErr, PLAIN_UDP));
    };
    let limit = match (transport, &edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, MAX_UDP),
        (Transport::Udp, None) => PLAIN_UDP,
    };
    reply.edns = edns.as_ref().map(edns_of_reply);
    if edns.is_some_and(|edns| edns.version() > 0) {
        reply.queries.push(query);
        return Some(Reply::new(reply, kind, ResponseCode::BADVERS, limit));
    }

    let answer = answer(&query);
    reply.queries.push(query);
    reply.metadata.authoritative = answer.authoritative;
    reply.answers = answer.answers;
    reply.authorities = answer.authorities;
    reply.additionals = answer.additionals;
    Some(Reply::new(reply, kind, answer.code, limit))
}

impl Reply {
    fn new(mut message: Message, kind: Option<RecordType>, code: ResponseCode, limit: u16) -> Self {
        message.metadata.response_code = code;
        let bytes = encode(&mut message, limit).unwrap_or_else(|_| {
            // Only a record of ours that cannot be written leads here.
            let metadata = &message.metadata;
            let (id, op_code) = (metadata.id, metadata.op_code);
            let failure = Message::error_msg(id, op_code, ResponseCode::ServFail);
            failure.to_vec().unwrap_or_default()
        });
        Self { bytes, kind, code }
    }
}

/// At most `limit` bytes: without the additional records if need be, else
/// without any but marked as truncated, so that the client asks over TCP.
fn encode(message: &mut Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let limit = usize::from(limit);
    let bytes = message.to_vec()?;
    // The encoder stops at 65535 bytes, and says so.
    if bytes.len() <= limit && !is_truncated(&bytes) {
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

fn edns_of_reply(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    // RFC 3225 §3: the bit is copied, whether or not it is understood.
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

fn is_one_question(counts: &HeaderCounts) -> bool {
    counts.queries == 1
        && counts.answers == 0
        && counts.authorities == 0
        && counts.additionals <= MAX_ADDITIONALS
}
