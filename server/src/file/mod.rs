//! The one way in which this process reads a file that a person named.
//!
//! A path may lead to a named pipe, to `/dev/zero`, or to a network mount whose
//! server is away. None of them may take a thread that streams wait for, fill
//! the memory, or keep the process from ending. So a file is
//!
//! - a regular file, or it is refused with what it is instead ([`open`]);
//! - opened without blocking, and read up to a limit;
//! - read on a thread of its own, which is given up after a while
//!   ([`PATIENCE`]). There is one such thread per path at most: while it hangs,
//!   whoever asks for the same path is refused at once, and other paths are read
//!   as ever ([`run`]).
//!
//! | where | use |
//! |---|---|
//! | in async code | [`read`] |
//! | in a command, at start, on a thread that may block for [`PATIENCE`] | [`read_blocking`] |
//! | more than reading (look, write, rename) | [`run`], [`run_blocking`], and in it [`read_here`] |

mod aside;
mod regular;

pub use aside::{Unanswered, run, run_blocking};
pub use regular::{ReadError, open, read_here};

use std::path::Path;
use std::time::Duration;

/// A file system that does not answer within this time hangs.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of the regular file at `path`, of which there may be `most`.
///
/// # Errors
/// If it cannot be read, is not a regular file, is larger, or does not answer
/// within [`PATIENCE`].
pub async fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    run(path, PATIENCE, move |path| read_here(path, most)).await?
}

/// The same for a thread that may wait: a command, or a balancer that starts.
///
/// # Errors
/// As [`read`].
pub fn read_blocking(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    run_blocking(path, PATIENCE, move |path| read_here(path, most))?
}
