//! Which bytes get which reply.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RecordType::TSIG};
use proptest::prelude::*;

use super::super::answer::{View, answer};
use super::super::cookies::Cookies;
use super::super::message::{Asker, Reply, Transport, respond};
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOW: u32 = 1_700_000_000;
const CLIENT: [u8; 8] = [7; 8];

static COOKIES: LazyLock<Cookies> = LazyLock::new(|| Cookies::new(NOW).unwrap());

/// Bytes of records for one backend per number, which is more than fits.
fn crowded() -> Zone {
    let advertise: Vec<String> = (0..=255u8).map(|n| format!("10.9.0.{n}:9000")).collect();
    let advertise: Vec<&str> = advertise.iter().map(String::as_str).collect();
    zone_of(&config(), &advertise, &[&["greeter.test"]])
}

fn reply(zone: &Zone, message: &[u8], transport: Transport) -> Option<Reply> {
    reply_if(zone, message, transport, true)
}

fn reply_if(zone: &Zone, message: &[u8], transport: Transport, may: bool) -> Option<Reply> {
    let asker = Asker {
        transport,
        ip: HERE,
        cookies: &COOKIES,
        now: NOW,
    };
    respond(
        message,
        &asker,
        || may,
        |query| {
            let view = View {
                zone: Some(zone),
                backends: Some(&[]),
                turn: 0,
            };
            answer(query, view, || 1)
        },
    )
}

/// A network that has had its share asks.
fn ask_limited(zone: &Zone, message: &Message) -> (Message, Reply) {
    let reply = reply_if(zone, &message.to_vec().unwrap(), Transport::Udp, false);
    let reply = reply.unwrap();
    (Message::from_vec(&reply.bytes).unwrap(), reply)
}

fn asking(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(query(name, kind));
    message
}

#[track_caller]
fn ask(zone: &Zone, message: &Message, transport: Transport) -> (Message, usize) {
    let reply = reply(zone, &message.to_vec().unwrap(), transport).unwrap();
    let parsed = Message::from_vec(&reply.bytes).unwrap();
    assert_eq!(parsed.metadata.id, message.metadata.id);
    assert_eq!(parsed.metadata.message_type, MessageType::Response);
    assert!(!parsed.metadata.recursion_available);
    (parsed, reply.bytes.len())
}

fn with_cookie(message: Message, cookie: &[u8]) -> Message {
    let mut message = with_edns(message, 1232, 0);
    let option = EdnsOption::Unknown(10, cookie.to_vec());
    let edns = message.edns.as_mut().unwrap();
    edns.options_mut().insert(option);
    message
}

fn cookie_of(message: &Message) -> Option<Vec<u8>> {
    match message.edns.as_ref()?.option(EdnsCode::Cookie)? {
        EdnsOption::Unknown(_, cookie) => Some(cookie.clone()),
        _ => None,
    }
}

/// A query that shows a cookie of ours, with its size.
fn known(message: Message, size: u16) -> Message {
    let mut message = with_cookie(message, &COOKIES.make(&CLIENT, HERE, NOW));
    message.edns.as_mut().unwrap().set_max_payload(size);
    message
}

fn with_edns(mut message: Message, size: u16, version: u8) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_version(version);
    edns.set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

#[test]
fn a_reply_carries_the_question_and_authority() {
    let zone = crowded();
    let mut message = asking("_GRPCLB._tcp.greeter.test.", RecordType::SRV);
    message.metadata.recursion_desired = true;
    let (reply, len) = ask(&zone, &message, Transport::Udp);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_desired);
    assert!(reply.queries[0].name().eq_case(message.queries[0].name()));
    assert_eq!(data(&reply.answers), ["lb.greeter.test.:9000"]);
    // The addresses do not fit; the answer stands without them.
    assert!(reply.additionals.is_empty() && !reply.metadata.truncation);
    assert!(len <= 512);
    let (reply, _) = ask(&zone, &message, Transport::Tcp);
    assert_eq!(reply.additionals.len(), 256);
}

#[test]
fn too_much_for_a_datagram_is_truncated_and_whole_over_tcp() {
    let zone = crowded();
    let message = asking("lb.greeter.test.", RecordType::A);
    let (reply, len) = ask(&zone, &message, Transport::Udp);
    assert!(reply.metadata.truncation && reply.answers.is_empty());
    assert!(len <= 512);
    let (reply, _) = ask(&zone, &message, Transport::Tcp);
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 256);
}

