//! How to join the demo with a client of one's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The lines that a user of another language needs, to be run from the repository's
/// root; at most 80 characters wide, so that they fit under the table.
pub(super) fn instructions(
    service: &str,
    balancer: SocketAddr,
    dns: SocketAddr,
    config: &Path,
    lookaside: &Path,
) -> String {
    let port = 50051;
    // Built the same way, it finds what is built already.
    let profile = match cfg!(debug_assertions) {
        true => "",
        false => "--release ",
    };
    format!(
        r#"Join with your own client: dns://{dns}/{service}:{port}
  Python  python3 -m venv .venv
          .venv/bin/pip install -q -r examples/python/requirements.txt
          .venv/bin/python examples/python/client.py --dns {dns} \
            {service}
  Go      cd examples/go && go run . -dns {dns} {service}
  Java    cd examples/java && mvn -q compile exec:java \
            -Dexec.args="--balancer {balancer} {service}"
  Rust    cargo run {profile}-p lookaside-examples --bin client_lookaside -- \
            --dns {dns} {service}:{port}
Edit weights, and follow the lists:
  {lookaside} weight {service} ADDRESS WEIGHT \
    --config {config}
  {lookaside} watch {service} \
    --balancer {balancer}"#,
        config = config.display(),
        lookaside = lookaside.display()
    )
}

/// The binary as it was run, for it may not be on the `PATH`: from here, if it is
/// below the current folder.
pub(super) fn this_binary() -> PathBuf {
    let binary = std::env::current_exe().unwrap_or_else(|_| "lookaside".into());
    let here = std::env::current_dir().unwrap_or_default();
    let below = binary.strip_prefix(here).map(Path::to_owned);
    below.unwrap_or(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_fit_under_the_table_of_a_small_terminal() {
        let (balancer, dns) = ("127.0.0.1:54321", "127.0.0.1:54322");
        let config = Path::new("/tmp/.tmpAbCdEf/lookaside.toml");
        let text = instructions(
            "greeter.lookaside.test",
            balancer.parse().unwrap(),
            dns.parse().unwrap(),
            config,
            Path::new("target/release/lookaside"),
        );
        let lines = text.lines().map(|line| line.len().div_ceil(80));
        // 24, without the table (6), where everything listens (2) and the cursor.
        assert!(lines.sum::<usize>() <= 15, "{text}");
    }
}
