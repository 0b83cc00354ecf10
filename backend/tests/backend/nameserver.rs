//! A name server with A records of a TTL of 1 s, which the test changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::ANY_PORT;

/// One that lives until the test's process ends.
pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    records: Arc<Mutex<Vec<(String, Ipv4Addr)>>>,
}

impl NameServer {
    /// It knows these names; others do not exist.
    pub(crate) fn start(records: &[(&str, &str)]) -> Self {
        let socket = std::net::UdpSocket::bind(ANY_PORT).unwrap();
        let server = Self {
            addr: socket.local_addr().unwrap(),
            records: Arc::default(),
        };
        server.set(records);
        let known = Arc::clone(&server.records);
        std::thread::spawn(move || {
            let mut query = [0; 1024];
            while let Ok((len, from)) = socket.recv_from(&mut query) {
                let reply = answer(&query[..len], &known.lock().unwrap());
                let _ = socket.send_to(&reply, from);
            }
        });
        server
    }

    /// From now on it knows these.
    pub(crate) fn set(&self, records: &[(&str, &str)]) {
        let record = |(name, ip): &(&str, &str)| ((*name).to_owned(), ip.parse().unwrap());
        *self.records.lock().unwrap() = records.iter().map(record).collect();
    }
}

/// RFC 1035, as far as a test needs it.
fn answer(query: &[u8], records: &[(String, Ipv4Addr)]) -> Vec<u8> {
    const A: u16 = 1;
    let (mut at, mut labels) = (12, vec![]);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let ips: Vec<_> = records.iter().filter(|(known, _)| *known == name).collect();
    let exists = records
        .iter()
        .any(|(known, _)| name == *known || name.ends_with(known));
    let found = if kind == A { &ips[..] } else { &[] };
    let code = if exists { 0 } else { 3 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0]);
    reply.extend(question);
    for (_, ip) in found {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(ip.octets());
    }
    reply
}