#[test]
fn the_limit_of_a_datagram_is_the_smaller_of_ours_and_the_clients() {
    let advertise: Vec<String> = (0..60).map(|n| format!("10.9.0.{n}:9000")).collect();
    let advertise: Vec<&str> = advertise.iter().map(String::as_str).collect();
    let zone = zone_of(&config(), &advertise, &[&["greeter.test"]]);
    let fits = |size: u16| {
        let message = known(asking("lb.greeter.test.", RecordType::A), size);
        let (reply, len) = ask(&zone, &message, Transport::Udp);
        assert!(len <= usize::from(size.clamp(512, 1232)), "{len} > {size}");
        assert_eq!(reply.edns.unwrap().max_payload(), 1232);
        !reply.metadata.truncation
    };
    // 60 addresses take 12 + 21 + 60 · 16 + 11 bytes, and the cookie 28.
    assert!(fits(1032) && fits(1232) && fits(65535));
    assert!(!fits(1031) && !fits(512) && !fits(0));
}

#[test]
fn who_may_be_elsewhere_gets_512_bytes_and_nothing_to_spare() {
    let advertise: Vec<String> = (0..60).map(|n| format!("10.9.0.{n}:9000")).collect();
    let advertise: Vec<&str> = advertise.iter().map(String::as_str).collect();
    let zone = zone_of(&config(), &advertise, &[&["greeter.test"]]);
    let addresses = with_edns(asking("lb.greeter.test.", RecordType::A), 4096, 0);
    let (reply, _) = ask(&zone, &addresses, Transport::Udp);
    assert!(reply.metadata.truncation && reply.answers.is_empty());

    let zone = zone_of(&config(), &["10.9.0.1:9000"], &[&["greeter.test"]]);
    let srv = asking("_grpclb._tcp.greeter.test.", RecordType::SRV);
    let (reply, _) = ask(&zone, &srv, Transport::Udp);
    assert_eq!((reply.answers.len(), reply.additionals.len()), (1, 0));
    for (message, transport) in [
        (srv.clone(), Transport::Tcp),
        (known(srv, 1232), Transport::Udp),
        // Without addresses the names of servers lead nowhere.
        (asking("greeter.test.", RecordType::NS), Transport::Udp),
    ] {
        let (reply, _) = ask(&zone, &message, transport);
        assert_eq!((reply.answers.len(), reply.additionals.len()), (1, 1));
    }
}

#[test]
fn a_cookie_comes_back_with_ours_and_ours_is_known() {
    let zone = crowded();
    let question = asking("greeter.test.", RecordType::SOA);
    assert_eq!(cookie_of(&ask(&zone, &question, Transport::Udp).0), None);
    for transport in [Transport::Udp, Transport::Tcp] {
        let first = with_cookie(question.clone(), &CLIENT);
        let (reply, _) = ask(&zone, &first, transport);
        assert_eq!(reply.answers.len(), 1);
        let cookie = cookie_of(&reply).unwrap();
        assert_eq!((cookie.len(), &cookie[..8]), (24, &CLIENT[..]));
        let second = with_cookie(question.clone(), &cookie);
        let (reply, counted) = ask_limited(&zone, &second);
        assert!(!counted.limited, "who shows it is not limited");
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(cookie_of(&reply), Some(cookie));
    }
    // Who only wants a cookie asks nothing.
    let mut none = with_cookie(question.clone(), &CLIENT);
    none.queries.clear();
    let (reply, _) = ask(&zone, &none, Transport::Udp);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.queries.is_empty() && cookie_of(&reply).is_some());
    for len in [0, 7, 9, 15, 41] {
        let malformed = with_cookie(question.clone(), &[1; 64][..len]);
        let (reply, _) = ask(&zone, &malformed, Transport::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{len}");
        assert_eq!(cookie_of(&reply), None);
    }
}

