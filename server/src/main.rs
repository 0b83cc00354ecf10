//! `lookaside`, the balancer's binary. The library has everything else.

use std::process::ExitCode;

/// glibc's allocator, and jemalloc as it comes, drift to twice the memory
/// after a mass reconnect; `.cargo/config.toml` tunes this one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lookaside_server::cli::main()
}
