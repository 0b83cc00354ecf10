//! Looking at the file and reading it.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::config::ConfigErrors;
use crate::file::{self, ReadError};

/// A configuration of 64 MiB lists about a million backends; what is larger
/// is another file by mistake.
const MAX_SIZE: u64 = 64 << 20;

/// Paths with more links are loops, as Linux has it.
const MAX_LINKS: usize = 40;

/// The text of a configuration file, for a thread that may wait for it.
///
/// # Errors
/// If it cannot be read ([`file::read_blocking`]), is not UTF-8, or is larger than
/// 64 MiB.
pub fn read_config(path: &Path) -> Result<String, ConfigErrors> {
    text(path, file::read_blocking(path, MAX_SIZE))
}

/// The same while the balancer runs.
pub(super) async fn read(path: &Path) -> Result<String, ConfigErrors> {
    text(path, file::read(path, MAX_SIZE).await)
}

fn text(path: &Path, bytes: Result<Vec<u8>, ReadError>) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = bytes.map_err(|error| {
        let reason = format!("cannot be read: {error}");
        ConfigErrors::whole(&name, &reason)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("not UTF-8 in line {line} (byte {at}); save the file as UTF-8");
        ConfigErrors::whole(&name, &message)
    })
}

/// What tells whether a file is the one it was, without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// `None` if there is no such file.
    file: Option<Stamp>,
    /// Folders in which something must change for the path to lead elsewhere
    /// or the file to be another: its own, and those of every link on the way.
    pub(super) folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device, inode and time of the last change, which nobody can set.
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Look {
    pub(super) fn at(path: &Path) -> Self {
        Self {
            file: fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata)),
            folders: folders(path),
        }
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            identity: (
                metadata.dev(),
                metadata.ino(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ),
        }
    }
}

/// Follows the path link by link. A ConfigMap is a link to a file in a folder
/// behind another link, and that one is swapped.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut at = PathBuf::new();
    if path.is_relative() {
        at.push(".");
    }
    let mut rest: VecDeque<PathBuf> = path.components().map(own).collect();
    let mut links = 0;
    while let Some(component) = rest.pop_front() {
        let next = at.join(&component);
        let Ok(target) = fs::read_link(&next) else {
            at = next;
            continue;
        };
        folders.insert(at.clone());
        links += 1;
        if links > MAX_LINKS {
            return folders;
        }
        for component in target.components().rev().map(own) {
            rest.push_front(component);
        }
    }
    folders.extend(at.parent().map(Path::to_owned));
    folders
}

fn own(component: Component<'_>) -> PathBuf {
    PathBuf::from(component.as_os_str())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_that_can_move_the_file_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let set = |folders: &[&str]| folders.iter().map(|f| root.join(f)).collect();
        fs::create_dir_all(root.join("etc/..2026")).unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        fs::write(root.join("etc/..2026/lookaside.toml"), "").unwrap();
        symlink("..2026", root.join("etc/..data")).unwrap();
        symlink("..data/lookaside.toml", root.join("etc/lookaside.toml")).unwrap();
        symlink(root.join("etc"), root.join("srv/etc")).unwrap();

        let plain = folders(&root.join("etc/..2026/lookaside.toml"));
        assert_eq!(plain, set(&["etc/..2026"]));
        let mounted = folders(&root.join("etc/lookaside.toml"));
        assert_eq!(mounted, set(&["etc", "etc/..2026"]));
        let linked = folders(&root.join("srv/etc/lookaside.toml"));
        assert_eq!(linked, set(&["srv", "etc", "etc/..2026"]));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(!folders(&dir.path().join("a")).is_empty());
        assert!(read_config(&dir.path().join("a")).is_err());
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        fs::write(&path, b"# one\n# two \xff\n").unwrap();
        let error = read_config(&path).unwrap_err().to_string();
        assert!(error.contains("not UTF-8 in line 2 (byte 12)"), "{error}");
        let error = read_config(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
