//! `encode`: what it costs to arrange and encode lists, and how good they are.
//!
//! Speed is the time of all 16 variants, from a spec to bytes. Quality is the
//! error of the shares over the variants, and how evenly the turns of one
//! backend are spread, beside nginx's smooth weighted round robin (the usual
//! smooth order) and a shuffle (what RTBHOUSE's grpclb balancer sends) of the
//! very same counts.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use lookaside_core::list::{Entry, ListFrame, ListSpec, ListedBackend, ServerLists, VARIANTS};
use lookaside_core::model::{BackendAddr, Nonce};
use serde::Serialize;
use tokio::time::Instant;

/// Arguments of `encode`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EncodeArgs {
    /// Print the figures as one JSON object on the last line, too.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs, of which the median counts.
const ROUNDS: usize = 51;

/// Draws of weights that quality is measured over.
const SEEDS: u64 = 20;

#[derive(Debug, Serialize)]
struct Figures {
    variants: usize,
    entries: usize,
    encode_us: Quantiles,
    /// Of one stream's message, once its variant is encoded.
    frame_ns: f64,
    first_frame_ns: f64,
    /// The order alone, of all variants.
    swrr_us: f64,
    shuffle_us: f64,
    share_error: Vec<ShareError>,
    smoothness: Vec<Smoothness>,
}

/// Microseconds for all variants.
#[derive(Debug, Serialize)]
struct Quantiles {
    min: f64,
    p50: f64,
    p90: f64,
}

/// Relative error of a backend's share of calls, over 100 backends.
#[derive(Debug, Serialize)]
struct ShareError {
    entries_per_backend: u32,
    rms: f64,
    max: f64,
    /// Of a single list, as a client that opens one stream has it.
    one_list_rms: f64,
    one_list_max: f64,
    /// The same in points of all calls.
    one_list_max_points: f64,
}

/// How evenly turns are spread, at 100 backends and 800 entries: worst of all
/// draws.
#[derive(Debug, Serialize)]
struct Smoothness {
    order: &'static str,
    /// Most entries that any backend leads or lags behind its share, in any
    /// prefix.
    prefix_deviation: f64,
    /// Widest and closest gap between two turns of a backend, over the even one.
    gap_max: f64,
    gap_min: f64,
    /// Medians of the draws of the three.
    medians: [f64; 3],
}

