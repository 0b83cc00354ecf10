//! Writing the file: replaced as a whole where that can be, else in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::file::{self, ReadError};

/// How the file was written.
#[derive(Debug)]
pub(super) enum Written {
    /// Another file is in its place, with the same permissions.
    Replaced {
        /// Whether it belongs to the same user and group, too.
        owner_kept: bool,
    },
    /// It is the same file, because it cannot be replaced.
    InPlace {
        /// Why not.
        why: io::Error,
    },
}

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    /// Somebody else wrote it first.
    #[error("it is being changed by others; run this again when they are done")]
    Changed,
    /// The system says why.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It can be written in neither way.
    #[error(
        "it cannot be replaced ({replace}) and cannot be written in place ({in_place}); run this \
         as a user who may write it and where it is mounted writable, or edit it at its source, \
         e.g. the ConfigMap that it is mounted from"
    )]
    ReadOnly {
        /// Why it was not replaced.
        replace: io::Error,
        /// Why it was not written in place.
        in_place: io::Error,
    },
}

/// Writes `new` to the file at `path`, or to the one it links to, if it is still
/// `old`. Readers find the one or the other, unless the file can only be written in
/// place.
pub(super) fn replace(path: &Path, old: &str, new: &str) -> Result<Written, NotWritten> {
    let path = &fs::canonicalize(path)?;
    match replace_whole(path, old, new) {
        Err(NotWritten::Io(why)) if is_in_the_way(&why) => match write_in_place(path, old, new) {
            Ok(()) => Ok(Written::InPlace { why }),
            Err(NotWritten::Io(in_place)) => Err(NotWritten::ReadOnly {
                replace: why,
                in_place,
            }),
            Err(changed) => Err(changed),
        },
        written => written,
    }
}

/// Keeps other runs of these commands away from the file until it is dropped; waits
/// for them. `None` where that cannot be: then a file that changed is read again.
pub(super) fn lock(path: &Path) -> Option<File> {
    let path = fs::canonicalize(path).ok()?;
    // The folder, as the file is replaced, and as nothing is left behind there.
    let folder = File::open(path.parent()?).ok()?;
    flock(&folder, FlockOperation::LockExclusive).ok()?;
    Some(folder)
}

/// Whether the file's place is what keeps it from being replaced: it is mounted by
/// itself, or its folder is somebody else's.
fn is_in_the_way(error: &io::Error) -> bool {
    let places = [
        Errno::BUSY,
        Errno::XDEV,
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
    ];
    Errno::from_io_error(error).is_some_and(|errno| places.contains(&errno))
}

fn replace_whole(path: &Path, old: &str, new: &str) -> Result<Written, NotWritten> {
    let folder = path.parent().unwrap_or(path);
    let mut new_file = tempfile::Builder::new()
        .prefix(".lookaside-")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    new_file.write_all(new.as_bytes())?;
    let metadata = fs::metadata(path)?;
    let owner_kept = keep_owner(&new_file, &metadata);
    // After the owner: giving a file away can take permissions off it.
    new_file.as_file().set_permissions(metadata.permissions())?;
    new_file.as_file().sync_all()?;

    let found = match file::read_here(path, old.len() as u64) {
        Err(ReadError::TooLarge(_)) => return Err(NotWritten::Changed),
        found => found.map_err(io::Error::from)?,
    };
    if found != old.as_bytes() {
        return Err(NotWritten::Changed);
    }
    new_file.persist(path).map_err(|error| error.error)?;
    // The name, too, is to survive a power cut. Not every file system can.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(Written::Replaced { owner_kept })
}

fn keep_owner(file: &NamedTempFile, old: &fs::Metadata) -> bool {
    let Ok(new) = file.as_file().metadata() else {
        return false;
    };
    let same = (new.uid(), new.gid()) == (old.uid(), old.gid());
    same || fchown(file.as_file(), Some(old.uid()), Some(old.gid())).is_ok()
}

/// Owner, permissions and whatever the file is mounted as stay. A balancer that reads
/// half of it waits for the rest.
fn write_in_place(path: &Path, old: &str, new: &str) -> Result<(), NotWritten> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut found = Vec::new();
    let most = old.len() as u64 + 1;
    (&mut file).take(most).read_to_end(&mut found)?;
    if found != old.as_bytes() {
        return Err(NotWritten::Changed);
    }
    if let Err(error) = overwrite(&mut file, new) {
        // A full disk has room for what was there.
        let _ = overwrite(&mut file, old);
        return Err(error.into());
    }
    Ok(())
}

fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_file_behind_a_link_is_replaced_and_keeps_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let link = dir.path().join("link");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("target", &link).unwrap();
        let before = fs::metadata(&target).unwrap();

        let written = replace(&link, "old", "new").unwrap();
        assert!(matches!(written, Written::Replaced { owner_kept: true }));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        let after = fs::metadata(&target).unwrap();
        assert_eq!(after.mode() & 0o777, 0o640);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "it is another file");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_somebody_else_has_written_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "theirs").unwrap();
        let error = replace(&path, "old", "new").unwrap_err();
        assert!(matches!(error, NotWritten::Changed));
        let error = write_in_place(&path, "old", "new").unwrap_err();
        assert!(matches!(error, NotWritten::Changed));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_written_in_place_is_the_same_file_with_the_new_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "a longer one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let before = fs::metadata(&path).unwrap();
        for (old, new) in [("a longer one", "short"), ("short", "a longer one again")] {
            write_in_place(&path, old, new).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), new);
        }
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.ino(), before.ino());
        assert_eq!(after.mode(), before.mode());
    }

    #[test]
    fn only_a_place_that_cannot_be_had_leads_to_writing_in_place() {
        let from = |errno: Errno| io::Error::from(errno);
        for errno in [Errno::BUSY, Errno::XDEV, Errno::ACCESS, Errno::ROFS] {
            assert!(is_in_the_way(&from(errno)), "{errno}");
        }
        // What would have cut the file short in place as well.
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO] {
            assert!(!is_in_the_way(&from(errno)), "{errno}");
        }
    }

    #[test]
    fn one_run_waits_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "").unwrap();
        let first = lock(&path).unwrap();
        let folder = File::open(dir.path()).unwrap();
        let busy = flock(&folder, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(busy, Err(Errno::WOULDBLOCK));
        drop(first);
        assert!(lock(&path).is_some());
    }
}
