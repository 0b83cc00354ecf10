//! Looking at the file and reading it.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::watch::Folders;
use crate::config::ConfigErrors;
use crate::file::{self, PATIENCE, ReadError};

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

/// What the file says, or why it does not.
pub(super) type Content = Result<String, ConfigErrors>;

/// A file at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Observation {
    /// From just before it was read; `None` if it could not be looked at.
    pub(super) look: Option<Fingerprint>,
    pub(super) content: Content,
}

/// Looks at the file, and reads it if it does not look like `unless`. Whatever
/// changes from the look on is told by `folders`.
pub(super) async fn observe(
    path: &Path,
    unless: Option<Fingerprint>,
    folders: Folders,
) -> Option<Observation> {
    let observed = file::run(path, PATIENCE, move |path| {
        let look = Fingerprint::at(path);
        if unless.is_some_and(|unless| unless == look) {
            return None;
        }
        folders.listen(&look.steps);
        Some(Observation {
            look: Some(look),
            content: text(path, file::read_here(path, MAX_SIZE)),
        })
    });
    observed.await.unwrap_or_else(|error| {
        Some(Observation {
            look: None,
            content: text(path, Err(error.into())),
        })
    })
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// `None` if there is no such file.
    file: Option<Stamp>,
    /// What must be replaced for the path to lead elsewhere or the file to be
    /// another: the file, and every link on the way.
    pub(super) steps: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device, inode and time of the last change, which nobody can set.
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Fingerprint {
    pub(super) fn at(path: &Path) -> Self {
        Self {
            file: fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata)),
            steps: steps(path),
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
fn steps(path: &Path) -> BTreeSet<PathBuf> {
    let mut steps = BTreeSet::new();
    // As the watcher of folders has them. The working folder is always there.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut at = PathBuf::new();
    let mut rest: VecDeque<PathBuf> = path.components().map(own).collect();
    let mut links = 0;
    while let Some(component) = rest.pop_front() {
        let next = at.join(&component);
        let Ok(target) = fs::read_link(&next) else {
            at = next;
            continue;
        };
        steps.insert(next);
        links += 1;
        if links > MAX_LINKS {
            return steps;
        }
        for component in target.components().rev().map(own) {
            rest.push_front(component);
        }
    }
    steps.insert(at);
    steps
}

fn own(component: Component<'_>) -> PathBuf {
    PathBuf::from(component.as_os_str())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_that_can_move_the_file_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let set = |steps: &[&str]| steps.iter().map(|s| root.join(s)).collect();
        fs::create_dir_all(root.join("etc/..2026")).unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        fs::write(root.join("etc/..2026/lookaside.toml"), "").unwrap();
        symlink("..2026", root.join("etc/..data")).unwrap();
        symlink("..data/lookaside.toml", root.join("etc/lookaside.toml")).unwrap();
        symlink(root.join("etc"), root.join("srv/etc")).unwrap();

        let plain = steps(&root.join("etc/..2026/lookaside.toml"));
        assert_eq!(plain, set(&["etc/..2026/lookaside.toml"]));
        let mounted = steps(&root.join("etc/lookaside.toml"));
        let behind = [
            "etc/lookaside.toml",
            "etc/..data",
            "etc/..2026/lookaside.toml",
        ];
        assert_eq!(mounted, set(&behind));
        let linked = steps(&root.join("srv/etc/lookaside.toml"));
        assert_eq!(linked, &set(&behind) | &set(&["srv/etc"]));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(!steps(&dir.path().join("a")).is_empty());
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
