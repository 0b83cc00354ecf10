//! `lookaside weight`, `drain` and `undrain`: edits of the configuration file.
//!
//! Nothing is sent to a balancer: it follows the file. A file that is not right
//! is never written, and a file is replaced as a whole where that can be.

mod change;
mod replace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use self::change::{Error, change};
use super::print::printed;
use crate::config::{BackendConfig, set_drain, set_weight};
use lookaside_core::model::{BackendAddr, ServiceName, Weight};

/// Change the weight of a backend in the configuration file
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WeightArgs {
    /// Name of the service, or an alias
    #[arg(value_parser = ServiceName::parse)]
    pub(super) service: ServiceName,
    /// The backend, as 10.0.1.1:50051
    pub(super) backend: BackendAddr,
    /// Its share of calls relative to the other backends; 0 drains it
    #[arg(value_parser = weight, allow_negative_numbers = true)]
    pub(super) weight: Weight,
    /// Set weight 0 even if it takes the last backend of the service that gets calls
    #[arg(long)]
    pub(super) force: bool,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "lookaside.toml")]
    pub(super) config: PathBuf,
}

/// Which backends to drain in the configuration file
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub(super) which: Which,
    /// Drain even the last backend of the service that gets calls
    #[arg(long)]
    pub(super) force: bool,
}

/// Which backends to undrain in the configuration file
#[derive(Debug, Clone, clap::Args)]
pub(super) struct UndrainArgs {
    #[command(flatten)]
    pub(super) which: Which,
}

/// Backends of one service
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Which {
    /// Name of the service, or an alias
    #[arg(value_parser = ServiceName::parse)]
    pub(super) service: ServiceName,
    /// The backends, as 10.0.1.1:50051
    #[arg(value_name = "BACKEND", required = true)]
    pub(super) backends: Vec<BackendAddr>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "lookaside.toml")]
    pub(super) config: PathBuf,
}

/// `lookaside weight`. What changed goes to stdout.
#[must_use]
pub(super) fn run_weight(args: &WeightArgs) -> ExitCode {
    printed(|out, err| finish(edit_weight(args), out, err))
}

/// `lookaside drain`: no new calls; those begun go on. What changed goes to
/// stdout. Either all of the backends are drained or none is.
#[must_use]
pub(super) fn run_drain(args: &DrainArgs) -> ExitCode {
    printed(|out, err| finish(edit_drain(args), out, err))
}

/// `lookaside undrain`, the other way round.
#[must_use]
pub(super) fn run_undrain(args: &UndrainArgs) -> ExitCode {
    printed(|out, err| finish(edit_undrain(args), out, err))
}

/// `lookaside weight` and its like are an edit and what to say of it.
fn edit_weight(args: &WeightArgs) -> Result<String, Error> {
    let (service, backend, weight) = (&args.service, args.backend, args.weight);
    let edited = change(&args.config, service, args.force, |text| {
        set_weight(text, service, backend, weight)
    })?;
    let old = edited.before(service, backend).and_then(|b| b.weight);
    let old = old.unwrap_or_default();
    let mut said = if edited.changed {
        format!("{service} {backend}: weight {old} -> {weight}\n")
    } else {
        format!("{service} {backend}: weight is {weight} already\n")
    };
    if weight.is_drained() {
        said += &edited.nothing_left(service);
    } else if edited
        .after(service, backend)
        .as_ref()
        .is_some_and(is_drained)
    {
        said += &format!("{service} {backend} is drained and stays so\n");
    }
    Ok(said + &edited.note)
}

fn edit_drain(args: &DrainArgs) -> Result<String, Error> {
    let Which {
        service,
        backends,
        config,
    } = &args.which;
    let edited = change(config, service, args.force, |text| {
        let mut backends = backends.iter();
        backends.try_fold(text.to_owned(), |text, backend| {
            set_drain(&text, service, *backend, true)
        })
    })?;
    let mut said = String::new();
    for backend in backends {
        let done = match edited.before(service, *backend) {
            Some(before) if is_drained(&before) => "drained already",
            Some(_) => "drained",
            None => {
                "drained by an entry added to the file, which does not list this backend; the \
                 entry holds whatever the backend registers, and undrain removes it"
            }
        };
        said += &format!("{service} {backend}: {done}\n");
    }
    Ok(said + &edited.nothing_left(service) + &edited.note)
}

fn edit_undrain(args: &UndrainArgs) -> Result<String, Error> {
    let Which {
        service,
        backends,
        config,
    } = &args.which;
    // It takes calls from nobody.
    let edited = change(config, service, true, |text| {
        let mut backends = backends.iter();
        backends.try_fold(text.to_owned(), |text, backend| {
            set_drain(&text, service, *backend, false)
        })
    })?;
    let mut said = String::new();
    for backend in backends {
        let before = edited.before(service, *backend);
        let after = edited.after(service, *backend);
        let done = match (before, after) {
            (None, _) => "was not drained by the file, which does not list it",
            (Some(_), None) => "undrained; the entry that drained it is removed",
            (Some(before), _) if before.weight.is_some_and(Weight::is_drained) => {
                "undrained; its weight was 0 and is 1 now, as the file does not have the one \
                 before; `lookaside weight` sets another"
            }
            (Some(before), _) if is_drained(&before) => "undrained",
            _ => "was not drained",
        };
        said += &format!("{service} {backend}: {done}\n");
    }
    Ok(said + &edited.note)
}

fn is_drained(backend: &BackendConfig) -> bool {
    backend.drain == Some(true)
}

/// What was done goes to `out`, why nothing was done to `err`.
fn finish(edited: Result<String, Error>, out: &mut impl Write, err: &mut impl Write) -> ExitCode {
    match edited {
        Ok(said) => {
            let _ = write!(out, "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::from(error.code())
        }
    }
}

fn weight(text: &str) -> Result<Weight, String> {
    let number = text.parse::<f64>();
    let number = number.map_err(|_| "not a number; write one, e.g. 3 or 0.5".to_owned())?;
    Weight::new(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
