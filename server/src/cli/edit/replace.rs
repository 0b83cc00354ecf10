//! Replacing a file so that whoever reads it sees the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::NamedTempFile;

/// What became of the file besides its text.
#[derive(Debug)]
pub(super) struct Replaced {
    /// Whether it still belongs to the same user and group.
    pub(super) owner_kept: bool,
}

/// Replaces the text of the file at `path`, or of the one it links to. Its
/// permissions stay, and so does its owner if we may give it away.
///
/// # Errors
/// If it cannot be written, or if it is not `old` any more.
pub(super) fn replace(path: &Path, old: &str, new: &str) -> io::Result<Replaced> {
    let path = fs::canonicalize(path)?;
    let folder = path.parent().unwrap_or(&path);
    let mut file = tempfile::Builder::new()
        .prefix(".lookaside-")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    file.write_all(new.as_bytes())?;
    let metadata = fs::metadata(&path)?;
    let owner_kept = keep_owner(&file, &metadata);
    // After the owner: giving a file away can take permissions off it.
    file.as_file().set_permissions(metadata.permissions())?;
    file.as_file().sync_all()?;

    if fs::read(&path)? != old.as_bytes() {
        return Err(io::Error::other(
            "somebody else has changed it meanwhile; run this again",
        ));
    }
    file.persist(&path).map_err(|error| error.error)?;
    // The name, too, is to survive a power cut. Not every file system can.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(Replaced { owner_kept })
}

#[cfg(unix)]
fn keep_owner(file: &NamedTempFile, old: &fs::Metadata) -> bool {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let Ok(new) = file.as_file().metadata() else {
        return false;
    };
    let same = (new.uid(), new.gid()) == (old.uid(), old.gid());
    same || fchown(file.as_file(), Some(old.uid()), Some(old.gid())).is_ok()
}

#[cfg(not(unix))]
fn keep_owner(_: &NamedTempFile, _: &fs::Metadata) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

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

        let replaced = replace(&link, "old", "new").unwrap();
        assert!(replaced.owner_kept);
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
        let error = replace(&path, "old", "new").unwrap_err().to_string();
        assert!(error.contains("run this again"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
