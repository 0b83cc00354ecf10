//! The backends that the servers list: the same for all of them, so that the
//! lists have the same bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use lookaside_core::model::{BackendAddr, Token};
use lookaside_proto::addr::ip_bytes;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{InitialLoadBalanceResponse, LoadBalanceResponse, Server, ServerList};

/// The service that all clients ask for.
pub(crate) const SERVICE: &str = "bench.example.com";

/// Entries of the list that clients get when they connect: a small service,
/// before its `entries` backends come.
pub(crate) const AT_FIRST: usize = 3;

const PORT: u16 = 50_051;

/// The `entries` backends after `change` changes; before the first one there
/// are [`AT_FIRST`], if that is fewer. A change takes one backend
/// away and brings another, so that it is urgent and the list stays as long.
///
/// # Errors
/// Never for the addresses made here.
pub(crate) fn backends(entries: usize, change: u64) -> Result<Vec<BackendAddr>> {
    let entries = match change {
        0 => entries.min(AT_FIRST),
        _ => entries,
    };
    let newcomer = 0x0A80_0000 | u32::try_from(change % 0xFFFF)? << 1 | 1;
    let stays = (1..entries).map(|index| 0x0A00_0000 + index as u32);
    stays
        .chain([newcomer])
        .map(|ip| {
            let ip = IpAddr::V4(Ipv4Addr::from(ip));
            Ok(BackendAddr::new(SocketAddr::new(ip, PORT))?)
        })
        .collect()
}

/// The handshake of the servers that are compared with.
pub(crate) fn initial_response() -> LoadBalanceResponse {
    let interval = prost_types::Duration {
        seconds: 5,
        nanos: 0,
    };
    LoadBalanceResponse {
        load_balance_response_type: Some(LoadBalanceResponseType::InitialResponse(
            InitialLoadBalanceResponse {
                client_stats_report_interval: Some(interval),
            },
        )),
    }
}

/// The list of these backends, each once.
pub(crate) fn list_response(backends: &[BackendAddr]) -> LoadBalanceResponse {
    let servers = backends.iter().map(|backend| Server {
        ip_address: ip_bytes(backend.ip()),
        port: i32::from(backend.port()),
        load_balance_token: Token::of(*backend).as_str().to_owned(),
        drop: false,
    });
    LoadBalanceResponse {
        load_balance_response_type: Some(LoadBalanceResponseType::ServerList(ServerList {
            servers: servers.collect(),
        })),
    }
}
