//! `plan`: what it costs to decide who gets which list, where a service has
//! many backends and its clients are in groups.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lookaside_core::list::{ServerLists, VARIANTS};
use lookaside_core::model::{BackendAddr, Weight};
use lookaside_core::plan::{
    Clients, Contribution, GroupPlan, MemberFields, Plan, PlanInput, PlanState, ServiceSettings,
    SourceId, SourceKind, plan,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::median::median;

/// Arguments of `plan`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlanArgs {
    /// Backends of the service.
    #[arg(long, default_value_t = 10_000)]
    backends: u32,
    /// Backends of a group, about.
    #[arg(long, default_value_t = 100)]
    subset: usize,
    /// Print the figures as one JSON object on the last line, too.
    #[arg(long)]
    json: bool,
}

/// Runs, of which the median counts.
const ROUNDS: u32 = 15;

#[derive(Debug, Serialize)]
struct Figures {
    backends: u32,
    groups: usize,
    /// The first plan of a service.
    first_ms: f64,
    /// Again, though nothing changed.
    again_ms: f64,
    /// After a backend came.
    join_ms: f64,
    /// After clients came and went in every group.
    clients_ms: f64,
    /// From the plan to lists that can be sent, all groups; nothing is encoded.
    lists_ms: f64,
    /// Groups that changed when a backend came.
    groups_changed_by_join: usize,
    /// Share of all streams whose list changed when one weight in fifty moved by
    /// an eighth.
    streams_pushed_by_weights: f64,
}

/// Measures and prints.
///
/// # Errors
/// If an address or a weight is none, or the figures cannot be written.
#[allow(clippy::print_stdout, reason = "stdout is for answers")]
pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let figures = measure(args)?;
    println!(
        "{} backends, {} groups: first plan {:.2} ms, again {:.2} ms, after a join {:.2} ms, \
         after clients moved {:.2} ms; lists of all groups {:.2} ms (medians of {ROUNDS})",
        figures.backends,
        figures.groups,
        figures.first_ms,
        figures.again_ms,
        figures.join_ms,
        figures.clients_ms,
        figures.lists_ms
    );
    println!(
        "a join changes {} groups; one weight in fifty moved by an eighth is sent to {:.1} % \
         of the streams",
        figures.groups_changed_by_join,
        100.0 * figures.streams_pushed_by_weights
    );
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// A service, as its publisher has it.
struct Service {
    state: PlanState,
    settings: ServiceSettings,
    contributions: BTreeMap<SourceId, Contribution>,
    clients: Clients,
}

impl Service {
    fn new(args: &PlanArgs, backends: u32) -> anyhow::Result<Self> {
        let mut members = BTreeMap::new();
        for index in 0..backends {
            let ip = Ipv4Addr::from(0x0a00_0001 + index);
            let addr = BackendAddr::new(SocketAddr::from((ip, 50051)))?;
            // Weights that do not come out as small whole ratios.
            let weight = Weight::new(1.0 + 0.3 * f64::from(index * 7919 % 1009) / 1009.0)?;
            let fields = MemberFields {
                weight: Some(weight),
                ..MemberFields::default()
            };
            members.insert(addr, fields);
        }
        let contribution = Contribution {
            members: Arc::new(members),
        };
        Ok(Self {
            state: PlanState::default(),
            settings: ServiceSettings {
                subset: Some(args.subset),
                ..ServiceSettings::default()
            },
            contributions: BTreeMap::from([(SourceKind::File.into(), contribution)]),
            clients: Clients::default(),
        })
    }

    fn plan(&mut self) -> Plan {
        let input = PlanInput {
            contributions: &self.contributions,
            settings: &self.settings,
            health: &BTreeMap::new(),
            reports: &[],
            clients: &self.clients,
        };
        plan(input, &mut self.state, Duration::ZERO)
    }

    /// Streams in every group, unevenly.
    fn seat(&mut self, plan: &Plan, seed: u32) {
        let streams = (0..plan.layout.lists() as u32).map(|list| 40 + (list * 31 + seed) % 21);
        self.clients = Clients {
            layout: plan.layout.clone(),
            streams: streams.collect(),
        };
    }

    fn members(&mut self) -> &mut BTreeMap<BackendAddr, MemberFields> {
        Arc::make_mut(
            &mut self
                .contributions
                .entry(SourceKind::File.into())
                .or_default()
                .members,
        )
    }
}

fn measure(args: &PlanArgs) -> anyhow::Result<Figures> {
    let (mut first, mut again, mut join, mut clients, mut lists) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut pushed, mut groups) = (0, 0.0, 0);
    for round in 0..ROUNDS {
        let mut service = Service::new(args, args.backends + 1)?;
        let newcomer = service.members().pop_last();
        let (plan, time) = timed(|| service.plan());
        first.push(time);
        service.seat(&plan, round);
        let (plan, time) = timed(|| service.plan());
        clients.push(time);
        let (same, time) = timed(|| service.plan());
        again.push(time);
        anyhow::ensure!(same == plan, "the same inputs made another plan");
        let (before, time) = timed(|| lists_of(&plan));
        lists.push(time);
        for (_, fields) in service.members().iter_mut().step_by(50) {
            let moved = fields
                .weight
                .map(|weight| Weight::new(weight.value() * 1.125));
            fields.weight = moved.transpose()?;
        }
        let moved = service.plan();
        pushed = share_pushed(&before, &lists_of(&moved));
        service.members().extend(newcomer);
        let (joined, time) = timed(|| service.plan());
        join.push(time);
        let pairs = joined.groups.iter().zip(&moved.groups);
        changed = pairs
            .filter(|(new, old)| backends(new) != backends(old))
            .count();
        groups = plan.groups.len();
    }
    Ok(Figures {
        backends: args.backends,
        groups,
        first_ms: median(&first),
        again_ms: median(&again),
        join_ms: median(&join),
        clients_ms: median(&clients),
        lists_ms: median(&lists),
        groups_changed_by_join: changed,
        streams_pushed_by_weights: pushed,
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let made = black_box(work());
    (made, start.elapsed().as_secs_f64() * 1e3)
}

fn lists_of(plan: &Plan) -> Vec<ServerLists> {
    let lists = plan.groups.iter().filter_map(|group| match group {
        GroupPlan::Servers(spec) => Some(ServerLists::new(spec.clone())),
        GroupPlan::Fallback => None,
    });
    lists.collect()
}

fn backends(group: &GroupPlan) -> Vec<BackendAddr> {
    match group {
        GroupPlan::Servers(spec) => spec.backends.iter().map(|backend| backend.addr).collect(),
        GroupPlan::Fallback => Vec::new(),
    }
}

/// Of all groups and variants, how many are sent another list.
fn share_pushed(before: &[ServerLists], after: &[ServerLists]) -> f64 {
    let (mut changed, mut all) = (0, 0);
    for (before, after) in before.iter().zip(after) {
        for variant in 0..VARIANTS as u64 {
            changed += usize::from(!after.has_same_variant(before, variant));
            all += 1;
        }
    }
    changed as f64 / f64::from(all.max(1))
}
