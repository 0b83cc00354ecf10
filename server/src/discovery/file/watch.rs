//! Hearing of changes in folders.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tracing::warn;

/// Tells when something in one of some folders may have changed. It may tell
/// too often; and where it cannot listen, it says so in the log and is silent.
#[derive(Debug)]
pub(super) struct FolderWatch {
    folders: Folders,
    steps: Arc<Mutex<Steps>>,
    /// Whether the system gives us a watcher.
    listening: bool,
    told: mpsc::Receiver<()>,
}

/// The folders that are listened to. To begin to listen in one can hang where its
/// file system does.
#[derive(Debug, Clone)]
pub(super) struct Folders(Arc<Mutex<Watched>>);

/// The watcher's thread is gone.
#[derive(Debug)]
pub(super) struct Gone;

#[derive(Debug)]
struct Watched {
    /// `None` if the system gives us no watcher.
    watcher: Option<RecommendedWatcher>,
    /// The folders, and which ones they were (device and inode).
    folders: BTreeMap<PathBuf, Option<(u64, u64)>>,
    steps: Arc<Mutex<Steps>>,
    warned: bool,
}

/// What the path of the file consists of.
#[derive(Debug, Default)]
struct Steps {
    /// The file and the links on the way to it.
    paths: BTreeSet<PathBuf>,
    /// Whether something was renamed to one of them.
    renamed: bool,
}

impl FolderWatch {
    pub(super) fn new() -> Self {
        // One place: a second change before the first is looked at is the same.
        let (tell, told) = mpsc::channel(1);
        let steps = Arc::<Mutex<Steps>>::default();
        let known = Arc::clone(&steps);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error, as that events were lost, is a reason to look, too.
            if let Ok(event) = event {
                if is_reading(event.kind) {
                    return;
                }
                if let Some(path) = renamed_to(&event) {
                    let mut steps = locked(&known);
                    steps.renamed |= steps.paths.contains(path);
                }
            }
            // Full means that it is told already.
            let _ = tell.try_send(());
        });
        let mut watched = Watched {
            watcher: None,
            folders: BTreeMap::new(),
            steps: Arc::clone(&steps),
            warned: false,
        };
        match watcher {
            Ok(watcher) => watched.watcher = Some(watcher),
            Err(error) => watched.warn(&error),
        }
        Self {
            listening: watched.watcher.is_some(),
            folders: Folders(Arc::new(Mutex::new(watched))),
            steps,
            told,
        }
    }

    /// A handle, to say in which folders to listen.
    pub(super) fn folders(&self) -> Folders {
        self.folders.clone()
    }

    /// Waits for a change; for ever, if the system gives us no watcher.
    pub(super) async fn changed(&mut self) -> Result<(), Gone> {
        if !self.listening {
            return std::future::pending().await;
        }
        self.told.recv().await.ok_or(Gone)
    }

    /// Whether since the last call something was renamed into the file's place, or
    /// into that of a link on the way to it.
    pub(super) fn renamed(&self) -> bool {
        std::mem::take(&mut locked(&self.steps).renamed)
    }
}

impl Folders {
    /// Listens where these files and links are, and nowhere else.
    pub(super) fn listen(&self, steps: &BTreeSet<PathBuf>) {
        locked(&self.0).listen(steps);
    }
}

impl Watched {
    fn listen(&mut self, steps: &BTreeSet<PathBuf>) {
        locked(&self.steps).paths.clone_from(steps);
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let folders = steps.iter().filter_map(|step| step.parent());
        let folders: BTreeMap<_, _> = folders.map(|f| (f.to_owned(), identity(f))).collect();
        for (folder, identity) in &self.folders {
            // Another folder may be at the old one's path.
            if folders.get(folder) != Some(identity) {
                // It fails for a folder that is gone, and then nothing is to do.
                let _ = watcher.unwatch(folder);
            }
        }
        let mut failed = None;
        // Those that stay as well: a folder made anew can have the old one's inode.
        for folder in folders.keys() {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                failed = Some(error);
            }
        }
        self.folders = folders;
        match failed {
            Some(error) => self.warn(&error),
            None => self.warned = false,
        }
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(%error, "cannot watch the configuration's folder; looking at it every second");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The new name, if something got one.
fn renamed_to(event: &notify::Event) -> Option<&PathBuf> {
    match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            event.paths.last()
        }
        _ => None,
    }
}

/// Our own reading, which must not have us read again.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}
