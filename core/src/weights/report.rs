//! What a backend says of its load, checked.
//!
//! Nothing of a report is trusted: a number that cannot be one is refused here,
//! so that behind this file every value is finite and in range. What a plausible
//! lie does is bounded by the policies' clamps and their distrust.

use std::fmt;
use std::time::Duration;

/// A load above this, 100 times the whole machine, is no load.
const MAX_LOAD: f64 = 100.0;

/// More calls a second than any backend serves.
const MAX_QPS: f64 = 1e9;

/// What averages its numbers over a time nobody knows is taken to do so over
/// this.
const UNKNOWN_WINDOW: Duration = Duration::from_secs(30);

/// How a report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportSource {
    /// An ORCA out-of-band stream.
    Orca,
    /// The backend's registration stream.
    Registration,
    /// `grpclb.backend.v1.LoadReport`, polled.
    LoadReport,
    /// A Prometheus text page, scraped.
    Prometheus,
}

impl ReportSource {
    /// Every source, for metrics.
    pub const ALL: [Self; 4] = [
        Self::Orca,
        Self::Registration,
        Self::LoadReport,
        Self::Prometheus,
    ];

    /// Its name in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orca => "orca",
            Self::Registration => "registration",
            Self::LoadReport => "load_report",
            Self::Prometheus => "prometheus",
        }
    }

    /// Over what time its utilisation is averaged before it is told, unless the
    /// operator says otherwise.
    #[must_use]
    pub fn load_window(self) -> Duration {
        match self {
            Self::Orca | Self::Registration => Duration::ZERO,
            Self::LoadReport | Self::Prometheus => UNKNOWN_WINDOW,
        }
    }

    /// Whether no load at all is a measurement like any other: it is where a
    /// backend may not count its calls, so that its numbers are all there is. Of
    /// one that does count them it only shows that it is there.
    #[must_use]
    pub fn measures_idleness(self) -> bool {
        matches!(self, Self::LoadReport | Self::Prometheus)
    }
}

/// A report as it came over the wire: any number may be anything. An absent
/// field is 0, as in ORCA's message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawReport<'a> {
    /// How it came.
    pub source: ReportSource,
    /// Share of its CPU that the backend uses; may exceed 1.
    pub cpu_utilization: f64,
    /// Share of its capacity that the backend itself says it uses.
    pub application_utilization: f64,
    /// Metrics by name, as `utilization.gpu`; the operator says which count.
    pub named: &'a [(&'a str, f64)],
    /// Calls a second.
    pub qps: f64,
    /// Failed calls a second.
    pub eps: f64,
}

/// A report whose numbers can be computed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    source: ReportSource,
    load: f64,
    qps: f64,
    eps: f64,
}

/// Why a report is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadReport {
    /// A number that is no number, or infinite.
    #[error("{0} is not finite; report a number")]
    NotFinite(Field),
    /// A number below 0.
    #[error("{0} is negative; report a number from 0")]
    Negative(Field),
    /// A number so large that it cannot be meant.
    #[error(
        "{0} is absurdly large; a utilization is at most 100 (1 is the whole machine), a rate at most 1e9 a second"
    )]
    Absurd(Field),
    /// No utilization, or 0, though there are calls: nothing is known of the load.
    #[error(
        "no utilization; report application_utilization or cpu_utilization above 0, or a configured metric"
    )]
    NoLoad,
}

/// A field of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The utilization that counts.
    Utilization,
    /// Calls a second.
    Qps,
    /// Failed calls a second.
    Eps,
}

impl BadReport {
    /// Every kind of refusal, for metrics.
    pub const REASONS: [&'static str; 4] = ["not_finite", "negative", "absurd", "no_load"];

    /// Its kind in metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFinite(_) => "not_finite",
            Self::Negative(_) => "negative",
            Self::Absurd(_) => "absurd",
            Self::NoLoad => "no_load",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utilization => "utilization",
            Self::Qps => "rps_fractional",
            Self::Eps => "eps",
        })
    }
}

