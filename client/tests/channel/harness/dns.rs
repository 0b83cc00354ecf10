//! A DNS server over UDP and TCP that answers from a table, lies, or stays
//! silent.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Process;

/// What fits into a datagram; more needs TCP.
const LONGEST_DATAGRAM: usize = 1232;
/// CNAMEs that an answer follows.
const ALIASES: usize = 4;

pub(crate) struct DnsServer {
    pub(crate) addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _process: Process,
}

/// What the server does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Silence,
    /// It refuses.
    Refusal,
    /// It has failed.
    ServerFailure,
    /// It sends what is no DNS message.
    Garbage,
    /// It says that the answer is too long, also over TCP.
    Truncation,
    /// It says that there is no such name, whatever the table has.
    NoSuchName,
    /// It answers for another name than the one it was asked for.
    OtherName,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, RecordType), Vec<RData>>,
    /// By type, and by name if it is for one only.
    faults: HashMap<(Option<String>, RecordType), Fault>,
    asked: Vec<(String, RecordType)>,
    over_tcp: usize,
}

impl DnsServer {
    pub(crate) async fn start() -> Self {
        let process = Process::new();
        let zone = Arc::<Mutex<Zone>>::default();
        let (bound, addr) = tokio::sync::oneshot::channel();
        let (udp_zone, tcp_zone) = (Arc::clone(&zone), Arc::clone(&zone));
        process.spawn(async move {
            let (udp, tcp) = bind().await;
            bound.send(udp.local_addr().unwrap()).unwrap();
            tokio::join!(serve_udp(udp, udp_zone), serve_tcp(tcp, tcp_zone));
        });
        Self {
            addr: addr.await.unwrap(),
            zone,
            _process: process,
        }
    }

    pub(crate) fn ip(&self, name: &str, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.add(name, RecordType::A, RData::A(ip.into())),
            IpAddr::V6(ip) => self.add(name, RecordType::AAAA, RData::AAAA(ip.into())),
        }
    }

    pub(crate) fn srv(&self, name: &str, port: u16, target: &str) {
        self.srv_with_priority(name, 0, port, target);
    }

    pub(crate) fn srv_with_priority(&self, name: &str, priority: u16, port: u16, target: &str) {
        let labels = target.split('.').filter(|label| !label.is_empty());
        let target = Name::from_labels(labels.map(str::as_bytes)).unwrap();
        let srv = SRV::new(priority, 0, port, target);
        self.add(name, RecordType::SRV, RData::SRV(srv));
    }

    /// One TXT record, of several strings if it is long.
    pub(crate) fn txt(&self, name: &str, text: &str) {
        let strings = text.as_bytes().chunks(255);
        let strings = strings.map(|part| String::from_utf8(part.to_vec()).unwrap());
        let txt = TXT::new(strings.collect());
        self.add(name, RecordType::TXT, RData::TXT(txt));
    }

    /// Makes `name` an alias of `target`.
    pub(crate) fn cname(&self, name: &str, target: &str) {
        let target = Name::from_ascii(target).unwrap();
        self.add(name, RecordType::CNAME, RData::CNAME(CNAME(target)));
    }

    /// Answers queries of this type wrongly from now on, or no longer.
    pub(crate) fn fault(&self, kind: RecordType, fault: impl Into<Option<Fault>>) {
        let faults = &mut self.zone.lock().unwrap().faults;
        match fault.into() {
            Some(fault) => faults.insert((None, kind), fault),
            None => faults.remove(&(None, kind)),
        };
    }

    /// Answers queries of this type for this name wrongly from now on.
    pub(crate) fn fault_of(&self, name: &str, kind: RecordType, fault: Fault) {
        let key = (Some(name.to_owned()), kind);
        self.zone.lock().unwrap().faults.insert(key, fault);
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        self.zone.lock().unwrap().asked.clone()
    }

    /// How many of the questions came by TCP.
    pub(crate) fn asked_over_tcp(&self) -> usize {
        self.zone.lock().unwrap().over_tcp
    }

    fn add(&self, name: &str, kind: RecordType, data: RData) {
        let key = (name.to_owned(), kind);
        let mut zone = self.zone.lock().unwrap();
        zone.records.entry(key).or_default().push(data);
    }
}

/// A port that is free for both.
async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        let reply = zone.lock().unwrap().answer(&buffer[..len], false);
        if let Some(reply) = reply {
            socket.send_to(&reply, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let zone = Arc::clone(&zone);
        tokio::spawn(async move {
            // Ends with the client's connection.
            let _ = serve_connection(socket, &zone).await;
        });
    }
}

async fn serve_connection(mut socket: TcpStream, zone: &Mutex<Zone>) -> std::io::Result<()> {
    loop {
        let len = socket.read_u16().await?;
        let mut query = vec![0; len.into()];
        socket.read_exact(&mut query).await?;
        let reply = zone.lock().unwrap().answer(&query, true);
        if let Some(reply) = reply {
            socket.write_u16(reply.len().try_into().unwrap()).await?;
            socket.write_all(&reply).await?;
        }
    }
}

impl Zone {
    fn answer(&mut self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries.first()?.clone();
        // It escapes a leading hyphen.
        let name = question.name().to_ascii().replace("\\-", "-");
        let name = name.trim_end_matches('.').to_lowercase();
        let kind = question.query_type();
        self.asked.push((name.clone(), kind));
        self.over_tcp += usize::from(tcp);
        let of_name = self.faults.get(&(Some(name.clone()), kind));
        let fault = of_name.or_else(|| self.faults.get(&(None, kind))).copied();
        let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
        reply.metadata.authoritative = true;
        reply.add_query(question.clone());
        let known = self.records.keys().any(|(known, _)| *known == name);
        reply.metadata.response_code = match fault {
            Some(Fault::Silence) => return None,
            Some(Fault::Garbage) => return Some(vec![0xff; 60]),
            Some(Fault::Refusal) => ResponseCode::Refused,
            Some(Fault::ServerFailure) => ResponseCode::ServFail,
            Some(Fault::NoSuchName) => ResponseCode::NXDomain,
            _ if known => ResponseCode::NoError,
            _ => ResponseCode::NXDomain,
        };
        if matches!(fault, None | Some(Fault::OtherName)) {
            let owner = match fault {
                None => question.name().clone(),
                Some(_) => Name::from_ascii("other.test.").unwrap(),
            };
            self.fill(&mut reply, owner, &name, kind);
        }
        let bytes = reply.to_vec().unwrap();
        let too_long = !tcp && bytes.len() > LONGEST_DATAGRAM;
        if !too_long && fault != Some(Fault::Truncation) {
            return Some(bytes);
        }
        reply.metadata.truncation = true;
        reply.answers.clear();
        Some(reply.to_vec().unwrap())
    }

    fn fill(&self, reply: &mut Message, mut owner: Name, name: &str, kind: RecordType) {
        let mut name = name.to_owned();
        for _ in 0..ALIASES {
            for data in self
                .records
                .get(&(name.clone(), kind))
                .into_iter()
                .flatten()
            {
                reply.add_answer(Record::from_rdata(owner.clone(), 5, data.clone()));
            }
            let alias = self.records.get(&(name, RecordType::CNAME));
            let Some([RData::CNAME(target), ..]) = alias.map(Vec::as_slice) else {
                return;
            };
            if kind == RecordType::CNAME {
                return;
            }
            let data = RData::CNAME(target.clone());
            reply.add_answer(Record::from_rdata(owner, 5, data));
            owner = target.0.clone();
            name = owner.to_ascii().trim_end_matches('.').to_lowercase();
        }
    }
}
