//! The file as a thing that others edit: what it was when it was last decided
//! about, and what it is once an edit is done.

use std::path::{Path, PathBuf};

use tokio::time::{Instant, sleep, sleep_until};

use super::read::{Content, Observation, observe};
use super::settle::{MOMENT, Settling, Trust};
use super::watch::{FolderWatch, Gone};

/// Follows the edits of one file.
#[derive(Debug)]
pub(super) struct Edits {
    path: PathBuf,
    /// As it was when it was last decided about.
    seen: Observation,
    folders: FolderWatch,
}

/// An edit that was noticed and may go on.
#[derive(Debug)]
pub(super) struct Edit {
    found: Observation,
    settling: Settling,
}

impl Edits {
    /// Of the file that was read already.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        Self {
            path,
            seen: Observation {
                look: None,
                content: Ok(text),
            },
            folders: FolderWatch::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file may have changed.
    pub(super) async fn told(&mut self) -> Result<(), Gone> {
        self.folders.changed().await
    }

    /// Looks at the file: is it another than it was? If somebody `asked`, it is
    /// taken for another anyway.
    pub(super) async fn look(&self, asked: bool) -> Option<Edit> {
        let renamed = self.folders.renamed();
        let unless = self.seen.look.clone().filter(|_| !asked);
        let found = observe(&self.path, unless, self.folders.folders()).await?;
        if found == self.seen && !asked {
            return None;
        }
        Some(Edit {
            found,
            settling: Settling::new(Instant::now(), renamed),
        })
    }

    /// Waits until the file has held still for so long that it can be trusted, or
    /// be trusted more.
    pub(super) async fn settle(&mut self, edit: &mut Edit) -> Result<Trust, Gone> {
        loop {
            let now = Instant::now();
            let next = edit.settling.next(now);
            sleep(MOMENT).await;
            tokio::select! {
                () = sleep_until(next) => {}
                told = self.folders.changed() => told?,
            }
            let renamed = self.folders.renamed();
            let found = observe(&self.path, None, self.folders.folders()).await;
            let now = Instant::now();
            match found {
                Some(found) if found != edit.found => {
                    edit.found = found;
                    edit.settling.differs(now, renamed);
                }
                _ => edit.settling.same(renamed),
            }
            match edit.settling.trust(now) {
                Trust::None => {}
                trust => return Ok(trust),
            }
        }
    }

    /// The edit is decided about. Its look held for a moment before the text was read,
    /// so a later change has a later time and looks different.
    pub(super) fn done(&mut self, edit: Edit) {
        self.seen = edit.found;
    }

    /// Whether the edit changes what the file says.
    pub(super) fn is_news(&self, edit: &Edit) -> bool {
        edit.found.content != self.seen.content
    }
}

impl Edit {
    /// What the file says.
    pub(super) fn content(&self) -> &Content {
        &self.found.content
    }

    /// What it says was tried and is invalid, which half of a file often is.
    pub(super) fn doubt(&mut self) {
        self.settling.doubt();
    }
}