impl Report {
    /// Checks a report. The load is the largest of the `metrics` that the
    /// operator named (those that are no number above 0 do not count), else the
    /// application's utilisation, else the CPU's. It may be 0 if there are no calls
    /// either: an idle backend shows by it that it is there.
    ///
    /// # Errors
    /// If there is no load in it but calls are, or a number is not finite, negative or absurd.
    pub fn new(raw: &RawReport<'_>, metrics: &[String]) -> Result<Self, BadReport> {
        let counts = |(name, value): &&(&str, f64)| {
            value.is_finite() && *value > 0.0 && metrics.iter().any(|metric| metric == name)
        };
        let named = raw.named.iter().filter(counts).map(|(_, value)| *value);
        let load = named.reduce(f64::max).unwrap_or({
            if raw.application_utilization == 0.0 {
                raw.cpu_utilization
            } else {
                raw.application_utilization
            }
        });
        let load = checked(load, Field::Utilization, MAX_LOAD)?;
        let qps = checked(raw.qps, Field::Qps, MAX_QPS)?;
        let eps = checked(raw.eps, Field::Eps, MAX_QPS)?;
        if load == 0.0 && (qps > 0.0 || eps > 0.0) {
            return Err(BadReport::NoLoad);
        }
        Ok(Self {
            source: raw.source,
            load,
            qps,
            eps,
        })
    }

    /// How it came.
    #[must_use]
    pub fn source(&self) -> ReportSource {
        self.source
    }

    /// Share of the backend's capacity in use, 0 to 100; 0 only if there are no
    /// calls.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.load
    }

    /// Calls a second, 0 to 10⁹. 0 may mean that the backend does not count.
    #[must_use]
    pub fn qps(&self) -> f64 {
        self.qps
    }

    /// Failed calls a second, 0 to 10⁹.
    #[must_use]
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Failed calls as a share of all, 0 to 1.
    #[must_use]
    pub fn failing_share(&self) -> f64 {
        if self.eps > 0.0 {
            self.eps / self.qps.max(self.eps)
        } else {
            0.0
        }
    }
}

fn checked(value: f64, field: Field, most: f64) -> Result<f64, BadReport> {
    if !value.is_finite() {
        return Err(BadReport::NotFinite(field));
    }
    if value < 0.0 {
        return Err(BadReport::Negative(field));
    }
    if value > most {
        return Err(BadReport::Absurd(field));
    }
    // -0.0 is 0.
    Ok(value.abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: RawReport<'static> = RawReport {
        source: ReportSource::Orca,
        cpu_utilization: 0.5,
        application_utilization: 0.0,
        named: &[],
        qps: 100.0,
        eps: 1.0,
    };

    #[test]
    fn the_load_is_a_named_metric_else_the_applications_else_the_cpu() {
        let load = |raw: &RawReport<'_>| Report::new(raw, &["gpu".to_owned()]).map(|r| r.load());
        assert_eq!(load(&GOOD), Ok(0.5));
        let app = RawReport {
            application_utilization: 0.7,
            ..GOOD
        };
        assert_eq!(load(&app), Ok(0.7));
        let named = RawReport {
            named: &[("disk", 0.9), ("gpu", 0.3), ("gpu", f64::NAN)],
            ..app
        };
        assert_eq!(load(&named), Ok(0.3));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |raw: &RawReport<'_>| Report::new(raw, &[]).unwrap_err();
        for (bad, reason) in [
            (f64::NAN, "not_finite"),
            (f64::INFINITY, "not_finite"),
            (-0.1, "negative"),
            (1e10, "absurd"),
        ] {
            let utilization = RawReport {
                cpu_utilization: bad,
                ..GOOD
            };
            assert_eq!(refused(&utilization).reason(), reason);
            assert_eq!(refused(&RawReport { qps: bad, ..GOOD }).reason(), reason);
            assert_eq!(refused(&RawReport { eps: bad, ..GOOD }).reason(), reason);
        }
        let idle = RawReport {
            cpu_utilization: -0.0,
            ..GOOD
        };
        assert_eq!(refused(&idle), BadReport::NoLoad);
        assert!(refused(&idle).to_string().contains("report application_"));
        let idle = RawReport {
            qps: 0.0,
            eps: 0.0,
            ..idle
        };
        assert_eq!(Report::new(&idle, &[]).map(|report| report.load()), Ok(0.0));
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_computed_with(
            cpu: f64, app: f64, named: f64, qps: f64, eps: f64,
        ) {
            let named = [("gpu", named)];
            let raw = RawReport {
                source: ReportSource::Prometheus,
                cpu_utilization: cpu,
                application_utilization: app,
                named: &named,
                qps,
                eps,
            };
            if let Ok(report) = Report::new(&raw, &["gpu".to_owned()]) {
                prop_assert!((0.0..=MAX_LOAD).contains(&report.load()));
                prop_assert!(report.load() > 0.0 || report.qps() + report.eps() == 0.0);
                prop_assert!((0.0..=MAX_QPS).contains(&report.qps()));
                prop_assert!((0.0..=1.0).contains(&report.failing_share()));
            }
        }
    }
}
