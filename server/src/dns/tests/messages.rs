//! Which bytes get which reply.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use proptest::prelude::*;

use super::super::answer::{View, answer};
use super::super::message::{Reply, Transport, respond};
use super::*;

/// Bytes of records for one backend per number, which is more than fits.
fn crowded() -> Zone {
    let advertise: Vec<String> = (0..=255u8).map(|n| format!("10.9.0.{n}:9000")).collect();
    let advertise: Vec<&str> = advertise.iter().map(String::as_str).collect();
    zone_of(&config(), &advertise, &[&["greeter.test"]])
}

fn reply(zone: &Zone, message: &[u8], transport: Transport) -> Option<Reply> {
    respond(message, transport, |query| {
        let view = View {
            zone: Some(zone),
            backends: Some(&[]),
            turn: 0,
        };
        answer(query, view, || 1)
    })
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
        let message = with_edns(asking("lb.greeter.test.", RecordType::A), size, 0);
        let (reply, len) = ask(&zone, &message, Transport::Udp);
        assert!(len <= usize::from(size.clamp(512, 1232)), "{len} > {size}");
        assert_eq!(reply.edns.unwrap().max_payload(), 1232);
        !reply.metadata.truncation
    };
    // 60 addresses take 12 + 21 + 60 · 16 + 11 bytes.
    assert!(fits(1004) && fits(1232) && fits(65535));
    assert!(!fits(1003) && !fits(512) && !fits(0));
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
    ) {
        let zone = crowded();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Some(reply) = reply(&zone, &bytes, transport) {
            prop_assert!(tcp || reply.bytes.len() <= 1232);
            prop_assert_eq!(&reply.bytes[..2], &bytes[..2]);
            prop_assert!(Message::from_vec(&reply.bytes).is_ok());
        }
    }
}
