//! What goes over the wire between a lookaside balancer, its clients and its
//! backends.
//!
//! | module | what it is |
//! |---|---|
//! | [`lb_v1`] | `grpc.lb.v1`: the messages of grpclb, with tonic's client and server |
//! | [`registration_v1`] | `lookaside.v1`: how a backend registers with a balancer |
//! | [`orca_v3`], [`orca_service_v3`] | `xds.data.orca.v3` and `xds.service.orca.v3`: how a backend reports its load |
//! | [`health_v1`] | `grpc.health.v1`: how a server says that it serves |
//! | [`bsm_v1`] | `grpclb.backend.v1`: how backends of bsm/grpclb do; not on docs.rs |
//! | [`helloworld`] | the Greeter of gRPC's examples, which our demo and tests call; not on docs.rs |
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

/// `grpc.health.v1`: how a server says that it serves, with `List`.
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
pub mod health_v1 {
    include!("generated/grpc.health.v1.rs");
}

/// `grpclb.backend.v1`: the load reports of backends that were made for
/// bsm/grpclb.
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
#[cfg_attr(docsrs, doc(hidden))]
pub mod bsm_v1 {
    include!("generated/grpclb.backend.v1.rs");
}

// Generated code of one package finds another's by their paths, so these have
// the modules of their packages.
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
mod packages {
    pub mod lookaside {
        pub mod v1 {
            include!("generated/lookaside.v1.rs");
        }
    }
    pub mod xds {
        pub mod data {
            pub mod orca {
                pub mod v3 {
                    include!("generated/xds.data.orca.v3.rs");

                    /// Metadata key under which a call's trailers carry an
                    /// encoded [`OrcaLoadReport`].
                    pub const ENDPOINT_LOAD_METRICS_KEY: &str = "endpoint-load-metrics-bin";
                }
            }
        }
        pub mod service {
            pub mod orca {
                pub mod v3 {
                    include!("generated/xds.service.orca.v3.rs");
                }
            }
        }
    }
}

/// `lookaside.v1`: the protocol between a backend and a lookaside balancer.
pub use packages::lookaside::v1 as registration_v1;
/// `xds.data.orca.v3`: ORCA's load report.
pub use packages::xds::data::orca::v3 as orca_v3;
/// `xds.service.orca.v3`: ORCA's reports out of band.
pub use packages::xds::service::orca::v3 as orca_service_v3;

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
#[cfg_attr(docsrs, doc(hidden))]
pub mod helloworld {
    include!("generated/helloworld.rs");
}

/// Encoded `FileDescriptorSet` of every proto in this crate, for server
/// reflection.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
