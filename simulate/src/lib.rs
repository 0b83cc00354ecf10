//! How policies would do, in virtual time: what `lookaside simulate` runs.
//!
//! The balancer is the real one, from reports to encoded lists: [`plan`],
//! [`weights`] and [`list`], as they serve. Around it are models of
//! backends and clients. Nothing here knows the time of day or chance but that
//! of the seed: one scenario gives the same digits on every machine.
//!
//! ```text
//!  hosts ─ reports, jittered, late, lost ─► plan · weights · pace
//!    ▲                                            │ list
//!    └───── calls ── clients ◄── lists, late ─────┘
//! ```
//!
//! A *host* has a capacity (lognormal), works off requests of random cost, shares
//! its machine with antagonists (a tenth of it on average, ± 3 points, in 20 s),
//! saturates at a utilisation of 1, and sheds what would wait for more than a
//! second. A *client* walks its list entry by entry, with a new rotation at each
//! push. *Skew* is how much more calls than its weight a backend gets.
//!
//! [`plan`]: lookaside_core::plan
//! [`weights`]: lookaside_core::weights
//! [`list`]: lookaside_core::list

mod balancer;
mod bars;
mod clients;
mod exact;
mod hosts;
mod measure;
mod parse;
mod plot;
mod random;
mod run;
mod scenario;
mod seeds;

#[cfg(test)]
mod tests;

pub use bars::{Bar, Figure, Verdict, judge};
pub use measure::{Point, PolicyOutcome};
pub use parse::BadScenario;
pub use plot::plot;
pub use scenario::{Event, EventKind, PolicyName, Reporting, Scenario};
pub use seeds::over_seeds;

/// Runs a scenario under each of its policies.
#[must_use]
pub fn simulate(scenario: &Scenario) -> Vec<PolicyOutcome> {
    let policies = scenario.policies.iter();
    policies.map(|policy| run::run(scenario, *policy)).collect()
}
