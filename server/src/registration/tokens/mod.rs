//! Files of tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::rules::Rules;
use crate::file;

/// How often each file is read. Who registers waits for no file, and has none
/// read: a file costs the same whether one backend knows of it or a million tries
/// are made.
const EVERY: Duration = Duration::from_secs(1);

/// A file longer than this is not a file of tokens.
const MAX_FILE: u64 = 1 << 20;

/// The tokens in each file that the rules name, as it was last read.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Files that were answered for, be it with an error.
    files: watch::Sender<BTreeMap<PathBuf, TokenFile>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct TokenFile {
    tokens: Arc<Vec<String>>,
    /// What the file had the last time, if that is less: it may be half written.
    less: Option<Vec<String>>,
    /// Why it could not be read the last time.
    failure: Option<Failure>,
}

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// There is no such file.
    Missing,
    /// Anything else, which says nothing of the tokens.
    Unreadable(String),
}

impl Tokens {
    /// Tells when tokens changed.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<PathBuf, TokenFile>> {
        self.files.subscribe()
    }

    /// Whether `file` has been read, or found to be unreadable.
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.files.borrow().contains_key(file)
    }

    /// Whether `token` is a line of `file`. A file that cannot be read has what
    /// it had, or no token; one that was deleted has none.
    pub(super) fn has(&self, file: &Path, token: &str) -> bool {
        let tokens = self.files.borrow().get(file).map(|k| Arc::clone(&k.tokens));
        // Every line is compared, and all of it, so that time tells nothing.
        let found = tokens.iter().flat_map(|tokens| tokens.iter());
        let found = found.fold(false, |found, line| {
            found | bool::from(line.as_bytes().ct_eq(token.as_bytes()))
        });
        found && !token.is_empty()
    }

    /// Waits until `file` has been read once, or found to be unreadable; at most
    /// as long as a file system may take to answer ([`file::PATIENCE`]).
    pub(super) async fn answered(&self, file: &Path) {
        let mut files = self.files.subscribe();
        // An error would mean that we ourselves are gone.
        let _ = files.wait_for(|files| files.contains_key(file)).await;
    }

    /// Reads the files that the rules name, again and again, until `end`. Each is
    /// read by itself: one that hangs holds up no other.
    pub(super) async fn follow(
        &self,
        mut rules: watch::Receiver<Arc<Rules>>,
        end: CancellationToken,
    ) {
        let mut named = rules.borrow_and_update().token_files();
        let mut reading = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = tick.tick() => {
                    for file in named.difference(&busy).cloned().collect::<Vec<_>>() {
                        busy.insert(file.clone());
                        reading.push(async move {
                            let read = read(&file).await;
                            (file, read)
                        });
                    }
                }
                Some((file, read)) = reading.next() => {
                    busy.remove(&file);
                    if named.contains(&file) {
                        self.learn(file, read);
                    }
                }
                Ok(()) = rules.changed() => {
                    named = rules.borrow_and_update().token_files();
                    self.files.send_if_modified(|files| {
                        let before = files.len();
                        files.retain(|file, _| named.contains(file));
                        files.len() != before
                    });
                    tick.reset_immediately();
                }
            }
        }
    }

    fn learn(&self, file: PathBuf, read: Result<Vec<String>, Failure>) {
        self.files.send_if_modified(|files| {
            let first = !files.contains_key(&file);
            let shown = file.display().to_string();
            let known = files.entry(file).or_default();
            let failed = known.failure.take();
            match read {
                Ok(tokens) => {
                    if failed.is_some() {
                        info!(file = shown, "the token file can be read again");
                    }
                    first | known.learn(tokens)
                }
                Err(Failure::Missing) => {
                    // Seen twice: some replace a file in two steps.
                    let deleted = failed == Some(Failure::Missing) && !known.tokens.is_empty();
                    if failed.is_none() || deleted {
                        warn!(
                            file = shown,
                            tokens_removed = deleted,
                            "the token file does not exist; with it go its tokens, and what \
                             registered by them"
                        );
                    }
                    if deleted {
                        known.tokens = Arc::default();
                    }
                    known.failure = Some(Failure::Missing);
                    first || deleted
                }
                Err(Failure::Unreadable(reason)) => {
                    let failure = Failure::Unreadable(reason.clone());
                    // Once, not every second.
                    if failed.as_ref() != Some(&failure) {
                        warn!(
                            file = shown,
                            reason, "cannot read the token file; the tokens read before stay valid"
                        );
                    }
                    known.failure = Some(failure);
                    first
                }
            }
        });
    }
}

impl TokenFile {
    /// The file has these. What is new in it counts at once; what is missing, when it is
    /// missing twice in a row. Whether that changed anything.
    fn learn(&mut self, tokens: Vec<String>) -> bool {
        let gone = self.tokens.iter().any(|token| !tokens.contains(token));
        let now = if gone && self.less.as_ref() != Some(&tokens) {
            self.less = Some(tokens.clone());
            let old = self.tokens.iter().filter(|old| !tokens.contains(old));
            let old: Vec<String> = old.cloned().collect();
            [old, tokens].concat()
        } else {
            self.less = None;
            tokens
        };
        let changed = *self.tokens != now;
        if changed {
            self.tokens = Arc::new(now);
        }
        changed
    }
}

async fn read(file: &Path) -> Result<Vec<String>, Failure> {
    let text = file::read(file, MAX_FILE).await;
    let text = text.map_err(|error| match error {
        error if error.is_missing() => Failure::Missing,
        error => Failure::Unreadable(error.to_string()),
    })?;
    lines(text).map_err(Failure::Unreadable)
}

/// Whether backends could show a token of this file, on a thread that may wait.
///
/// # Errors
/// Why not.
pub fn check_token_file(file: &Path) -> Result<(), String> {
    let text = file::read_blocking(file, MAX_FILE);
    let text = text.map_err(|error| format!("cannot be read: {error}"))?;
    match lines(text) {
        Ok(tokens) if tokens.is_empty() => {
            Err("it has no token, so nobody can show one; write one a line".to_owned())
        }
        Ok(_) => Ok(()),
        Err(reason) => Err(reason),
    }
}

fn lines(text: Vec<u8>) -> Result<Vec<String>, String> {
    let text = String::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
