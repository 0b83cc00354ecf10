//! Logs go to stderr; stdout is for answers.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is no log filter ({reason}); write a level, as info, or targets, as lookaside_server=debug,h2=warn"
)]
pub struct BadLogFilter {
    filter: String,
    reason: String,
}

/// Starts logging. `filter` is `RUST_LOG` syntax; without one, `RUST_LOG`
/// counts, and without that `default`.
///
/// # Errors
/// If the filter is malformed.
pub fn init(filter: Option<&str>, default: Level, format: LogFormat) -> Result<(), BadLogFilter> {
    let from_env = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let default = default_filter(default);
    let filter = filter.or(from_env.as_deref()).unwrap_or(&default);
    let filter = EnvFilter::try_new(filter).map_err(|error| BadLogFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let ansi = std::io::stderr().is_terminal();
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
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
