//! Reading and replacing the file. Whoever reads it finds the old one or the new
//! one, whole. A file behind links is the one that they lead to: they stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::format::{BEGINNING, is_ours};
use crate::file::{self, PATIENCE, ReadError};

/// The state of a hundred thousand backends is less; what is larger is another
/// file by mistake.
const MAX_SIZE: u64 = 256 << 20;

/// More links than this are a loop, as Linux has it.
const MAX_LINKS: usize = 40;

/// The file's bytes; `None` if there is none yet.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    match file::read_blocking(path, MAX_SIZE) {
        // As of one that was just made.
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a new file in its place: written and synced beside it, then renamed. It may
/// take as long as the disk does.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &behind_links(path)?;
    if let Some(foreign) = foreign(path)? {
        return Err(io::Error::other(foreign));
    }
    let new = beside(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // A link that somebody put there is not followed.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&new);
    }
    replaced?;
    // Without it the rename may be lost with the power, and nothing else.
    let _ = File::open(folder(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

/// What will keep this file from being written, if that can be told now, and what
/// would be right.
#[must_use]
pub fn trouble_with(path: &Path) -> Option<String> {
    match file::run_blocking(path, PATIENCE, trouble) {
        Ok(trouble) => trouble,
        Err(error) => Some(error.to_string()),
    }
}

fn trouble(path: &Path) -> Option<String> {
    let path = match behind_links(path) {
        Ok(path) => path,
        Err(error) => return Some(format!("{error}; name another file")),
    };
    let folder = folder(&path);
    let named = folder.display();
    match fs::metadata(folder) {
        Err(error) => {
            return Some(format!(
                "its folder {named} cannot be used ({error}); make it"
            ));
        }
        Ok(found) if !found.is_dir() => {
            return Some(format!("{named} is no folder; name a file in one"));
        }
        Ok(_) => {}
    }
    if let Err(error) = tempfile::tempfile_in(folder) {
        return Some(format!(
            "this user cannot write to its folder {named} ({error}); let the balancer's user do so"
        ));
    }
    match foreign(&path) {
        Ok(foreign) => foreign.map(str::to_owned),
        Err(error) => Some(format!("it cannot be read ({error}); remove it")),
    }
}

/// What stands at the path that must not be replaced.
fn foreign(path: &Path) -> io::Result<Option<&'static str>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(found) if found.is_dir() => {
            return Ok(Some("it is a folder; name a file in it"));
        }
        Ok(found) if !found.is_file() => {
            return Ok(Some("it is not a regular file; name another"));
        }
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    file::open(path)?
        .take(BEGINNING)
        .read_to_end(&mut beginning)?;
    let ours = is_ours(&beginning);
    Ok((!ours).then_some("it is there, and is no state of a balancer; name another file"))
}

/// The path of what links lead to, which need not be there yet.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            // Not a link, or nothing yet, or not to be looked at: what follows says.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(
        "it is a symbolic link that leads to itself",
    ))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Always the same, so that a balancer that is killed leaves one at most.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
