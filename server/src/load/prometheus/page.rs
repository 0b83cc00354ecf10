//! A page of metrics in Prometheus' text format, and what of it counts.
//!
//! Of the format only what is needed is read: a line is a series, its value and
//! perhaps more behind that (a time, an exemplar), or it is passed over. So pages in
//! OpenMetrics are read as well.

use crate::config::{PrometheusConfig, Selector, series};

/// What a page says of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Page {
    /// The largest of the gauges; `None` if there is none.
    pub(super) utilization: Option<f64>,
    /// The sum of the counters; 0 if there are none, for many appear with the first
    /// call that they count.
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Whether there was any series at all.
    pub(super) has_series: bool,
}

impl Page {
    pub(super) fn read(text: &str, config: &PrometheusConfig) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, labels, rest)) = series(line) else {
                continue;
            };
            let value = rest.split_ascii_whitespace().next();
            let Some(value) = value.and_then(|value| value.parse::<f64>().ok()) else {
                continue;
            };
            page.has_series = true;
            let is = |selector: &Selector| selector.matches(name, &labels);
            if is(&config.utilization) && !value.is_nan() {
                let most = page.utilization.unwrap_or(f64::NEG_INFINITY);
                page.utilization = Some(most.max(value));
            }
            if config.requests.as_ref().is_some_and(is) {
                page.requests += value;
            }
            if config.errors.as_ref().is_some_and(is) {
                page.errors += value;
            }
        }
        page
    }
}

/// What a counter counted each second between two pages; `None` if that cannot be
/// known: it was reset, or is no counter.
pub(super) fn rate(before: f64, now: f64, seconds: f64) -> Option<f64> {
    let counted = now - before;
    (counted.is_finite() && before >= 0.0 && counted >= 0.0 && seconds > 0.0)
        .then(|| counted / seconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn config() -> PrometheusConfig {
        PrometheusConfig {
            path: "/metrics".to_owned(),
            timeout: Duration::from_secs(1),
            utilization: "pool_busy".parse().unwrap(),
            capacity: 1.0,
            requests: Some("calls_total".parse().unwrap()),
            errors: Some("calls_total{code=\"Internal\"}".parse().unwrap()),
        }
    }

    #[test]
    fn gauges_are_the_largest_and_counters_the_sum_of_what_matches() {
        let text = "\
# HELP pool_busy Share of the pool that is busy
# TYPE pool_busy gauge
pool_busy{pool=\"a\"} 0.25
pool_busy{pool=\"b\"} 7.5e-1 1700000000000
pool_busy{pool=\"c\"} NaN
pool_busy_max 99
calls_total{code=\"OK\",why=\"a } \\\" 3\"} 100 # {trace_id=\"x\"} 1
calls_total{code=\"Internal\"} 5
not a line
calls_total{code=\"OK\" 7
# EOF
";
        let page = Page::read(text, &config());
        assert_eq!(page.utilization, Some(0.75));
        assert_eq!((page.requests, page.errors), (105.0, 5.0));
    }

    #[test]
    fn what_is_not_there_is_no_load_and_no_calls() {
        let page = Page::read("other 1\n", &config());
        assert_eq!(page.utilization, None);
        assert_eq!(page.requests, 0.0);
        assert!(page.has_series);
        assert!(!Page::read("<html>404</html>", &config()).has_series);
    }

    #[test]
    fn a_counter_that_was_reset_has_no_rate() {
        assert_eq!(rate(10.0, 20.0, 5.0), Some(2.0));
        assert_eq!(rate(20.0, 20.0, 5.0), Some(0.0));
        for (before, now, seconds) in [
            (20.0, 10.0, 5.0),
            (10.0, f64::INFINITY, 5.0),
            (f64::NAN, 1.0, 5.0),
            (-5.0, 1.0, 5.0),
            (1.0, 2.0, 0.0),
        ] {
            assert_eq!(rate(before, now, seconds), None);
        }
    }

    proptest! {
        #[test]
        fn no_page_panics(text in "[ -~\n]{0,200}", any: String) {
            Page::read(&text, &config());
            Page::read(&any, &config());
        }

        #[test]
        fn a_rate_is_a_number_from_0(before: f64, now: f64, seconds in 0.0..1e6) {
            if let Some(rate) = rate(before, now, seconds) {
                prop_assert!(rate >= 0.0);
            }
        }
    }
}
