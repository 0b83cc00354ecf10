//! Where log lines go: to stderr, if it takes them.
//!
//! A log must not stop what it tells of. A line that cannot be written, for the
//! disk is full or its reader has gone, is lost; and so is one for which a reader
//! that does not read has no room.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::logging::LogFormat;
use super::printable::{Escapes, escape};

/// A pipe that takes anything takes this much without waiting (`PIPE_BUF`).
const PIECE: usize = 4096;

/// A reader that is busy gets this long to make room; one that took none gets no
/// more until it reads again.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes log lines to stderr, one a call. Never fails and waits 0.1 s at most.
/// Clones write to the same.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    format: LogFormat,
    escapes: Escapes,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Lines that could not be written since the last one that could.
    lost: u64,
    /// Whether the last line was written in part.
    torn: bool,
}

impl LogWriter {
    /// For lines of this format, colored or not.
    pub(super) fn new(format: LogFormat, colored: bool) -> Self {
        let escapes = match (format, colored) {
            (LogFormat::Json, _) => Escapes::JsonLine,
            (LogFormat::Text, true) => Escapes::ColoredLine,
            (LogFormat::Text, false) => Escapes::Line,
        };
        Self {
            format,
            escapes,
            state: Arc::default(),
        }
    }

    /// What is logged once lines can be written again.
    fn notice(&self, lost: u64) -> String {
        let mut time = String::new();
        if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
            time.clear();
        }
        let what = "log lines were lost: stderr did not take them";
        match self.format {
            LogFormat::Text => format!("{time}  WARN {what} lost={lost}\n"),
            LogFormat::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"fields\":{{\"message\":\"{what}\",\
                 \"lost\":{lost}}},\"target\":\"{}\"}}\n",
                module_path!()
            ),
        }
    }
}

impl Write for LogWriter {
    /// Takes a whole line, and always all of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = escape(text, self.escapes);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if state.lost > 0 {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let mut lines = if state.torn { "\n" } else { "" }.to_owned();
        if state.lost > 0 {
            lines.push_str(&self.notice(state.lost));
        }
        lines.push_str(&text);
        lines.push('\n');
        match write(lines.as_bytes(), patience) {
            Ok(()) => *state = State::default(),
            Err(written) => {
                state.lost += 1;
                state.torn = written > 0 || state.torn;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes everything, or says how much was written.
fn write(bytes: &[u8], patience: Duration) -> Result<(), usize> {
    let mut stderr = io::stderr().lock();
    let mut written = 0;
    while written < bytes.len() {
        if !has_room(&stderr, patience) {
            return Err(written);
        }
        let piece = &bytes[written..bytes.len().min(written + PIECE)];
        match stderr.write(piece) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// Whether a piece can be written without waiting, or fails at once.
fn has_room(stderr: &io::StderrLock<'_>, patience: Duration) -> bool {
    let patience = Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: patience.subsec_nanos().into(),
    };
    loop {
        match poll(&mut [PollFd::new(stderr, PollFlags::OUT)], Some(&patience)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            // What cannot be polled is written to.
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_in_the_format_of_the_log() {
        let json = LogWriter::new(LogFormat::Json, false).notice(3);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["fields"]["lost"], 3);
        let text = LogWriter::new(LogFormat::Text, false).notice(3);
        assert!(
            text.ends_with("stderr did not take them lost=3\n"),
            "{text}"
        );
    }
}
