//! `lookaside simulate`: compares policies in virtual time.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use lookaside_simulate::{
    Figure, PolicyOutcome, Scenario, Verdict, judge, over_seeds, plot, simulate,
};
use serde::Serialize;

use super::{Failure, answer};
use crate::discovery::file::read_config;

/// Arguments of `lookaside simulate`.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// Scenarios; where one has bars, it is said whether `feedback` meets them
    #[arg(value_name = "SCENARIO", required = true)]
    files: Vec<PathBuf>,

    /// End with one JSON object a scenario, on one line
    #[arg(long)]
    json: bool,

    /// Begin chance with this, whatever the scenarios say
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run so many seeds, from the first one on: the table has means, and the worst
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,

    /// Exit with 1 if a bar is not met, in the mean over the seeds
    #[arg(long)]
    strict: bool,

    /// Draw utilisation over time; of several scenarios each into a file of its own, FILE-scenario.svg
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub(super) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    // All are read before the first runs: a slip in the last is not told after
    // minutes.
    let read = args.files.iter().map(|file| read(file));
    let mut scenarios: Vec<Scenario> = read.collect::<Result<_, _>>().map_err(Failure::Input)?;
    for scenario in &mut scenarios {
        scenario.seed = args.seed.unwrap_or(scenario.seed);
    }
    let mut missed = Vec::new();
    for (scenario, file) in scenarios.iter().zip(&args.files) {
        let seeds = (scenario.seed..).take(usize::try_from(args.seeds).unwrap_or(1));
        let runs = seeds.map(|seed| {
            simulate(&Scenario {
                seed,
                ..scenario.clone()
            })
        });
        let runs: Vec<Vec<PolicyOutcome>> = runs.collect();
        let rows = rows(&runs);
        let outcomes: Vec<PolicyOutcome> = rows.iter().map(|(mean, _)| mean.clone()).collect();
        answer(&table(scenario, &rows, args.seeds))?;
        let judged = judge(&scenario.bars, &runs);
        answer(&verdicts(&judged))?;
        let unmet = judged.iter().filter(|verdict| !verdict.is_met());
        missed.extend(unmet.map(|v| format!("{} {}", scenario.name, v.bar.figure.as_str())));
        if let Some(plot_to) = &args.plot {
            let to = match (args.files.len(), file.file_stem()) {
                (2.., Some(stem)) => beside(plot_to, &stem.to_string_lossy()),
                _ => plot_to.clone(),
            };
            let written = std::fs::write(&to, plot(scenario, &outcomes));
            written.with_context(|| format!("cannot write {}", to.display()))?;
        }
        if args.json {
            answer(&json(scenario, &outcomes)?)?;
        }
    }
    if args.strict && !missed.is_empty() {
        let missed = missed.join(", ");
        return Err(Failure::Run(anyhow!("bars that are not met: {missed}")));
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = read_config(file)?;
    Ok(Scenario::parse(&text, &file.display().to_string())?)
}

/// `dir/name.svg` and `full` are `dir/name-full.svg`.
fn beside(plot: &Path, scenario: &str) -> PathBuf {
    let stem = plot.file_stem().unwrap_or_default().to_string_lossy();
    let extension = plot.extension().unwrap_or_default().to_string_lossy();
    plot.with_file_name(format!("{stem}-{scenario}.{extension}"))
}

/// Of each policy the mean over the seeds, and the worst.
fn rows(runs: &[Vec<PolicyOutcome>]) -> Vec<(PolicyOutcome, PolicyOutcome)> {
    let count = runs.first().map_or(0, Vec::len);
    let policy = |index: usize| {
        let runs = runs.iter().filter_map(|run| run.get(index));
        over_seeds(&runs.collect::<Vec<_>>())
    };
    (0..count).filter_map(policy).collect()
}

/// How the scenario's bars are met.
fn verdicts(verdicts: &[Verdict]) -> String {
    let lines = verdicts.iter().map(|verdict| {
        let least = verdict.bar.figure == Figure::Quiet;
        let (met, seeds) = verdict.seeds;
        let mut line = format!(
            "bar {:<18} {:>7} (worst {}) {} {:<6} {}",
            verdict.bar.figure.as_str(),
            number(verdict.mean),
            number(verdict.worst),
            if least { '≥' } else { '≤' },
            verdict.bar.limit,
            if verdict.is_met() { "met" } else { "NOT MET" },
        );
        if seeds > 1 {
            line.push_str(&format!(", by {met} of {seeds} seeds"));
        }
        if let Some((failed, all)) = verdict.requests {
            line.push_str(&format!("; {failed:.0} of {all:.0} requests failed"));
        }
        line.push('\n');
        line
    });
    lines.collect()
}

