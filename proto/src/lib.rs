//! What goes over the wire between a lookaside balancer, its clients and its
//! backends.
//!
//! | module | what it is |
//! |---|---|
//! | [`lb_v1`] | `grpc.lb.v1`: the messages of grpclb, with tonic's client and server |
//! | [`helloworld`] | the Greeter of gRPC's examples, which our demo and tests call |
//! | [`frame`] | gRPC's length-prefixed framing, for bytes that are encoded once and sent often |
//! | [`addr`] | socket addresses as `grpc.lb.v1` carries them |
//! | [`duration`] | `google.protobuf.Duration` without its traps |
//!
//! The generated code is checked in; `cargo run -p lookaside-proto --example
//! regenerate` rebuilds it from `proto/protos` and needs no protoc.

pub mod addr;
pub mod duration;
pub mod frame;

/// `grpc.lb.v1`: the protocol between a grpclb client and its balancer.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::or_fun_call,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod lb_v1 {
    include!("generated/grpc.lb.v1.rs");

    /// HTTP/2 path of `BalanceLoad`.
    pub const BALANCE_LOAD_PATH: &str = "/grpc.lb.v1.LoadBalancer/BalanceLoad";

    /// Metadata key under which a client sends the token of the picked entry.
    pub const LB_TOKEN_KEY: &str = "lb-token";
}

/// `helloworld.Greeter`, the service of gRPC's own examples.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::or_fun_call,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod helloworld {
    include!("generated/helloworld.rs");
}

/// Encoded `FileDescriptorSet` of every proto in this crate, for server
/// reflection.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