#[test]
fn a_network_that_had_its_share_is_sent_to_tcp_or_to_its_cookie() {
    let zone = crowded();
    let plain = asking("_grpclb._tcp.greeter.test.", RecordType::SRV);
    for message in [plain.clone(), with_edns(plain.clone(), 4096, 0)] {
        let (reply, counted) = ask_limited(&zone, &message);
        assert!(counted.limited && reply.metadata.truncation);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty() && reply.additionals.is_empty());
        assert_eq!(counted.bytes.len(), message.to_vec().unwrap().len());
    }
    let mut forged = COOKIES.make(&CLIENT, HERE, NOW);
    forged[23] ^= 1;
    for cookie in [&CLIENT[..], &forged] {
        let (reply, counted) = ask_limited(&zone, &with_cookie(plain.clone(), cookie));
        assert!(counted.limited && !reply.metadata.truncation);
        assert_eq!(counted.code, ResponseCode::BADCOOKIE);
        let code = u16::from(reply.metadata.response_code);
        assert_eq!(code, u16::from(ResponseCode::BADCOOKIE));
        let cookie = cookie_of(&reply).unwrap();
        let (_, counted) = ask_limited(&zone, &with_cookie(plain.clone(), &cookie));
        assert!(!counted.limited);
    }
    let tcp = reply_if(&zone, &plain.to_vec().unwrap(), Transport::Tcp, false);
    assert!(!tcp.unwrap().limited);
}

/// A TSIG record: the algorithm, time, fudge, MAC, id, error and other data.
fn signature(mac: &[u8], other: &[u8]) -> Record {
    let len = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    let data = [
        b"\x0bhmac-sha256\0",
        &[0, 0, 0x65, 0x53, 0xf1, 0, 1, 44][..],
        &len(mac),
        mac,
        &[0x12, 0x34, 0, 0],
        &len(other),
        other,
    ];
    let rdata = RData::Unknown {
        code: TSIG,
        rdata: NULL::with(data.concat()),
    };
    let mut record = Record::from_rdata(Name::from_ascii("key.test.").unwrap(), 0, rdata);
    record.dns_class = DNSClass::ANY;
    record
}

#[test]
fn a_signature_is_refused_as_one_of_an_unknown_key() {
    let zone = crowded();
    for edns in [false, true] {
        let mut message = asking("greeter.test.", RecordType::A);
        if edns {
            // hickory writes OPT last, where the signature has to be.
            let opt = with_edns(Message::query(), 1232, 0).edns.unwrap();
            message.add_additionals([Record::from(&opt)]);
        }
        message.add_additionals([signature(&[9; 32], &[])]);
        let asked = message.to_vec().unwrap();
        let reply = reply(&zone, &asked, Transport::Udp).unwrap();
        assert_eq!(reply.code, ResponseCode::NotAuth);
        // As asked, but that the MAC is gone and the error is BADKEY.
        assert_eq!(reply.bytes.len(), asked.len() - 32);
        assert!(reply.bytes.ends_with(&[
            0x65, 0x53, 0xf1, 0, 1, 44, // time and fudge
            0, 0, 0x12, 0x34, 0, 17, 0, 0,
        ]));
        assert_eq!(reply.bytes[3] & 15, 9, "NOTAUTH");
        assert_eq!(reply.bytes[11], 1 + u8::from(edns));
        let read = Message::from_vec(&reply.bytes).unwrap();
        assert!(read.answers.is_empty());
        assert_eq!(read.additionals.last().unwrap().record_type(), TSIG);
    }
}

#[test]
fn a_signature_that_is_none_is_an_error() {
    let zone = crowded();
    let code = |records: Vec<Record>| {
        let mut message = asking("greeter.test.", RecordType::A);
        message.add_additionals(records);
        let message = message.to_vec().unwrap();
        reply(&zone, &message, Transport::Udp).unwrap().code
    };
    assert_eq!(code(vec![signature(&[], b"x")]), ResponseCode::NotAuth);
    let mut class = signature(&[], &[]);
    class.dns_class = DNSClass::IN;
    let mut cut = signature(&[9; 32], &[]);
    cut.data = RData::Unknown {
        code: TSIG,
        rdata: NULL::with(vec![0; 12]),
    };
    // Nothing may follow it, not even another.
    let twice = vec![signature(&[], &[]), signature(&[], &[])];
    for records in [vec![class], vec![cut], twice] {
        assert_eq!(code(records), ResponseCode::FormErr);
    }
}

#[test]
fn options_that_are_cut_are_an_error() {
    let zone = crowded();
    let message = with_cookie(asking("greeter.test.", RecordType::A), &CLIENT);
    let mut bytes = message.to_vec().unwrap();
    let at = bytes.len() - 9;
    bytes[at] = 9;
    let reply = reply(&zone, &bytes, Transport::Udp).unwrap();
    assert_eq!(reply.code, ResponseCode::FormErr);
}

