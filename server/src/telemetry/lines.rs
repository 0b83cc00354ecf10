//! What is logged, for tests that read it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;

/// Keeps what is written; clones write to the same.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

/// While a process has one subscriber only, tracing asks that of the thread which comes
/// to a line first whether anybody wants it, and believes that for good: another test's
/// thread has none. With two, all are asked.
static ANOTHER: OnceLock<Dispatch> = OnceLock::new();

impl Default for Lines {
    fn default() -> Self {
        ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        Self(Arc::default())
    }
}

impl Lines {
    /// Takes what this thread logs, until what is returned is dropped.
    pub(crate) fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
