//! Any bytes as a DNS message: no panic, and no reply that is too long or
//! answers something else than it was asked.

#![no_main]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookaside_server::config::DnsConfig;
use lookaside_server::dns::{
    Asker, Cookies, MAX_UDP, Transport, View, Zone, ZoneService, ZoneSettings, answer, respond,
};
use lookaside_core::model::ServiceName;

/// Seconds since 1970.
const NOW: u32 = 1_700_000_000;

static COOKIES: LazyLock<Cookies> = LazyLock::new(|| Cookies::new(NOW).expect("randomness"));

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let config = DnsConfig {
        listen: "127.0.0.1:53".parse().expect("an address"),
        ttl: Duration::from_secs(5),
        target: None,
        service_config: true,
        responses_per_second: 200,
        tcp_connections: 1024,
    };
    let advertise: Vec<_> = (0..200)
        .map(|n| {
            format!("10.9.0.{n}:{}", 9000 + n % 2)
                .parse()
                .expect("an address")
        })
        .collect();
    let settings = ZoneSettings::new(&config, &advertise).expect("no target");
    let name = ServiceName::parse("a.b").expect("a name");
    let service = ZoneService {
        names: vec![name.clone()],
        name,
    };
    Zone::new(Arc::new(settings), [service])
});

fuzz_target!(|input: &[u8]| {
    let Some((transport, message)) = input.split_first() else {
        return;
    };
    let may_answer = transport & 2 == 0;
    let transport = match transport % 2 {
        0 => Transport::Udp,
        _ => Transport::Tcp,
    };
    let asker = Asker {
        transport,
        ip: [192, 0, 2, 1].into(),
        cookies: &COOKIES,
        now: NOW,
    };
    let backends: Vec<IpAddr> = (0..20u8).map(|n| [10, 0, 0, n].into()).collect();
    let reply = respond(
        message,
        &asker,
        || may_answer,
        |query| {
            let view = View {
                zone: Some(&ZONE),
                backends: Some(&backends),
                turn: message.len(),
            };
            answer(query, view, || 1)
        },
    );
    if let Some(reply) = reply {
        assert!(transport == Transport::Tcp || reply.bytes.len() <= usize::from(MAX_UDP));
        assert_eq!(reply.bytes[..2], message[..2]);
        assert!(reply.bytes[2] & 0x80 != 0);
        // A cookie is 16 bytes longer, and a name may point into the header.
        assert!(!reply.limited || reply.bytes.len() <= message.len() + 16 + 12);
    }
});
