//! How to join the demo with a client of one's own.

use std::net::SocketAddr;
use std::path::Path;

/// The lines that a user of another language needs.
pub(super) fn instructions(
    service: &str,
    balancer: SocketAddr,
    dns: SocketAddr,
    config: &Path,
) -> String {
    let port = 50051;
    // As it was run: it may not be on the PATH.
    let lookaside = std::env::current_exe();
    let lookaside = lookaside.unwrap_or_else(|_| "lookaside".into());
    // Built the same way, it finds what is built already.
    let profile = match cfg!(debug_assertions) {
        true => "",
        false => "--release ",
    };
    format!(
        r#"Join in with a client of your own (whole programs: examples/):
  Python  pip install grpcio; examples/python/client.py --dns {dns} {service}
            channel = grpc.insecure_channel("dns://{dns}/{service}:{port}", options=[
                ("grpc.dns_enable_srv_queries", 1),
                ("grpc.service_config", '{{"loadBalancingConfig":[{{"grpclb":{{}}}}]}}')])
  Go      in examples/go: go run . -dns {dns} {service}
            import _ "google.golang.org/grpc/balancer/grpclb"
            conn, err := grpc.NewClient("dns://{dns}/{service}:{port}", creds)
  Java    io.grpc:grpc-grpclb on the classpath; grpc-java cannot be told a DNS server, so in examples/java
            mvn -q compile exec:java -Dexec.args="--balancer {balancer} {service}"
  Rust    cargo run {profile}-p lookaside-examples --bin client_lookaside -- --dns {dns} {service}:{port}
            let channel = lookaside_client::Channel::builder("dns://{dns}/{service}:{port}").connect().await?;
Edit weights yourself:  {lookaside} weight {service} ADDRESS WEIGHT --config {config}
Follow the lists:       {lookaside} watch {service} --balancer {balancer}
"#,
        config = config.display(),
        lookaside = lookaside.display()
    )
}
