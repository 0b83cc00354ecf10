//! Socket addresses as `grpc.lb.v1.Server` carries them: the IP as 4 or 16
//! bytes in network order, the port as an `int32`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::lb_v1::Server;

/// Why a [`Server`] entry names no address that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// The address has neither 4 nor 16 bytes.
    #[error("ip_address has {0} bytes; IPv4 takes 4 and IPv6 takes 16")]
    Length(usize),
    /// The port is not one.
    #[error("port {0} is outside 1 to 65535")]
    Port(i32),
}

/// The bytes of `ip` for `Server.ip_address`. An IPv4-mapped IPv6 address
/// becomes IPv4: clients disagree on whether the two are the same backend.
#[must_use]
pub fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address that a list entry names.
///
/// # Errors
/// [`BadAddress`] if the bytes are no IP address or the port is out of range:
/// what a peer sends is never trusted to be one.
pub fn socket_addr(server: &Server) -> Result<SocketAddr, BadAddress> {
    let bytes = server.ip_address.as_slice();
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::V4(Ipv4Addr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        IpAddr::V6(Ipv6Addr::from(v6)).to_canonical()
    } else {
        return Err(BadAddress::Length(bytes.len()));
    };
    match u16::try_from(server.port) {
        Ok(port) if port != 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(BadAddress::Port(server.port)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(ip: Vec<u8>, port: i32) -> Server {
        Server {
            ip_address: ip,
            port,
            ..Server::default()
        }
    }

    #[test]
    fn mapped_ipv6_is_the_ipv4_backend() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(ip_bytes(mapped), vec![10, 0, 0, 1]);
        let IpAddr::V6(v6) = mapped else { panic!() };
        let addr = socket_addr(&entry(v6.octets().to_vec(), 80)).unwrap();
        assert_eq!(addr, "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn bad_entries_say_what_is_wrong() {
        assert_eq!(
            socket_addr(&entry(vec![1, 2, 3], 80)),
            Err(BadAddress::Length(3))
        );
        for port in [0, -1, 65_536, i32::MIN] {
            let bad = socket_addr(&entry(vec![127, 0, 0, 1], port));
            assert_eq!(bad, Err(BadAddress::Port(port)));
        }
    }

    proptest! {
        #[test]
        fn every_address_survives_the_wire(ip: IpAddr, port in 1u16..) {
            let back = socket_addr(&entry(ip_bytes(ip), i32::from(port))).unwrap();
            prop_assert_eq!(back, SocketAddr::new(ip.to_canonical(), port));
        }
    }
}
