//! The bytes of a query, read. Whatever is wrong with them is known here.

use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

/// Most records that a query may carry besides its question: OPT and a
/// signature. More only cost time.
const MAX_ADDITIONALS: u16 = 2;

/// The EDNS option of cookies (RFC 7873 §4).
pub(super) const COOKIE: u16 = 10;

/// A message that deserves a reply, as far as it could be read.
///
/// The additional records are read here and not by hickory, which logs at each
/// malformed option: strangers would fill the log.
#[derive(Debug)]
pub(super) struct Request<'m> {
    pub(super) metadata: Metadata,
    /// `None` if it could not be read, or there is none.
    pub(super) query: Option<Query>,
    pub(super) edns: Option<AskedEdns<'m>>,
    pub(super) signature: Option<Signature>,
    /// Why it is not answered.
    pub(super) fault: Option<ResponseCode>,
}

/// What a query's OPT record says (RFC 6891).
#[derive(Debug, Default)]
pub(super) struct AskedEdns<'m> {
    /// Bytes of a datagram that the client takes.
    pub(super) max_payload: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
    pub(super) cookie: Option<&'m [u8]>,
}

/// A TSIG record (RFC 8945), as far as its refusal repeats it.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) key: Name,
    /// The algorithm's name, the time and how far it may be off, in wire form.
    pub(super) head: Vec<u8>,
    pub(super) original_id: [u8; 2],
}

impl<'m> Request<'m> {
    /// `None` if the message deserves no reply: it is itself one (two servers
    /// could go on for ever), or too short to have an id.
    pub(super) fn read(message: &'m [u8]) -> Option<Self> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder).ok()?;
        if header.metadata.message_type == MessageType::Response {
            return None;
        }
        let mut request = Self {
            metadata: header.metadata,
            query: None,
            edns: None,
            signature: None,
            fault: None,
        };
        if header.metadata.op_code != OpCode::Query {
            request.fault = Some(ResponseCode::NotImp);
        } else if request.read_rest(&mut decoder, &header.counts).is_err() {
            request.fault = Some(ResponseCode::FormErr);
        }
        Some(request)
    }

    fn read_rest(
        &mut self,
        decoder: &mut BinDecoder<'m>,
        counts: &HeaderCounts,
    ) -> Result<(), Malformed> {
        if counts.queries > 1
            || counts.answers > 0
            || counts.authorities > 0
            || counts.additionals > MAX_ADDITIONALS
        {
            return Err(Malformed);
        }
        if counts.queries == 1 {
            self.query = Some(Query::read(decoder)?);
        }
        for _ in 0..counts.additionals {
            self.read_additional(decoder)?;
        }
        // Who only wants a cookie asks nothing (RFC 7873 §5.4).
        let cookie = self.edns.as_ref().and_then(|edns| edns.cookie);
        if self.query.is_none() && cookie.is_none() {
            return Err(Malformed);
        }
        Ok(())
    }

    fn read_additional(&mut self, decoder: &mut BinDecoder<'m>) -> Result<(), Malformed> {
        let name = Name::read(decoder)?;
        let kind = RecordType::from(read_u16(decoder)?);
        let class = read_u16(decoder)?;
        let [_, version, flags, _] = read_array(decoder)?;
        let len = read_u16(decoder)?;
        let data = read_slice(decoder, len.into())?;
        // Nothing may follow a signature (RFC 8945 §5.1).
        if self.signature.is_some() {
            return Err(Malformed);
        }
        match kind {
            RecordType::OPT if self.edns.is_some() || !name.is_root() => Err(Malformed),
            RecordType::OPT => {
                self.edns = Some(AskedEdns {
                    max_payload: class,
                    version,
                    dnssec_ok: flags & 0x80 != 0,
                    cookie: cookie(data)?,
                });
                Ok(())
            }
            RecordType::TSIG if class != u16::from(DNSClass::ANY) => Err(Malformed),
            RecordType::TSIG => {
                self.signature = Some(Signature::read(name, data)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Signature {
    fn read(key: Name, data: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = BinDecoder::new(data);
        Name::read(&mut decoder)?;
        read_slice(&mut decoder, 8)?;
        let head = data.get(..decoder.index()).ok_or(Malformed)?.to_vec();
        let len = read_u16(&mut decoder)?;
        read_slice(&mut decoder, len.into())?;
        let original_id = read_array(&mut decoder)?;
        read_slice(&mut decoder, 2)?;
        let len = read_u16(&mut decoder)?;
        read_slice(&mut decoder, len.into())?;
        if !decoder.is_empty() {
            return Err(Malformed);
        }
        Ok(Self {
            key,
            head,
            original_id,
        })
    }
}

/// The cookie among the options of an OPT record; the first one counts.
fn cookie(options: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut decoder = BinDecoder::new(options);
    let mut cookie = None;
    while !decoder.is_empty() {
        let code = read_u16(&mut decoder)?;
        let len = read_u16(&mut decoder)?;
        let data = read_slice(&mut decoder, len.into())?;
        if code == COOKIE && cookie.is_none() {
            cookie = Some(data);
        }
    }
    Ok(cookie)
}

/// The message does not hold what it says it does.
#[derive(Debug)]
struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

fn read_slice<'m>(decoder: &mut BinDecoder<'m>, len: usize) -> Result<&'m [u8], Malformed> {
    Ok(decoder.read_slice(len)?.unverified(/* its length was asked for */))
}

fn read_array<const N: usize>(decoder: &mut BinDecoder<'_>) -> Result<[u8; N], Malformed> {
    read_slice(decoder, N)?.try_into().map_err(|_| Malformed)
}

fn read_u16(decoder: &mut BinDecoder<'_>) -> Result<u16, Malformed> {
    Ok(u16::from_be_bytes(read_array(decoder)?))
}
