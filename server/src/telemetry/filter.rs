//! What to log, as `--log` and `RUST_LOG` say it.

use tracing_subscriber::EnvFilter;

/// Words that are levels; numbers from 0 to 5 are, too.
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// What logs in this program: crates, of which each module is a target.
const TARGETS: &[&str] = &[
    "lookaside",
    "lookaside_server",
    "lookaside_client",
    "lookaside_backend",
    "lookaside_proto",
    "axum",
    "h2",
    "hickory_proto",
    "hyper",
    "hyper_util",
    "mio",
    "notify",
    "quinn_udp",
    "rustls",
    "tokio",
    "tokio_util",
    "tonic",
    "tonic_reflection",
    "tower",
];

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "{from} `{filter}` is not a valid log filter: {reason}; write a level (off, error, warn, info, debug or trace) or target=level, separated by commas, e.g. info,lookaside_server::health=debug,h2=warn"
)]
pub struct BadLogFilter {
    /// Who gave it.
    from: &'static str,
    filter: String,
    reason: String,
}

/// Reads a filter that came from `from`, as `--log`.
pub(super) fn parse(from: &'static str, filter: &str) -> Result<EnvFilter, BadLogFilter> {
    let bad = |reason: String| BadLogFilter {
        from,
        filter: filter.to_owned(),
        reason,
    };
    // Words are separated as EnvFilter separates them.
    let words = filter.split(',').map(str::trim);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(bad("it is empty".to_owned()));
    }
    // EnvFilter takes any word for a target of all levels, and then logs nothing.
    if let Some(word) = words.iter().find(|word| !is_directive(word)) {
        return Err(bad(format!(
            "`{word}` is neither a level nor a target of this program"
        )));
    }
    EnvFilter::try_new(words.join(",")).map_err(|error| bad(error.to_string()))
}

/// Whether a word is a level, a known target, or says by its form that it is more.
fn is_directive(word: &str) -> bool {
    // Levels after `=`, and spans in brackets, are judged by EnvFilter. Of targets with
    // a level every one is taken: RUST_LOG may be shared with other programs.
    if word.contains(['=', '[']) {
        return true;
    }
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_number = matches!(word, "0" | "1" | "2" | "3" | "4" | "5");
    let target = word.split("::").next().unwrap_or(word);
    is_level || is_number || TARGETS.contains(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_neither_a_level_nor_a_target_is_refused_with_what_would_be_right() {
        for bad in ["inof", "info,inof", "inof,h2=warn", "", ",", "6", "h2=inof"] {
            let error = parse("--log", bad).unwrap_err().to_string();
            assert!(error.contains("--log"), "{error}");
            assert!(error.contains("info, debug or trace"), "{error}");
            assert!(error.contains("e.g. info,lookaside_server"), "{error}");
        }
        let error = parse("RUST_LOG", "info,inof").unwrap_err().to_string();
        assert!(error.contains("`inof` is neither"), "{error}");
    }

    #[test]
    fn levels_targets_and_spans_are_filters() {
        for good in [
            "info",
            "INFO",
            "2",
            "off",
            "h2",
            "info, h2=warn",
            "lookaside=debug",
            "lookaside_server::health",
            "info,other_program=debug",
            "[channel{service=a}]=trace",
        ] {
            assert!(parse("--log", good).is_ok(), "{good}");
        }
    }
}
