//! `lookaside weight`, `drain` and `undrain`: edits of the configuration file.
//!
//! Nothing is sent to a balancer: it follows the file. A file that is not right
//! is never written, and a file is replaced as a whole.

mod replace;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::replace::replace;
use super::check::BAD_INPUT;
use crate::config::{
    BackendConfig, Config, ConfigErrors, EditError, ServiceConfig, parse, set_drain, set_weight,
};
use crate::discovery::file::read_config;
use crate::model::{BackendAddr, Labels, ServiceName, Weight};

/// Exit code for what failed though the input was right.
const FAILED: u8 = 1;

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
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "lookaside.toml")]
    pub(super) config: PathBuf,
}

/// Which backends to drain, or to undrain, in the configuration file
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DrainArgs {
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
    finish(edit_weight(args), &mut io::stdout(), &mut io::stderr())
}

/// `lookaside drain`: no new calls; those begun go on. What changed goes to
/// stdout. Either all of the backends are drained or none is.
#[must_use]
pub(super) fn run_drain(args: &DrainArgs) -> ExitCode {
    finish(edit_drain(args, true), &mut io::stdout(), &mut io::stderr())
}

/// `lookaside undrain`, the other way round.
#[must_use]
pub(super) fn run_undrain(args: &DrainArgs) -> ExitCode {
    finish(
        edit_drain(args, false),
        &mut io::stdout(),
        &mut io::stderr(),
    )
}

/// Why a file was not edited.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    #[error("{}: {error}", file.display())]
    Edit { file: PathBuf, error: EditError },
    /// The file was right, and the edited one is not.
    #[error("not written, for then it would be wrong:\n{0}")]
    WouldBreak(ConfigErrors),
    #[error("{}: not written: {error}", file.display())]
    Write { file: PathBuf, error: io::Error },
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Self::Write { .. } => FAILED,
            _ => BAD_INPUT,
        }
    }
}

/// `lookaside weight` and its like are an edit and what to say of it.
fn edit_weight(args: &WeightArgs) -> Result<String, Error> {
    let (service, backend, weight) = (&args.service, args.backend, args.weight);
    let edited = edit(&args.config, |text| {
        set_weight(text, service, backend, weight)
    })?;
    let old = edited.before(service, backend).weight.unwrap_or_default();
    let mut said = if edited.changed {
        format!("{service} {backend}: weight {old} -> {weight}\n")
    } else {
        format!("{service} {backend}: weight is {weight} already\n")
    };
    if weight.is_drained() {
        said += &edited.nothing_left(service);
    } else if edited.after(service, backend).drain == Some(true) {
        said += &format!("{service} {backend} is drained and stays so\n");
    }
    Ok(said + &edited.note)
}

fn edit_drain(args: &DrainArgs, drain: bool) -> Result<String, Error> {
    let service = &args.service;
    let edited = edit(&args.config, |text| {
        let mut text = text.to_owned();
        for backend in &args.backends {
            text = set_drain(&text, service, *backend, drain)?;
        }
        Ok(text)
    })?;
    let mut said = String::new();
    for backend in &args.backends {
        let drained = edited.before(service, *backend).drain == Some(true);
        let done = match (drained, drain) {
            (false, true) => "drained",
            (true, true) => "drained already",
            (true, false) => "undrained",
            (false, false) => "was not drained",
        };
        said += &format!("{service} {backend}: {done}\n");
    }
    if drain {
        said += &edited.nothing_left(service);
    }
    Ok(said + &edited.note)
}

/// A file before and after its edit, both right.
struct Edited {
    before: Config,
    after: Config,
    changed: bool,
    /// What else the operator should know.
    note: String,
}

impl Edited {
    fn before(&self, service: &ServiceName, backend: BackendAddr) -> BackendConfig {
        find(&self.before, service, backend)
    }

    fn after(&self, service: &ServiceName, backend: BackendAddr) -> BackendConfig {
        find(&self.after, service, backend)
    }

    /// A remark, if the service has no backend left that gets calls.
    fn nothing_left(&self, service: &ServiceName) -> String {
        let mut backends = backends(&self.after, service).iter();
        let drained =
            |b: &BackendConfig| b.drain == Some(true) || b.weight.is_some_and(Weight::is_drained);
        if backends.all(drained) {
            format!(
                "{service} has no backend left that gets calls: those of clients without fallback addresses fail\n"
            )
        } else {
            String::new()
        }
    }
}

fn backends<'a>(config: &'a Config, service: &ServiceName) -> &'a [BackendConfig] {
    let named = |s: &&ServiceConfig| s.name == *service || s.aliases.contains(service);
    let found = config.services.iter().find(named);
    found.map_or(&[], |service| &service.backends)
}

/// What the file says of a backend; nothing, if it has none such.
fn find(config: &Config, service: &ServiceName, backend: BackendAddr) -> BackendConfig {
    let mut backends = backends(config, service).iter();
    let found = backends.find(|b| b.address == backend).cloned();
    found.unwrap_or_else(|| BackendConfig {
        address: backend,
        weight: None,
        zone: None,
        drain: None,
        labels: Labels::default(),
    })
}

fn edit(
    file: &Path,
    edit: impl FnOnce(&str) -> Result<String, EditError>,
) -> Result<Edited, Error> {
    let name = file.display().to_string();
    let text = read_config(file)?;
    let before = parse(&text, &name)?;
    let new = edit(&text).map_err(|error| Error::Edit {
        file: file.to_owned(),
        error,
    })?;
    let after = parse(&new, &name).map_err(Error::WouldBreak)?;
    let changed = new != text;
    let mut note = String::new();
    if changed {
        let written = replace(file, &text, &new).map_err(|error| Error::Write {
            file: file.to_owned(),
            error,
        })?;
        if !written.owner_kept {
            note = format!(
                "{name} belongs to whoever ran this now, for nobody else may give it away\n"
            );
        }
    }
    Ok(Edited {
        before,
        after,
        changed,
        note,
    })
}

/// Nobody is left to tell if the streams cannot be written to; the exit code
/// says it all.
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
    let number = number.map_err(|_| "this is no number; write one, as 3 or 0.5".to_owned())?;
    Weight::new(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
