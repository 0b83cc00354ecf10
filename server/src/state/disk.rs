//! Reading and replacing the file. Whoever reads it finds the old one or the new
//! one, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::format::{BEGINNING, is_ours};

/// The state of a hundred thousand backends is less; what is larger is another
/// file by mistake.
const MAX_SIZE: u64 = 256 << 20;

/// The file's bytes; `None` if there is none yet.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    // As of one that was just made.
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// Puts a new file in its place: written and synced beside it, then renamed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    let folder = folder(path);
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
    match foreign(path) {
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
            return Ok(Some("it is no plain file; name another"));
        }
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    File::open(path)?
        .take(BEGINNING)
        .read_to_end(&mut beginning)?;
    let ours = is_ours(&beginning);
    Ok((!ours).then_some("it is there, and is no state of a balancer; name another file"))
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
