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
    /// What `doing` logs on this thread, line by line.
    pub(crate) fn of(doing: impl FnOnce()) -> Vec<String> {
        let lines = Self::default();
        let log = lines.capture();
        doing();
        drop(log);
        lines.text().lines().map(str::to_owned).collect()
    }

    /// Takes what this thread logs, until what is returned is dropped.
    pub(crate) fn capture(&self) -> tracing::subscriber::DefaultGuard {
        tracing::dispatcher::set_default(&self.subscriber())
    }

    /// Takes what is logged to it.
    pub(crate) fn subscriber(&self) -> Dispatch {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        Dispatch::new(subscriber)
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
