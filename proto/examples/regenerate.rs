//! Rebuilds the checked-in code of `proto/src/generated` from `proto/protos`,
//! without protoc: `cargo run -p lookaside-proto --example regenerate`.

use std::error::Error;
use std::fs;
use std::path::Path;

use prost::Message as _;

/// Every proto that has generated code, relative to `proto/protos`.
const PROTOS: &[&str] = &[
    "grpc/health/v1/health.proto",
    "grpc/lb/v1/load_balancer.proto",
    "grpclb/backend/v1/backend.proto",
    "helloworld/helloworld.proto",
    "lookaside/v1/registration.proto",
    "xds/data/orca/v3/orca_load_report.proto",
    "xds/service/orca/v3/orca.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("src/generated");
    fs::create_dir_all(&out)?;

    let mut compiler = protox::Compiler::new([root.join("protos")])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(PROTOS)?;
    let descriptors = compiler.file_descriptor_set();

    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .build_transport(false)
        .out_dir(&out)
        .compile_fds(descriptors)?;

    // Reflection has no use for comments, so its copy goes without.
    let mut compiler = protox::Compiler::new([root.join("protos")])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(PROTOS)?;
    fs::write(
        out.join("descriptors.bin"),
        compiler.file_descriptor_set().encode_to_vec(),
    )?;
    Ok(())
}