/// Measures and prints.
///
/// # Errors
/// If the figures cannot be written as JSON.
#[allow(clippy::print_stdout, reason = "stdout is for answers")]
pub(crate) fn run(args: &EncodeArgs) -> anyhow::Result<()> {
    let figures = measure();
    println!(
        "{} variants x {} entries: {:.0} us (min {:.0}, p90 {:.0}, median of {ROUNDS})",
        figures.variants,
        figures.entries,
        figures.encode_us.p50,
        figures.encode_us.min,
        figures.encode_us.p90
    );
    println!(
        "one stream's frame {:.0} ns, its first {:.0} ns",
        figures.frame_ns, figures.first_frame_ns
    );
    println!(
        "the order alone, same counts: smooth WRR {:.0} us, shuffle {:.0} us",
        figures.swrr_us, figures.shuffle_us
    );
    println!("\nshare error, 100 backends   16 variants: rms   max   one list: rms   max   points");
    for error in &figures.share_error {
        println!(
            "  {:2} entries per backend             {:6.2}% {:5.1}%        {:6.1}% {:5.0}%   {:6.2}",
            error.entries_per_backend,
            100.0 * error.rms,
            100.0 * error.max,
            100.0 * error.one_list_rms,
            100.0 * error.one_list_max,
            100.0 * error.one_list_max_points
        );
    }
    println!(
        "\norder, 100 backends, 800 entries   prefix deviation   gap max   gap min   (median; worst of {SEEDS})"
    );
    for row in &figures.smoothness {
        println!(
            "  {:<24} {:12.2}; {:.2} {:9.2}; {:.2} {:7.2}; {:.2}",
            row.order,
            row.medians[0],
            row.prefix_deviation,
            row.medians[1],
            row.gap_max,
            row.medians[2],
            row.gap_min
        );
    }
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

fn measure() -> Figures {
    // 500 backends with four entries each are 2000.
    let weights = log_normal(500, 1);
    let lists = encoded(&weights, 4.0);
    let lens = (0..VARIANTS).map(|variant| lists.variant(variant as u64).len());
    let counts = counts_of(lists.variant(0).entries(), weights.len());
    Figures {
        variants: lists.variant_count(),
        entries: lens.sum::<usize>() / VARIANTS,
        encode_us: quantiles(|| encoded(&weights, 4.0)),
        frame_ns: per_stream_ns(|stream| lists.variant(stream).frame(stream)),
        first_frame_ns: per_stream_ns(|stream| {
            lists
                .variant(stream)
                .first_frame(stream, Nonce::from_bits(stream))
        }),
        swrr_us: quantiles(|| smooth_wrr(&counts)).p50 * VARIANTS as f64,
        shuffle_us: quantiles(|| shuffle(&counts, 1)).p50 * VARIANTS as f64,
        share_error: [2, 4, 8].map(share_error).into(),
        smoothness: vec![
            smoothness("hashed phase (ours)", |lists, variant| {
                let entries = lists.variant(variant as u64).entries();
                entries.iter().map(|entry| index_of(*entry)).collect()
            }),
            smoothness("nginx smooth WRR", |lists, variant| {
                smooth_wrr(&counts_of(lists.variant(variant as u64).entries(), 100))
            }),
            smoothness("shuffle", |lists, variant| {
                let entries = lists.variant(variant as u64).entries();
                shuffle(&counts_of(entries, 100), variant as u64)
            }),
        ],
    }
}

/// All variants of these weights, at so many entries per mean backend.
fn encoded(weights: &[f64], entries_per_backend: f64) -> ServerLists {
    let lists = ServerLists::new(spec(weights, entries_per_backend));
    for ordinal in 0..VARIANTS as u64 {
        black_box(lists.variant(ordinal));
    }
    lists
}

fn spec(weights: &[f64], entries_per_backend: f64) -> ListSpec {
    let backend = |(index, weight): (u32, &f64)| {
        let ip = Ipv4Addr::from(0x0a00_0001 + index);
        let addr = BackendAddr::new(SocketAddr::from((ip, 50051)));
        ListedBackend {
            addr: addr.expect("10.x.x.x can be called"),
            weight: *weight,
        }
    };
    // From 64 backends on, a mean backend has 4 slots.
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    ListSpec {
        backends: (0..).zip(weights).map(backend).collect(),
        operator_weights: false,
        mean: Some(mean * 4.0 / entries_per_backend),
        drops: Vec::new(),
    }
}

/// Log-normal weights with σ = 0.5, within 0.1 to 10.
fn log_normal(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut normal = move || {
        let (u, v) = (1.0 - rng.f64(), rng.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let weights = std::iter::repeat_with(|| (0.5 * normal()).exp().clamp(0.1, 10.0));
    weights.take(n).collect()
}

fn quantiles<T>(mut work: impl FnMut() -> T) -> Quantiles {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            // Dropped after the clock is read: freeing is not encoding.
            let made = black_box(work());
            let time = start.elapsed();
            drop(made);
            time.as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    Quantiles {
        min: times[0],
        p50: times[ROUNDS / 2],
        p90: times[ROUNDS * 9 / 10],
    }
}

fn per_stream_ns(frame: impl Fn(u64) -> ListFrame) -> f64 {
    const STREAMS: u64 = 1000;
    let all = quantiles(|| (0..STREAMS).map(&frame).collect::<Vec<_>>());
    all.p50 * 1000.0 / STREAMS as f64
}

fn share_error(entries_per_backend: u32) -> ShareError {
    let mut mean = Errors::default();
    let mut single = Errors::default();
    for seed in 0..SEEDS {
        let weights = log_normal(100, seed);
        let lists = encoded(&weights, f64::from(entries_per_backend));
        let sum: f64 = weights.iter().sum();
        let mut shares = vec![0.0; weights.len()];
        for ordinal in 0..VARIANTS {
            let entries = lists.variant(ordinal as u64).entries();
            let counts = counts_of(entries, weights.len());
            for ((share, count), weight) in shares.iter_mut().zip(counts).zip(&weights) {
                let seen = f64::from(count) / entries.len() as f64;
                *share += seen / VARIANTS as f64;
                single.add(seen, weight / sum);
            }
        }
        for (share, weight) in shares.iter().zip(&weights) {
            mean.add(*share, weight / sum);
        }
    }
    ShareError {
        entries_per_backend,
        rms: mean.rms(),
        max: mean.max,
        one_list_rms: single.rms(),
        one_list_max: single.max,
        one_list_max_points: single.max_points,
    }
}

#[derive(Debug, Default)]
struct Errors {
    squares: f64,
    count: f64,
    max: f64,
    max_points: f64,
}

impl Errors {
    fn add(&mut self, seen: f64, wanted: f64) {
        let error = (seen / wanted - 1.0).abs();
        self.squares += error * error;
        self.count += 1.0;
        self.max = self.max.max(error);
        self.max_points = self.max_points.max((seen - wanted).abs());
    }

    fn rms(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}

/// Judges an order of the counts of every variant, over all draws.
fn smoothness(
    order: &'static str,
    arrange: impl Fn(&ServerLists, usize) -> Vec<u32>,
) -> Smoothness {
    let mut rows: Vec<[f64; 3]> = Vec::new();
    for seed in 0..SEEDS {
        let lists = encoded(&log_normal(100, seed), 8.0);
        rows.extend((0..VARIANTS).map(|variant| spread(&arrange(&lists, variant))));
    }
    let column = |column: usize| {
        let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let [deviation, widest, closest] = [0, 1, 2].map(column);
    let last = rows.len() - 1;
    Smoothness {
        order,
        prefix_deviation: deviation[last],
        gap_max: widest[last],
        gap_min: closest[0],
        medians: [deviation, widest, closest].map(|values| values[last / 2]),
    }
}

/// Largest deviation of any prefix, widest and closest gap over the even one.
fn spread(order: &[u32]) -> [f64; 3] {
    let len = order.len() as f64;
    let mut places: HashMap<u32, Vec<f64>> = HashMap::new();
    for (at, item) in order.iter().enumerate() {
        places.entry(*item).or_default().push(at as f64);
    }
    let mut worst = [0.0, 0.0, f64::INFINITY];
    for places in places.values() {
        let even = len / places.len() as f64;
        for (copy, at) in places.iter().enumerate() {
            // Just before this copy its backend lags most, just after it leads.
            let before = at / even - copy as f64;
            let after = (at + 1.0) / even - (copy + 1) as f64;
            worst[0] = before.abs().max(after.abs()).max(worst[0]);
            let next = places.get(copy + 1).copied().unwrap_or(places[0] + len);
            worst[1] = worst[1].max((next - at) / even);
            worst[2] = worst[2].min((next - at) / even);
        }
    }
    worst
}

fn index_of(entry: Entry) -> u32 {
    match entry {
        Entry::Backend(index) | Entry::Drop(index) => index,
    }
}

fn counts_of(entries: &[Entry], backends: usize) -> Vec<u32> {
    let mut counts = vec![0; backends];
    for entry in entries {
        counts[index_of(*entry) as usize] += 1;
    }
    counts
}

/// nginx: every turn each item gains its count, the highest is taken and pays
/// the sum.
fn smooth_wrr(counts: &[u32]) -> Vec<u32> {
    let sum: i64 = counts.iter().map(|count| i64::from(*count)).sum();
    let mut credit = vec![0i64; counts.len()];
    let mut turn = || {
        let mut best = 0;
        for (item, count) in counts.iter().enumerate() {
            credit[item] += i64::from(*count);
            if credit[item] > credit[best] {
                best = item;
            }
        }
        credit[best] -= sum;
        best as u32
    };
    (0..sum).map(|_| turn()).collect()
}

fn shuffle(counts: &[u32], seed: u64) -> Vec<u32> {
    let items = (0u32..).zip(counts);
    let mut order: Vec<u32> = items
        .flat_map(|(item, count)| std::iter::repeat_n(item, *count as usize))
        .collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}
