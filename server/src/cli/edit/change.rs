//! One change of the file: read, edited, judged, written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::replace::{NotWritten, Written, lock, replace};
use crate::cli::check::BAD_INPUT;
use crate::config::{BackendConfig, Config, ConfigErrors, EditError, ServiceConfig, parse};
use crate::discovery::file::read_config;
use crate::file::{self, PATIENCE};
use lookaside_core::model::{BackendAddr, ServiceName, Weight};

/// Exit code for what failed though the input was right.
const FAILED: u8 = 1;

/// A file that others have changed each of so many times is not for us to edit now.
const TRIES: usize = 20;

/// What is being written by somebody else is read again after this time.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a file was not edited.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    #[error("{}: {error}", file.display())]
    Edit { file: PathBuf, error: EditError },
    /// The file was right, and the edited one is not.
    #[error("not written, because the file would become invalid:\n{0}")]
    WouldBreak(ConfigErrors),
    /// Nobody would get calls.
    #[error(
        "{}: not written: service `{service}` would have no backend left that gets calls, and the \
         calls of clients without fallback addresses would fail; to do so anyway, add --force",
        file.display()
    )]
    LastBackend { file: PathBuf, service: ServiceName },
    #[error("{}: not written: {error}", file.display())]
    Write { file: PathBuf, error: NotWritten },
}

impl Error {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Write { .. } => FAILED,
            _ => BAD_INPUT,
        }
    }
}

/// A file before and after its edit, both right.
pub(super) struct Edited {
    before: Config,
    after: Config,
    pub(super) changed: bool,
    /// What else the operator should know.
    pub(super) note: String,
}

impl Edited {
    /// What the file said of a backend, if it has it.
    pub(super) fn before(&self, service: &ServiceName, addr: BackendAddr) -> Option<BackendConfig> {
        find(&self.before, service, addr)
    }

    /// What it says now.
    pub(super) fn after(&self, service: &ServiceName, addr: BackendAddr) -> Option<BackendConfig> {
        find(&self.after, service, addr)
    }

    /// A remark, if the file lists no backend of the service that gets calls.
    pub(super) fn nothing_left(&self, service: &ServiceName) -> String {
        let found = named(&self.after, service);
        match found {
            Some(found) if serves(found) => String::new(),
            Some(found) if found.register.is_some() => format!(
                "{service} gets calls only at backends that register: the file lists none that is \
                 not drained\n"
            ),
            _ => format!(
                "{service} has no backend left that gets calls: those of clients without fallback \
                 addresses fail\n"
            ),
        }
    }
}

/// Edits the file with `edit`, as often as others change it meanwhile. Unless it is
/// by `force`, the last backend of `service` that gets calls keeps them.
pub(super) fn change(
    file: &Path,
    service: &ServiceName,
    force: bool,
    mut edit: impl FnMut(&str) -> Result<String, EditError>,
) -> Result<Edited, Error> {
    let name = file.display().to_string();
    let _locked = locked(file);
    let mut invalid: Option<String> = None;
    for _ in 0..TRIES {
        let text = read_config(file)?;
        let before = match parse(&text, &name) {
            Ok(before) => before,
            // It may be half of what somebody is about to write.
            Err(errors) if invalid.as_ref() == Some(&text) => return Err(errors.into()),
            Err(_) => {
                invalid = Some(text);
                pause();
                continue;
            }
        };
        let new = edit(&text).map_err(|error| Error::Edit {
            file: file.to_owned(),
            error,
        })?;
        let after = parse(&new, &name).map_err(Error::WouldBreak)?;
        if !force && is_last(&before, &after, service) {
            return Err(Error::LastBackend {
                file: file.to_owned(),
                service: service.clone(),
            });
        }
        let changed = new != text;
        let note = match changed.then(|| write(file, text, new)) {
            None => String::new(),
            Some(Ok(written)) => note(&name, &written),
            Some(Err(NotWritten::Changed)) => continue,
            Some(Err(error)) => return Err(unwritten(file, error)),
        };
        return Ok(Edited {
            before,
            after,
            changed,
            note,
        });
    }
    Err(unwritten(file, NotWritten::Changed))
}

/// A command has no runtime to wait in.
#[expect(clippy::disallowed_methods, reason = "no worker's thread")]
fn pause() {
    sleep(PAUSE);
}

/// The lock, if others give it back in time.
fn locked(file: &Path) -> Option<File> {
    let owned = file.to_owned();
    // Not in the file's own line: whoever has the lock reads the file.
    let folder = file.parent().unwrap_or(file);
    let locked = file::run_blocking(folder, PATIENCE, move |_| lock(&owned));
    locked.ok().flatten()
}

fn write(file: &Path, old: String, new: String) -> Result<Written, NotWritten> {
    let written = file::run_blocking(file, PATIENCE, move |path| replace(path, &old, &new));
    written.unwrap_or_else(|error| Err(io::Error::from(error).into()))
}

fn unwritten(file: &Path, error: NotWritten) -> Error {
    Error::Write {
        file: file.to_owned(),
        error,
    }
}

fn note(file: &str, written: &Written) -> String {
    match written {
        Written::Replaced { owner_kept: true } => String::new(),
        Written::Replaced { owner_kept: false } => {
            format!("{file} has another owner now: only root can keep the one it had\n")
        }
        Written::InPlace { why } => {
            format!("{file} was written in place, because it cannot be replaced: {why}\n")
        }
    }
}

/// Whether the edit takes the last backend that gets calls from a service. Where
/// backends register, the file does not know the others.
fn is_last(before: &Config, after: &Config, service: &ServiceName) -> bool {
    let served = named(before, service).is_some_and(serves);
    let served_now = |s: &ServiceConfig| serves(s) || s.register.is_some();
    served && !named(after, service).is_some_and(served_now)
}

/// Whether the file lists a backend that gets calls.
fn serves(service: &ServiceConfig) -> bool {
    let drained =
        |b: &BackendConfig| b.drain == Some(true) || b.weight.is_some_and(Weight::is_drained);
    !service.backends.iter().all(drained)
}

fn named<'a>(config: &'a Config, service: &ServiceName) -> Option<&'a ServiceConfig> {
    let named = |s: &&ServiceConfig| s.name == *service || s.aliases.contains(service);
    config.services.iter().find(named)
}

fn find(config: &Config, service: &ServiceName, backend: BackendAddr) -> Option<BackendConfig> {
    let mut backends = named(config, service)?.backends.iter();
    backends.find(|b| b.address == backend).cloned()
}