#[test]
fn edns_is_answered_in_kind() {
    let zone = crowded();
    let plain = asking("greeter.test.", RecordType::A);
    assert!(ask(&zone, &plain, Transport::Udp).0.edns.is_none());
    let (reply, _) = ask(&zone, &with_edns(plain.clone(), 4096, 0), Transport::Udp);
    let edns = reply.edns.unwrap();
    assert_eq!(edns.version(), 0);
    assert!(edns.flags().dnssec_ok);
    let (reply, _) = ask(&zone, &with_edns(plain, 4096, 1), Transport::Udp);
    // 16, which hickory reads as its other name, BADSIG.
    let (got, wanted) = (reply.metadata.response_code, ResponseCode::BADVERS);
    assert_eq!(u16::from(got), u16::from(wanted));
    assert!(reply.answers.is_empty() && reply.authorities.is_empty());
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[test]
fn only_queries_are_implemented() {
    let zone = crowded();
    for op_code in [
        OpCode::Status,
        OpCode::Notify,
        OpCode::Update,
        OpCode::Unknown(6),
    ] {
        let mut message = asking("greeter.test.", RecordType::SOA);
        message.metadata.op_code = op_code;
        let (reply, _) = ask(&zone, &message, Transport::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
        assert_eq!(reply.metadata.op_code, op_code);
    }
}

#[test]
fn a_query_has_one_question_and_no_answers() {
    let zone = crowded();
    let question = asking("greeter.test.", RecordType::A);
    let mut none = question.clone();
    none.queries.clear();
    let mut two = question.clone();
    two.add_query(query("greeter.test.", RecordType::AAAA));
    let mut answered = question.clone();
    let record = Record::from_rdata(Name::root(), 0, RData::A(Ipv4Addr::LOCALHOST.into()));
    answered.add_answer(record.clone());
    let mut crowd = question;
    crowd.add_additionals(vec![record; 3]);
    for message in [none, two, answered, crowd] {
        let (reply, _) = ask(&zone, &message, Transport::Tcp);
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn replies_are_never_replied_to() {
    let zone = crowded();
    let mut message = asking("greeter.test.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    let bytes = message.to_vec().unwrap();
    assert_eq!(reply(&zone, &bytes, Transport::Udp), None);
}

#[test]
fn a_query_cut_anywhere_is_an_error_or_dropped() {
    let zone = crowded();
    let message = with_edns(asking("greeter.test.", RecordType::A), 1232, 0);
    let bytes = message.to_vec().unwrap();
    for len in 0..bytes.len() {
        match reply(&zone, &bytes[..len], Transport::Udp) {
            None => assert!(len < 12, "{len} bytes have an id"),
            Some(reply) => assert_eq!(reply.code, ResponseCode::FormErr, "{len} bytes"),
        }
    }
}

#[test]
fn names_that_point_in_circles_are_an_error() {
    let zone = crowded();
    let header = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in [
        &[0xc0, 12][..],           // to itself
        &[1, b'a', 0xc0, 12][..],  // to its own beginning
        &[0xc0, 14, 0xc0, 12][..], // to each other
        &[0xc0, 0xff][..],         // out of the message
        &[0x80, 1][..],            // no such kind of label
        &[63, b'a'][..],           // longer than the message
    ] {
        let message = [&header[..], name, &[0, 1, 0, 1]].concat();
        let reply = reply(&zone, &message, Transport::Udp).unwrap();
        assert_eq!(reply.code, ResponseCode::FormErr, "{name:?}");
    }
}

/// What a client might send, bent: so that more of it is read than of noise.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let flips = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (flips, any::<bool>()).prop_map(|(flips, edns)| {
        let mut message = asking("_grpclb._tcp.greeter.test.", RecordType::SRV);
        if edns {
            message = with_edns(message, 1232, 0);
        }
        let mut bytes = message.to_vec().unwrap();
        for (index, byte) in flips {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_reply_is_too_long(
        bytes in prop_oneof![bent(), proptest::collection::vec(any::<u8>(), 0..600)],
        tcp: bool,
        may: bool,
    ) {
        let zone = crowded();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Some(reply) = reply_if(&zone, &bytes, transport, may) {
            prop_assert!(tcp || reply.bytes.len() <= 1232);
            // A cookie is 16 bytes longer, and a name may point into the header.
            prop_assert!(!reply.limited || reply.bytes.len() <= bytes.len() + 16 + 12);
            prop_assert_eq!(&reply.bytes[..2], &bytes[..2]);
            prop_assert!(Message::from_vec(&reply.bytes).is_ok());
        }
    }
}
