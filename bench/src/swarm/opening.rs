//! What a client says first, as bytes.

use clap::ValueEnum;
use lookaside_proto::frame;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::{BALANCE_LOAD_PATH, InitialLoadBalanceRequest, LoadBalanceRequest};

/// Whose HTTP/2 settings the clients have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// grpc-go, grpc-java, tonic: frames of 16 kB, windows of 1 MiB.
    Go,
    /// C-core (C++, Python, Ruby, PHP): frames and windows of 4 MiB.
    CCore,
}

/// HPACK: literal, not indexed and indexed, with a name of the static table.
const NOT_INDEXED: u8 = 0x00;
const INDEXED: u8 = 0x40;

impl Profile {
    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::CCore => "c-core",
        }
    }

    /// Bytes that may come before credit is given.
    pub(super) fn window(self) -> u32 {
        match self {
            Self::Go => 1 << 20,
            Self::CCore => 4 << 20,
        }
    }

    fn frame(self) -> u32 {
        match self {
            Self::Go => 1 << 14,
            Self::CCore => 4 << 20,
        }
    }
}

/// The connection preface: goes out before anything is known of the server.
pub(super) fn preface(profile: Profile) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [
        (2, 0), // ENABLE_PUSH
        (4, profile.window()),
        (5, profile.frame().min((1 << 24) - 1)),
    ];
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(u16::to_be_bytes(id));
        payload.extend(u32::to_be_bytes(value));
    }
    push_frame(&mut bytes, 4, 0, 0, &payload);
    bytes.extend(window_update(0, profile.window() - 65_535));
    bytes
}

/// The answer to the server's settings, and the call: as grpc-go and C-core do,
/// which wait for them.
pub(super) fn call(service: &str, authority: &str, header_table: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, 4, 1, 0, &[]);
    // A client that may index what it will send again does.
    let indexing = if header_table == 0 {
        (NOT_INDEXED, 4)
    } else {
        (INDEXED, 6)
    };
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    literal(&mut block, indexing, 4, BALANCE_LOAD_PATH); // :path
    literal(&mut block, indexing, 1, authority); // :authority
    literal(&mut block, indexing, 31, "application/grpc"); // content-type
    literal_name(&mut block, indexing, "te", "trailers");
    literal(&mut block, indexing, 58, "lookaside-bench/0.1"); // user-agent
    push_frame(&mut bytes, 1, 4, 1, &block);

    let request = LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
            InitialLoadBalanceRequest {
                name: service.to_owned(),
            },
        )),
    };
    push_frame(&mut bytes, 0, 0, 1, &frame::encode(&request));
    bytes
}

/// Credit for the connection and for its stream.
pub(super) fn credit(bytes: u32) -> Vec<u8> {
    [window_update(0, bytes), window_update(1, bytes)].concat()
}

/// The answer to a ping.
pub(super) fn pong(echo: [u8; 8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, 6, 1, 0, &echo);
    bytes
}

fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(&mut frame, 8, 0, stream, &bytes.to_be_bytes());
    frame
}

fn push_frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap_or_default();
    to.extend(&len.to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}

fn literal(to: &mut Vec<u8>, (kind, prefix): (u8, u32), name: u8, value: &str) {
    integer(to, kind, prefix, name);
    text(to, value);
}

fn literal_name(to: &mut Vec<u8>, (kind, _): (u8, u32), name: &str, value: &str) {
    to.push(kind);
    text(to, name);
    text(to, value);
}

/// Never Huffman-coded: C-core does not, and the decoder's scratch stays cold.
fn text(to: &mut Vec<u8>, text: &str) {
    integer(to, 0, 7, u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend(text.as_bytes());
}

/// RFC 7541, 5.1, for numbers that need at most one more byte.
fn integer(to: &mut Vec<u8>, kind: u8, prefix: u32, number: u8) {
    let most = (1u8 << prefix) - 1;
    if number < most {
        to.push(kind | number);
    } else {
        to.extend([kind | most, number - most]);
    }
}
