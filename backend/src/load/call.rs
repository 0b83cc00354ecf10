//! One call, from its beginning to its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use lookaside_proto::orca_v3::ENDPOINT_LOAD_METRICS_KEY;
use tonic::{Code, Status};

use super::{Load, Trailers};

/// What a call asks with for a report in its trailers.
const FORMAT_KEY: &str = "endpoint-load-metrics-format";

/// A call under way. Dropped before its end, it was taken back.
#[derive(Debug)]
pub(super) struct Call {
    load: Load,
    /// From when on an end without an answer is one for its deadline, by the
    /// `grpc-timeout` that it came with.
    late: Option<Duration>,
    /// Whether its trailers are to carry a report.
    report: bool,
    ended: bool,
}

impl Call {
    /// Begins a call; `None` if it is none of gRPC, or calls to this path are not
    /// counted.
    pub(super) fn begin(load: &Load, path: &str, headers: &HeaderMap) -> Option<Self> {
        let settings = &load.0.settings;
        if !is_grpc(headers) || settings.uncounted.iter().any(|p| path.starts_with(p)) {
            return None;
        }
        let now = load.now();
        load.0.counters.start(now);
        let timeout = headers.get("grpc-timeout").and_then(timeout);
        Some(Self {
            load: load.clone(),
            late: timeout.map(|timeout| now.saturating_add(timeout - slack(timeout))),
            report: match settings.trailers {
                Trailers::Never => false,
                Trailers::OnRequest => headers.contains_key(FORMAT_KEY),
                Trailers::Always => true,
            },
            ended: false,
        })
    }

    /// The call ends with these trailers, or with these headers if it has
    /// nothing else; adds the report to them, if there is to be one.
    pub(super) fn end(mut self, trailers: &mut HeaderMap) {
        let code = Status::from_header_map(trailers).map_or(Code::Unknown, |s| s.code());
        // tonic's server says CANCELLED when the time of a call is over.
        let code = match code {
            Code::Cancelled => self.taken_back(),
            code => code,
        };
        self.count((self.load.0.settings.is_error)(code));
        if self.report
            && !trailers.contains_key(ENDPOINT_LOAD_METRICS_KEY)
            && let Some(report) = self.load.trailer()
        {
            trailers.insert(ENDPOINT_LOAD_METRICS_KEY, report);
        }
    }

    /// The call ends without a status.
    pub(super) fn break_off(mut self) {
        self.count((self.load.0.settings.is_error)(Code::Unknown));
    }

    /// What a call ends with that is taken back now.
    fn taken_back(&self) -> Code {
        match self.late {
            Some(late) if self.load.now() >= late => Code::DeadlineExceeded,
            _ => Code::Cancelled,
        }
    }

    fn count(&mut self, error: bool) {
        self.ended = true;
        self.load.0.counters.end(self.load.now(), error);
        if self.load.0.watched.load(Ordering::SeqCst) {
            self.load.0.ended.notify_waiters();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            let code = self.taken_back();
            self.count((self.load.0.settings.is_error)(code));
        }
    }
}

/// How much of its time a call may have left when its deadline ends it: the caller's clock
/// began before ours.
fn slack(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_millis(100))
}

/// Whether these are the headers of a gRPC call, and not of what else a server may
/// have on the port: a page, metrics, a download.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The time in a `grpc-timeout`: at most eight digits and a unit.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value
        .to_str()
        .ok()?
        .split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Duration> {
        timeout(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "5", "-5S", "123456789S", "5s", "+5S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in proptest::collection::vec(32u8..=255, 0..20)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = timeout(&value);
            }
        }
    }
}
