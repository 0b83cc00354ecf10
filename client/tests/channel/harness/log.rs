//! What the channel logs.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

thread_local! {
    /// What is logged on this thread.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(vec![]) };
}

/// What this thread logged, where a test's channel lives, since this was made.
pub(crate) struct Log;

impl Log {
    pub(crate) fn start() -> Self {
        // One for all threads, as some of tracing's caches are for all of them, too.
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::INFO)
                .with_ansi(false)
                .with_writer(|| Self)
                .init();
        });
        LOGGED.take();
        Self
    }

    /// The warnings that have `text`.
    pub(crate) fn warnings(&self, text: &str) -> Vec<String> {
        let mut lines = self.lines(text);
        lines.retain(|line| line.contains("WARN"));
        lines
    }

    /// The lines that have `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let log = LOGGED.with_borrow(|log| String::from_utf8(log.clone()).unwrap());
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|log| log.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
