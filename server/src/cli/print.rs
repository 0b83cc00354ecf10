//! What commands print: answers to stdout, everything else to stderr.
//!
//! Text of peers and files is in both, so both are escaped. A reader that has gone,
//! as behind `| head`, ends a command without a word; a line that stderr does not
//! take is lost.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::telemetry::{Escapes, escape};

/// Why an answer did not reach its reader.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub(super) struct Unwritable(io::Error);

// Not `#[from]`: the text above already holds the cause, and it would be printed
// twice.
impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl Unwritable {
    /// Whether the reader has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints an answer and a newline to stdout.
pub(super) fn answer(answer: &impl Display) -> Result<(), Unwritable> {
    print(&format!("{answer}\n"))
}

/// Prints lines to stdout.
pub(super) fn print(lines: &str) -> Result<(), Unwritable> {
    print_as_is(escape(lines, Escapes::Lines).as_bytes())
}

/// Prints what this program alone has made to stdout.
pub(super) fn print_as_is(bytes: &[u8]) -> Result<(), Unwritable> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    printed.map_err(Unwritable)
}

/// Prints to stderr, with a newline.
pub(super) fn say(what: &impl Display) {
    let what = format!("{what}\n");
    let _ = io::stderr()
        .lock()
        .write_all(escape(&what, Escapes::Lines).as_bytes());
}

/// Shows what need not be seen to the end; an error if the reader has gone.
pub(super) fn show(shown: io::Result<()>) -> Result<(), Unwritable> {
    match shown.map_err(Unwritable) {
        Err(error) if error.is_closed() => Err(error),
        _ => Ok(()),
    }
}

/// Runs a command that writes what goes to stdout and to stderr, and prints both.
pub(super) fn printed(command: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> ExitCode) -> ExitCode {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = command(&mut out, &mut err);
    let printed = print(&String::from_utf8_lossy(&out));
    let err = String::from_utf8_lossy(&err);
    if let Some(err) = err.strip_suffix('\n') {
        say(&err);
    }
    match printed {
        Err(error) if !error.is_closed() => super::report(&super::Failure::Run(error.into())),
        _ => code,
    }
}
