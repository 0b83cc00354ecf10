//! Hearing of changes in folders.

use std::collections::BTreeSet;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tracing::warn;

/// Tells when something in one of some folders may have changed. It may tell
/// too often; and where it cannot listen, it says so in the log and is silent.
#[derive(Debug)]
pub(super) struct FolderWatch {
    /// `None` if the system gives us no watcher.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    told: mpsc::Receiver<()>,
    warned: bool,
}

/// The watcher's thread is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl FolderWatch {
    pub(super) fn new() -> Self {
        // One place: a second change before the first is looked at is the same.
        let (tell, told) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error, as that events were lost, is a reason to look, too.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            // Full means that it is told already.
            let _ = tell.try_send(());
        });
        let mut new = Self {
            watcher: None,
            watched: BTreeSet::new(),
            told,
            warned: false,
        };
        match watcher {
            Ok(watcher) => new.watcher = Some(watcher),
            Err(error) => new.warn(&error),
        }
        new
    }

    /// Listens in these folders and no others. They are listened to anew even
    /// if they were already: another folder may be at the old one's path.
    pub(super) fn watch(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in std::mem::take(&mut self.watched) {
            // It fails for a folder that is gone, and then nothing is to do.
            let _ = watcher.unwatch(&folder);
        }
        let mut failed = None;
        for folder in folders {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => _ = self.watched.insert(folder.clone()),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => self.warn(&error),
            None => self.warned = false,
        }
    }

    /// Waits for a change.
    pub(super) async fn changed(&mut self) -> Result<(), Gone> {
        if self.watcher.is_none() {
            return std::future::pending().await;
        }
        self.told.recv().await.ok_or(Gone)
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(%error, "cannot watch the configuration's folder; looking at it every second");
        }
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
