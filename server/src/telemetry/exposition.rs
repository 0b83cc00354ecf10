//! The two formats of a page of metrics, and which of them a reader asks for.

use std::fmt::Write as _;

/// How a page of metrics is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Exposition {
    /// Prometheus' text format, version 0.0.4, which every reader knows.
    #[default]
    Text,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The one that an `Accept` header asks for. OpenMetrics must be asked for by
    /// name, and not less than plain text.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0f32, 0.0f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let (mut quality, mut known) = (1.0, true);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", q)) => quality = q.trim().parse().unwrap_or(0.0),
                    Some(("version", v)) => {
                        known = matches!(v.trim().trim_matches('"'), "0.0.1" | "1.0.0" | "0.0.4");
                    }
                    _ => {}
                }
            }
            if media_type.eq_ignore_ascii_case("application/openmetrics-text") && known {
                open_metrics = open_metrics.max(quality);
            } else if media_type.eq_ignore_ascii_case("text/plain") {
                text = text.max(quality);
            }
        }
        if open_metrics > 0.0 && open_metrics >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Its `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page in OpenMetrics text as one in Prometheus' text format. There a family is
/// called as its samples are, `…_total` of a counter and `…_info` of an info; the
/// other types, units and the mark of the end are not known. Of exemplars we have none.
#[must_use]
pub(super) fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            let _ = writeln!(text, "{line}");
            continue;
        };
        match comment.split_once(' ') {
            Some(("HELP", rest)) => help = rest.split_once(' '),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "gauge" | "stateset" => ("", "gauge"),
                    "histogram" | "summary" => ("", kind),
                    _ => ("", "untyped"),
                };
                if let Some((_, help)) = help.take_if(|(of, _)| *of == name) {
                    // Here a quote is not escaped.
                    let help = help.replace("\\\"", "\"");
                    let _ = writeln!(text, "# HELP {name}{suffix} {help}");
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_nothing_or_anything_gets_text() {
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.6",
            "nonsense;;=,",
        ] {
            assert_eq!(Exposition::negotiate(accept), Exposition::Text, "{accept}");
        }
    }

    #[test]
    fn prometheus_gets_open_metrics_if_it_prefers_it() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=0.0.1",
            "application/openmetrics-text;version=\"1.0.0\", text/plain",
            // Prometheus 2.53 and 3.0.
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
             version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
             escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            let asked = Exposition::negotiate(accept);
            assert_eq!(asked, Exposition::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn text_names_families_as_their_samples() {
        let open_metrics = "\
# HELP a_calls Calls that \\\"began\\\".
# TYPE a_calls counter
a_calls_total{service=\" # {x\"} 3
# HELP a_build Version.
# TYPE a_build info
a_build_info{version=\"1\"} 1
# HELP a_time_seconds Time.
# TYPE a_time_seconds gauge
# UNIT a_time_seconds seconds
a_time_seconds 0.5
# TYPE a_thing unknown
a_thing 1
# EOF
";
        let text = "\
# HELP a_calls_total Calls that \"began\".
# TYPE a_calls_total counter
a_calls_total{service=\" # {x\"} 3
# HELP a_build_info Version.
# TYPE a_build_info gauge
a_build_info{version=\"1\"} 1
# HELP a_time_seconds Time.
# TYPE a_time_seconds gauge
a_time_seconds 0.5
# TYPE a_thing untyped
a_thing 1
";
        assert_eq!(to_text(open_metrics), text);
    }
}
