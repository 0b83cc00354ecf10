//! The demo's configuration: one service of three backends, and their weights.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Its name.
pub(super) const SERVICE: &str = "greeter.lookaside.test";

/// Weights at first.
pub(super) const WEIGHTS: [f64; 3] = [5.0, 3.0, 1.0];

/// What the first backend's weight becomes half-way.
pub(super) const NEW_WEIGHT: f64 = 1.0;

/// The weights after the demo's own change.
pub(super) fn changed_weights() -> [f64; 3] {
    let [_, second, third] = WEIGHTS;
    [NEW_WEIGHT, second, third]
}

/// The file's text, for backends at these addresses.
pub(super) fn configuration(backends: &[SocketAddr]) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        r#"# The demo's configuration. Edit it while the demo runs.
[balancer]
listen = "127.0.0.1:0"
shutdown = "100ms"

[admin]
listen = "127.0.0.1:0"

[dns]
listen = "127.0.0.1:0"

[[service]]
name = "{SERVICE}"
backends = [
"#
    );
    for (backend, weight) in backends.iter().zip(WEIGHTS) {
        writeln!(text, "  {{ address = \"{backend}\", weight = {weight} }},")?;
    }
    text.push_str("]\n");
    Ok(text)
}
