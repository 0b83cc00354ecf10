//! A DNS server over UDP that answers from a table, or not at all.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::Process;

pub(crate) struct DnsServer {
    pub(crate) addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _process: Process,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, RecordType), Vec<RData>>,
    silent: Vec<RecordType>,
    refused: Vec<RecordType>,
    asked: Vec<(String, RecordType)>,
}

impl DnsServer {
    pub(crate) async fn start() -> Self {
        let process = Process::new();
        let zone = Arc::<Mutex<Zone>>::default();
        let answers = Arc::clone(&zone);
        let (bound, addr) = tokio::sync::oneshot::channel();
        process.spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            bound.send(socket.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 4096];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..len]).unwrap();
                let reply = answers.lock().unwrap().answer(&query);
                if let Some(reply) = reply {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self {
            addr: addr.await.unwrap(),
            zone,
            _process: process,
        }
    }

    pub(crate) fn ip(&self, name: &str, ip: IpAddr) {
        let IpAddr::V4(ip) = ip else {
            panic!("IPv4 will do")
        };
        self.add(name, RecordType::A, RData::A(ip.into()));
    }

    pub(crate) fn srv(&self, name: &str, port: u16, target: &str) {
        let target = Name::from_ascii(target).unwrap();
        self.add(
            name,
            RecordType::SRV,
            RData::SRV(SRV::new(0, 0, port, target)),
        );
    }

    /// Leaves queries of this type without an answer.
    pub(crate) fn silence(&self, kind: RecordType) {
        self.zone.lock().unwrap().silent.push(kind);
    }

    /// Refuses queries of this type, or does so no longer.
    pub(crate) fn refuse(&self, kind: RecordType, refuse: bool) {
        let refused = &mut self.zone.lock().unwrap().refused;
        refused.retain(|known| *known != kind);
        refused.extend(refuse.then_some(kind));
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        self.zone.lock().unwrap().asked.clone()
    }

    fn add(&self, name: &str, kind: RecordType, data: RData) {
        let key = (name.to_owned(), kind);
        let mut zone = self.zone.lock().unwrap();
        zone.records.entry(key).or_default().push(data);
    }
}

impl Zone {
    fn answer(&mut self, query: &Message) -> Option<Vec<u8>> {
        let question = query.queries.first()?.clone();
        let name = question.name().to_ascii();
        let name = name.trim_end_matches('.').to_lowercase();
        let kind = question.query_type();
        self.asked.push((name.clone(), kind));
        if self.silent.contains(&kind) {
            return None;
        }
        let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
        reply.metadata.authoritative = true;
        if self.refused.contains(&kind) {
            reply.metadata.response_code = ResponseCode::Refused;
            reply.add_query(question);
            return Some(reply.to_vec().unwrap());
        }
        reply.metadata.response_code = if self.records.keys().any(|(known, _)| *known == name) {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        for data in self.records.get(&(name, kind)).into_iter().flatten() {
            let owner = question.name().clone();
            reply.add_answer(Record::from_rdata(owner, 5, data.clone()));
        }
        reply.add_query(question);
        Some(reply.to_vec().unwrap())
    }
}
