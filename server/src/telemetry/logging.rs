//! Logs go to stderr; stdout is for answers.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::filter::{self, BadLogFilter};
use super::stderr::LogWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` is `RUST_LOG` syntax; without one, `RUST_LOG`
/// counts, and without that `default`.
///
/// # Errors
/// If the filter is malformed, or has a word that would log nothing.
pub fn init(filter: Option<&str>, default: Level, format: LogFormat) -> Result<(), BadLogFilter> {
    // An empty variable is one that is not set.
    let from_env = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|value| !value.is_empty());
    let from_env = from_env.map(|value| value.to_string_lossy().into_owned());
    let filter = match (filter, from_env) {
        (Some(filter), _) => filter::parse("--log", filter)?,
        (None, Some(filter)) => filter::parse("RUST_LOG", &filter)?,
        (None, None) => EnvFilter::new(default_filter(default)),
    };
    let ansi = std::io::stderr().is_terminal();
    let writer = LogWriter::new(format, ansi);
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(ansi)
        // They would go to stderr, and panic where it takes nothing.
        .log_internal_errors(false);
    // A second start, as in tests, keeps the first.
    let _ = match format {
        LogFormat::Text => lines.with_target(false).finish().try_init(),
        LogFormat::Json => lines.json().finish().try_init(),
    };
    Ok(())
}

/// What is logged if nobody says what should be.
fn default_filter(level: Level) -> String {
    // The watcher of folders reports as news what we expect: that a folder it
    // watched is gone. And the client's channels warn of backends that cannot be
    // reached: health says so better, by service and backend.
    format!("{level},notify=error,lookaside_client=error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Lines;

    #[test]
    fn by_default_the_balancer_warns_and_its_own_channels_do_not() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt()
            .with_env_filter(EnvFilter::new(default_filter(Level::INFO)))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "lookaside_client::channel", "channel");
            let _entered = span.entered();
            tracing::warn!(target: "lookaside_client::control", "internals");
            tracing::error!(target: "lookaside_client::control", "broken");
            tracing::info!("news");
        });
        let lines = lines.text();
        assert!(!lines.contains("internals"), "{lines}");
        assert!(
            lines.contains("broken") && lines.contains("news"),
            "{lines}"
        );
    }
}