fn table(scenario: &Scenario, rows: &[(PolicyOutcome, PolicyOutcome)], seeds: u64) -> String {
    let mut text = format!(
        "{}: {} backends, {} clients, {}, {}\n",
        scenario.name,
        scenario.backends,
        scenario.clients,
        humantime::format_duration(scenario.duration),
        match seeds {
            1 => format!("seed {}", scenario.seed),
            _ => format!("seeds {} to {}", scenario.seed, scenario.seed + seeds - 1),
        }
    );
    text.push_str(
        "policy                max/avg    p99  +60 s   then  worst  settle  ≤1.15  quiet   failed dropped  offenders\n",
    );
    for (mean, worst) in rows {
        text.push_str(&line(mean.policy, mean));
        if seeds > 1 {
            text.push_str(&line("  worst", worst));
        }
    }
    text
}

fn line(name: &str, outcome: &PolicyOutcome) -> String {
    let (first, then) = match outcome.after_event {
        Some((first, then)) => (number(first), number(then)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let seconds = |s: Option<f64>| s.map_or_else(|| "never".to_owned(), |s| format!("{s:.0} s"));
    let offenders = outcome
        .offenders
        .map(|(most, later)| format!("{most:.2} {later:.2}"));
    format!(
        "{:<21} {:>7} {:>6} {:>6} {:>6} {:>6.2} {:>7} {:>6} {:>5.0}% {:>7}% {:>6.2}%  {}\n",
        name,
        number(outcome.mean_max_over_avg),
        number(outcome.max_over_avg),
        first,
        then,
        outcome.worst_utilization,
        seconds(outcome.resettle_s),
        seconds(outcome.level_s),
        100.0 * outcome.quiet_ticks,
        number(100.0 * outcome.failed_share),
        100.0 * outcome.dropped_share,
        offenders.unwrap_or_else(|| "-".to_owned()),
    )
}

/// Three digits; but what is not nothing does not look like it.
fn number(value: f64) -> String {
    if value > 0.0 && value < 0.0005 {
        return "<0.001".to_owned();
    }
    format!("{value:.3}")
}

/// What `--json` ends with, keys in this order.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    scenario: &'a str,
    policies: Vec<PolicySummary>,
}

#[derive(Debug, Serialize)]
struct PolicySummary {
    policy: &'static str,
    max_over_avg: f64,
    worst_utilization: f64,
    resettle_s: Option<f64>,
    quiet_ticks: f64,
    failed_share: f64,
    dropped_share: f64,
}

fn json(scenario: &Scenario, outcomes: &[PolicyOutcome]) -> anyhow::Result<String> {
    let policies = outcomes.iter().map(|outcome| PolicySummary {
        policy: outcome.policy,
        max_over_avg: rounded(outcome.max_over_avg),
        worst_utilization: rounded(outcome.worst_utilization),
        resettle_s: outcome.resettle_s.map(rounded),
        quiet_ticks: rounded(outcome.quiet_ticks),
        failed_share: rounded(outcome.failed_share),
        dropped_share: rounded(outcome.dropped_share),
    });
    Ok(serde_json::to_string(&Summary {
        scenario: &scenario.name,
        policies: policies.collect(),
    })?)
}

/// Six digits: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_that_is_not_met_fails_only_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        let text = "name = \"a\"\nduration = \"60s\"\nbackends = 3\nclients = 3\n\
                    policies = [\"feedback\"]\nbar = { mean = 0.5, worst = 100 }\n";
        std::fs::write(&file, text).unwrap();
        let mut args = SimulateArgs {
            files: vec![file],
            json: false,
            seed: None,
            seeds: 2,
            strict: false,
            plot: None,
        };
        run(&args).unwrap();
        args.strict = true;
        let Err(Failure::Run(error)) = run(&args) else {
            panic!("it should have failed");
        };
        assert_eq!(error.to_string(), "bars that are not met: a mean");
    }

    #[test]
    fn what_is_next_to_nothing_does_not_look_like_nothing() {
        assert_eq!(number(0.0), "0.000");
        assert_eq!(number(1e-9), "<0.001");
        assert_eq!(number(0.0006), "0.001");
        assert_eq!(number(-0.5), "-0.500");
    }
}
