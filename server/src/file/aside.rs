//! Work on a path that may hang, aside from all else.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

/// Why there is no result. The text is the same each time, so that who logs
/// changes only logs a hang once.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nothing came in time, of this work or of that before it on the same path.
    #[error(
        "the file system does not answer; check its mount, as a network file system hangs like \
         this when its server is away"
    )]
    Hangs,
    /// There is no thread for it.
    #[error("cannot start a thread to read it: {0}")]
    NoThread(io::Error),
    /// The work was given up unexpectedly: it panicked, or the process ends.
    #[error("its reading ended unexpectedly")]
    Ended,
}

impl From<Unanswered> for io::Error {
    fn from(error: Unanswered) -> Self {
        let kind = match &error {
            Unanswered::Hangs => io::ErrorKind::TimedOut,
            Unanswered::NoThread(error) => error.kind(),
            Unanswered::Ended => io::ErrorKind::Interrupted,
        };
        Self::new(kind, error.to_string())
    }
}

/// Does `work` on a thread of the path's own, after what is under way there, and
/// waits for it no longer than `patience`. Work that hangs keeps its thread; until
/// it ends, more for the same path is refused at once.
///
/// # Errors
/// If there is no result in time.
pub async fn run<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let path = path.to_owned();
    // The waiting thread is free after `patience` whatever happens.
    let waiting = spawn_blocking(move || run_blocking(&path, patience, work));
    waiting.await.unwrap_or(Err(Unanswered::Ended))
}

/// The same for a thread that may wait.
///
/// # Errors
/// As [`run`].
pub fn run_blocking<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let (tell, told) = mpsc::sync_channel(1);
    let own = path.to_owned();
    let job = Job {
        until: now() + patience,
        // Nobody may be waiting any more.
        work: Box::new(move || drop(tell.send(work(&own)))),
    };
    begin(path, job)?;
    told.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unanswered::Hangs,
        RecvTimeoutError::Disconnected => Unanswered::Ended,
    })
}

/// The time of threads, which no test stands still.
#[expect(
    clippy::disallowed_methods,
    reason = "no runtime is where this is asked"
)]
fn now() -> Instant {
    Instant::now()
}

struct Job {
    /// When whoever asked gives up.
    until: Instant,
    work: Box<dyn FnOnce() + Send>,
}

/// What is to be done on one path.
struct Line {
    /// When whoever asked for what is under way gives up.
    until: Instant,
    /// Bounded: what is under way hangs before long, or these are done.
    waiting: VecDeque<Job>,
}

/// The paths on which a thread is at work. There is one set for the process,
/// whoever reads.
static LINES: Mutex<BTreeMap<PathBuf, Line>> = Mutex::new(BTreeMap::new());

fn lines() -> MutexGuard<'static, BTreeMap<PathBuf, Line>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the path's thread do the job, or starts it.
fn begin(path: &Path, job: Job) -> Result<(), Unanswered> {
    let mut lines = lines();
    if let Some(line) = lines.get_mut(path) {
        if line.until <= now() {
            return Err(Unanswered::Hangs);
        }
        line.waiting.push_back(job);
        return Ok(());
    }
    let line = Line {
        until: job.until,
        waiting: VecDeque::new(),
    };
    let own = path.to_owned();
    // Detached on purpose: one that hangs can be neither ended nor waited for.
    let thread = thread::Builder::new().name("file".to_owned());
    let started = thread.spawn(move || work_off(&own, job));
    started.map_err(Unanswered::NoThread)?;
    lines.insert(path.to_owned(), line);
    Ok(())
}

/// Does a job and those that come meanwhile.
fn work_off(path: &Path, first: Job) {
    let mut job = Some(first);
    while let Some(Job { work, .. }) = job {
        // A panic is told by the job's dropped channel, and printed by the hook.
        let _ = catch_unwind(AssertUnwindSafe(work));
        job = next(path);
    }
}

/// The next job for which somebody waits; if there is none, the path is free.
fn next(path: &Path) -> Option<Job> {
    let mut lines = lines();
    let now = now();
    let line = lines.get_mut(path)?;
    while let Some(job) = line.waiting.pop_front() {
        if job.until > now {
            line.until = job.until;
            return Some(job);
        }
    }
    lines.remove(path);
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    /// A path that is nobody else's.
    fn path(name: &str) -> PathBuf {
        Path::new("aside").join(name)
    }

    #[test]
    fn a_path_that_hangs_is_asked_once_and_others_are_answered() {
        let hung = path("hung");
        let (release, released) = mpsc::channel::<()>();
        let wait = move |_: &Path| released.recv().is_ok();
        let error = run_blocking(&hung, SHORT, wait).unwrap_err();
        assert!(matches!(error, Unanswered::Hangs));

        let asked = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let asked = Arc::clone(&asked);
            let count = move |_: &Path| asked.fetch_add(1, Ordering::Relaxed);
            // At once: a thousand times this patience would be seen.
            let error = run_blocking(&hung, LONG, count).unwrap_err();
            assert!(matches!(error, Unanswered::Hangs));
        }
        assert_eq!(run_blocking(&path("other"), LONG, |_| 7).unwrap(), 7);

        release.send(()).unwrap();
        let answer = loop {
            if let Ok(answer) = run_blocking(&hung, LONG, |_| 8) {
                break answer;
            }
            thread::yield_now();
        };
        assert_eq!(answer, 8);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody waited for those");
    }

    #[test]
    fn work_on_one_path_is_done_one_after_another() {
        let shared = path("shared");
        let busy = Arc::new(AtomicUsize::new(0));
        let work = || {
            let busy = Arc::clone(&busy);
            run_blocking(&shared, LONG, move |_| {
                assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0);
                thread::yield_now();
                busy.fetch_sub(1, Ordering::SeqCst);
            })
        };
        thread::scope(|scope| {
            let all: Vec<_> = (0..32).map(|_| scope.spawn(work)).collect();
            assert!(all.into_iter().all(|one| one.join().unwrap().is_ok()));
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_frees_the_path_and_a_clock_that_stands_still_makes_nothing_hang() {
        let path = path("panics");
        let ended = run(&path, LONG, |_| panic!("on purpose")).await;
        assert!(matches!(ended, Err::<(), _>(Unanswered::Ended)));
        assert_eq!(run(&path, LONG, |_| 7).await.unwrap(), 7);
    }
}
