//! `lookaside`, the balancer's binary. The library has everything else.

use std::process::ExitCode;

/// glibc's allocator, and jemalloc with its defaults, drift to twice the memory
/// after a mass reconnect.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads when it starts: few arenas, no huge pages, and dirty pages
/// given back within a second, so that a balancer that lost and regained all its
/// streams is as small as before. `_RJEM_MALLOC_CONF` in the environment overrides it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "jemalloc finds its settings by the name of a symbol"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"cache_oblivious:false,narenas:2,lg_extent_max_active_fit:0,\
    dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never\0";

fn main() -> ExitCode {
    lookaside_server::cli::main()
}
