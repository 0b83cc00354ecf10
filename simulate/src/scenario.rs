//! What is simulated: a scenario.

use std::time::Duration;

use lookaside_core::model::OverloadDrops;
use serde::Deserialize;

use crate::bars::Bar;
use crate::parse;

/// A scenario. Every key may be left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Its name. Default `scenario`.
    pub name: String,
    /// What chance begins with. Default 1.
    #[serde(deserialize_with = "parse::seed")]
    pub seed: u64,
    /// How long it lasts. Default 1800 s.
    #[serde(deserialize_with = "parse::duration")]
    pub duration: Duration,
    /// How many backends there are, 2 to 5000. Default 100.
    #[serde(deserialize_with = "parse::backends")]
    pub backends: usize,
    /// How much their capacities differ: deviation of a lognormal. Default 0.35.
    #[serde(deserialize_with = "parse::sigma")]
    pub capacity_sigma: f64,
    /// How much requests' costs differ: coefficient of variation. Default 1.
    #[serde(deserialize_with = "parse::variation")]
    pub request_cost_cv: f64,
    /// Offered load as a share of all capacity. Default 0.55.
    #[serde(deserialize_with = "parse::load")]
    pub load: f64,
    /// By what share it rises and falls with the time of day, which lasts half an
    /// hour. Default 0.15.
    #[serde(deserialize_with = "parse::wave")]
    pub diurnal: f64,
    /// How much more of the calls a backend gets than its weight gives it:
    /// deviation of a lognormal. Default 0.2.
    #[serde(deserialize_with = "parse::sigma")]
    pub subset_skew_sigma: f64,
    /// How many clients there are, 1 to 10 000. Default 200.
    #[serde(deserialize_with = "parse::clients")]
    pub clients: usize,
    /// How much clients differ in how much they call: deviation of a lognormal.
    /// Default 0.5.
    #[serde(deserialize_with = "parse::sigma")]
    pub client_sigma: f64,
    /// About how many backends each client gets; 0 is as the balancer does it,
    /// all up to 100. Default 0.
    #[serde(deserialize_with = "parse::subset")]
    pub subset: usize,
    /// Requests a second to a mean backend at a load of 0.55, 0.1 to 100 000.
    /// Default 200.
    #[serde(deserialize_with = "parse::rate")]
    pub rate: f64,
    /// How long a list takes: a third of that at most to most clients, and up to
    /// ten thirds to one in ten. Default 3 s.
    #[serde(deserialize_with = "parse::time")]
    pub push_delay: Duration,
    /// How backends report.
    pub report: Reporting,
    /// When the balancer drops calls because there are too many. Default: never.
    #[serde(deserialize_with = "parse::overload")]
    pub overload: Option<OverloadDrops>,
    /// Which policies are compared. Default: `round_robin`,
    /// `weighted_round_robin` and `feedback`.
    pub policies: Vec<PolicyName>,
    /// What `feedback` should come to, in the mean over seeds. Default: nothing.
    #[serde(rename = "bar", deserialize_with = "parse::bars")]
    pub bars: Vec<Bar>,
    /// What happens, by time.
    #[serde(rename = "event", deserialize_with = "parse::events")]
    pub events: Vec<Event>,
}

/// How backends report.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reporting {
    /// How often. Default 5 s.
    #[serde(deserialize_with = "parse::interval")]
    pub interval: Duration,
    /// By what share of it each interval is longer or shorter at most. Default
    /// 0.2.
    #[serde(deserialize_with = "parse::wave")]
    pub jitter: f64,
    /// What share of reports is lost. Default 0.
    #[serde(deserialize_with = "parse::share")]
    pub loss: f64,
    /// How long a report takes. Default 0.
    #[serde(deserialize_with = "parse::time")]
    pub delay: Duration,
    /// Whether backends count their calls. Default true.
    pub qps: bool,
    /// Over what time a backend averages its utilisation before it tells it; 0 is
    /// since its last report. Default 0.
    #[serde(deserialize_with = "parse::time")]
    pub window: Duration,
    /// What of that the balancer is told, as by `load_window`. Default 0.
    #[serde(deserialize_with = "parse::time")]
    pub load_window: Duration,
}

/// What weighs the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// Nothing: every backend once.
    RoundRobin,
    /// An operator who knows every machine's capacity, and nothing else.
    Static,
    /// `weighted_round_robin`.
    WeightedRoundRobin,
    /// `feedback`.
    Feedback,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "parse::EventTable")]
pub struct Event {
    /// When.
    pub at: Duration,
    /// What.
    pub kind: EventKind,
    /// To what share of the backends; at least one. Default 1, all.
    pub share: f64,
    /// How much; what it means depends on the kind.
    pub by: f64,
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Backends lose the share `by` of their capacity; 0 gives it back.
    Slow,
    /// Backends fail every call, and cheaply; they report the share `by` of
    /// their failures, by default all.
    Sinkhole,
    /// Backends report their utilisation times `by`; 1 is the truth again.
    Liar,
    /// Backends no longer report.
    Silent,
    /// Backends restart one after the other, drained before, and with half their
    /// capacity at first.
    RestartBackends,
    /// The balancer restarts, with the state it saved.
    RestartBalancer,
    /// So many backends join, as a share of those that were there at first.
    Add,
    /// Backends are drained and leave.
    Remove,
    /// The load is `by` times what the scenario says.
    Load,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "scenario".to_owned(),
            seed: 1,
            duration: Duration::from_secs(1800),
            backends: 100,
            capacity_sigma: 0.35,
            request_cost_cv: 1.0,
            load: 0.55,
            diurnal: 0.15,
            subset_skew_sigma: 0.2,
            clients: 200,
            client_sigma: 0.5,
            subset: 0,
            rate: 200.0,
            push_delay: Duration::from_secs(3),
            report: Reporting::default(),
            overload: None,
            policies: vec![
                PolicyName::RoundRobin,
                PolicyName::WeightedRoundRobin,
                PolicyName::Feedback,
            ],
            bars: Vec::new(),
            events: Vec::new(),
        }
    }
}

impl Default for Reporting {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            jitter: 0.2,
            loss: 0.0,
            delay: Duration::ZERO,
            qps: true,
            window: Duration::ZERO,
            load_window: Duration::ZERO,
        }
    }
}

impl PolicyName {
    /// Every policy.
    pub const ALL: [Self; 4] = [
        Self::RoundRobin,
        Self::Static,
        Self::WeightedRoundRobin,
        Self::Feedback,
    ];

    /// Its name in scenarios and results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Static => "static",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::Feedback => "feedback",
        }
    }
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Slow,
        Self::Sinkhole,
        Self::Liar,
        Self::Silent,
        Self::RestartBackends,
        Self::RestartBalancer,
        Self::Add,
        Self::Remove,
        Self::Load,
    ];

    /// Its name in scenarios.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Sinkhole => "sinkhole",
            Self::Liar => "liar",
            Self::Silent => "silent",
            Self::RestartBackends => "restart_backends",
            Self::RestartBalancer => "restart_balancer",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Load => "load",
        }
    }

    /// What `by` may be, and what it is if nothing is said; `None` if it must be
    /// said.
    pub(crate) fn by(self) -> (f64, f64, Option<f64>) {
        match self {
            Self::Slow => (0.0, 0.99, None),
            Self::Sinkhole => (0.0, 1.0, Some(1.0)),
            Self::Liar => (0.0, 100.0, None),
            Self::Load => (0.0, 10.0, None),
            _ => (0.0, 0.0, Some(0.0)),
        }
    }
}
