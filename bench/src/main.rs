//! Load generators, with a baseline beside what they measure.
//!
//! | command | what it measures |
//! |---|---|
//! | `fanout` | a changed list to N streams: time, CPU, memory, beside servers of tonic and grpc-go |
//! | `storm` | N clients at once, and again after the balancer was killed |
//! | `rpc` | a unary RPC over our channel, beside tonic's and beside proxies |
//! | `churn` | backends killed and restarted in turn: what our channel notices, and tonic's |
//! | `pick` | choosing a connection, beside grpc-go's |
//! | `balance` | uneven backends under each weight policy; a killed backend leaves the lists |
//! | `plan` | who gets which list, of thousands of backends |
//! | `encode` | weights to lists: time, and how true and how smooth they are |
//!
//! `bench/README.md` says how, and has the results.

mod backends;
mod balance;
mod balancer;
mod child;
mod churn;
mod clock;
mod encode;
mod fanout;
mod go;
mod median;
mod pick;
mod plan;
mod process;
mod rpc;
mod serve;
mod storm;
mod swarm;

use anyhow::Result;
use clap::{Parser, Subcommand};

// Every process of a run, as the `lookaside` binary has it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Debug, Parser)]
#[command(
    name = "lookaside-bench",
    about = "Measures the balancer beside a baseline"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A changed list to N streams, beside servers made of tonic and grpc-go.
    Fanout(fanout::FanoutArgs),
    /// N clients at once, and again after the server was killed.
    Storm(storm::StormArgs),
    /// Weights to lists: time, and how true and how smooth they are.
    Encode(encode::EncodeArgs),
    /// Who gets which list, of thousands of backends: time, and what changes.
    Plan(plan::PlanArgs),
    /// A unary RPC over our channel, beside tonic's channels and beside proxies.
    Rpc(rpc::RpcArgs),
    /// Backends killed and restarted in turn: what our channel notices, and tonic's.
    Churn(churn::ChurnArgs),
    /// Choosing a connection for an RPC, beside grpc-go.
    Pick(pick::PickArgs),
    /// Uneven backends under each weight policy, and killed ones.
    Balance(balance::BalanceArgs),
    /// A server under test; the other commands start it.
    #[command(hide = true)]
    Serve(serve::ServeArgs),
    /// The clients; the other commands start them.
    #[command(hide = true)]
    Swarm(swarm::SwarmArgs),
    /// A backend; the other commands start it.
    #[command(hide = true)]
    Echo(rpc::EchoArgs),
    /// The balancer; the other commands start it.
    #[command(hide = true)]
    Balancer(balancer::BalancerArgs),
    /// A backend with so many permits; the other commands start it.
    #[command(hide = true)]
    Pool(balance::PoolArgs),
    /// Clients whose calls come when they come; the other commands start it.
    #[command(hide = true)]
    Arrivals(balance::ArrivalsArgs),
    /// Clients that note who is listed; the other commands start it.
    #[command(hide = true)]
    Watchers(balance::WatchersArgs),
    /// A client that calls; the other commands start it.
    #[command(hide = true)]
    Caller(rpc::CallerArgs),
    /// A client that calls all the time; the other commands start it.
    #[command(hide = true)]
    Steady(churn::SteadyArgs),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Fanout(args) => fanout::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Encode(args) => encode::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Pick(args) => pick::run(&args),
        Command::Rpc(args) => rpc::run(&args),
        Command::Churn(args) => churn::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Swarm(args) => swarm::run(args),
        Command::Echo(args) => rpc::run_echo(&args),
        Command::Balance(args) => balance::run(&args),
        Command::Balancer(args) => balancer::run(&args),
        Command::Pool(args) => balance::run_pool(&args),
        Command::Arrivals(args) => balance::run_arrivals(&args),
        Command::Watchers(args) => balance::run_watchers(&args),
        Command::Caller(args) => rpc::run_caller(&args),
        Command::Steady(args) => churn::run_steady(&args),
    }
}
