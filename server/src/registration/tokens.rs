//! Files of tokens.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// A file is read again when it was read this long ago: 10 000 backends that
/// come at once read it once.
const FRESH: Duration = Duration::from_secs(1);

/// A file longer than this is no file of tokens.
const MAX_FILE: u64 = 1 << 20;

/// The tokens in each file that was asked for.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    files: Mutex<BTreeMap<PathBuf, Read>>,
}

#[derive(Debug, Clone)]
struct Read {
    at: Instant,
    tokens: Arc<Vec<String>>,
}

impl Tokens {
    /// Whether `token` is a line of `file`. A file that cannot be read has what
    /// it had, or no token.
    pub(super) fn has(&self, file: &Path, token: &str) -> bool {
        let tokens = self.tokens(file);
        // Every line is compared, and all of it, so that time tells nothing.
        let found = tokens.iter().fold(false, |found, line| {
            found | same(line.as_bytes(), token.as_bytes())
        });
        found && !token.is_empty()
    }

    fn tokens(&self, file: &Path) -> Arc<Vec<String>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let before = files.get(file).cloned();
        if let Some(read) = &before
            && read.at.elapsed() < FRESH
        {
            return Arc::clone(&read.tokens);
        }
        let tokens = match read(file) {
            Ok(tokens) => Arc::new(tokens),
            Err(reason) => {
                warn!(file = %file.display(), reason, "cannot read the tokens; those known stay");
                before.map(|read| read.tokens).unwrap_or_default()
            }
        };
        // Bounded: paths are the configuration's.
        files.insert(
            file.to_owned(),
            Read {
                at: Instant::now(),
                tokens: Arc::clone(&tokens),
            },
        );
        tokens
    }
}

fn read(file: &Path) -> Result<Vec<String>, String> {
    let size = fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!(
            "it has {size} bytes; tokens take at most {MAX_FILE}"
        ));
    }
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Equality in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_a_whole_line_of_the_file_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let tokens = Tokens::default();
        assert!(!tokens.has(&file, "one"));
        fs::write(&file, "# for greeter\none\n\n two \n").unwrap();
        assert!(!tokens.has(&file, "one"), "read a moment ago");
        tokio::time::advance(FRESH).await;
        for good in ["one", "two"] {
            assert!(tokens.has(&file, good), "{good}");
        }
        for bad in ["", "on", "one ", "ones", "# for greeter"] {
            assert!(!tokens.has(&file, bad), "{bad:?}");
        }
        fs::write(&file, "three").unwrap();
        tokio::time::advance(FRESH).await;
        assert!(tokens.has(&file, "three") && !tokens.has(&file, "one"));
        fs::remove_file(&file).unwrap();
        tokio::time::advance(FRESH).await;
        assert!(tokens.has(&file, "three"), "what was known stays");
    }
}
