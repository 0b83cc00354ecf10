//! The thread that accepts.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::metrics::NetMetrics;

/// Pause after a failure that the next attempt would meet again, as having no
/// descriptors left; doubles up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Failures are logged once in so long.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Accepted connections that are begun before the kernel's queue is looked at
/// again. To begin one takes longer than a client takes to connect, so in a
/// storm that queue overflows if it is not emptied first, and who was turned
/// away comes back after seconds.
const BATCH: usize = 16;

/// A running accept thread. Dropping it stops the thread and closes the
/// listening socket.
#[derive(Debug)]
pub(super) struct Acceptor {
    /// The thread polls the other end, which becomes readable when this is
    /// closed.
    stop: Option<UnixStream>,
    ended: oneshot::Receiver<io::Error>,
}

impl Acceptor {
    /// Starts a thread that hands each accepted socket to `accepted`.
    pub(super) fn start(
        listener: TcpListener,
        metrics: NetMetrics,
        accepted: impl FnMut(TcpStream, SocketAddr) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let (report, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("accept".to_owned());
        thread.spawn(move || {
            if let Err(error) = accept(&listener, &stopped, &metrics, accepted) {
                let _ = report.send(error);
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            ended,
        })
    }

    /// Waits until the thread ends, which without [`Acceptor::stop`] it never
    /// should, and says why it did.
    pub(super) async fn ended(&mut self) -> io::Error {
        let ended = (&mut self.ended).await;
        ended.unwrap_or_else(|_| io::Error::other("the accept thread ended unexpectedly"))
    }

    /// Ends the thread. Returns when the listening socket is closed.
    pub(super) async fn stop(mut self) {
        self.stop = None;
        let _ = (&mut self.ended).await;
    }
}

/// Accepts until `stopped` is closed.
fn accept(
    listener: &TcpListener,
    stopped: &UnixStream,
    metrics: &NetMetrics,
    mut accepted: impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    let (first_pause, longest_pause) = BACKOFF;
    let mut pause: Option<Duration> = None;
    let mut logged: Option<Instant> = None;
    let mut waiting = VecDeque::new();
    loop {
        let emptied = take_all(listener, &mut waiting);
        if !waiting.is_empty() {
            pause = None;
            let batch = waiting.len().min(BATCH);
            for (socket, addr) in waiting.drain(..batch) {
                accepted(socket, addr);
            }
            // A storm must not keep the port from closing.
            if wait(stopped, None, Some(Duration::ZERO))? {
                return Ok(());
            }
            continue;
        }
        let Err(error) = emptied else {
            waiting.shrink_to(BATCH);
            let listening = PollFd::new(listener, PollFlags::IN);
            if wait(stopped, Some(listening), None)? {
                return Ok(());
            }
            continue;
        };
        metrics.accept_failed();
        // Not by bursts: while files are short, one that is freed is taken and
        // the next is missing.
        if logged.is_none_or(|last| last.elapsed() > LOG_PAUSE) {
            logged = Some(Instant::now());
            warn!(
                %error,
                "cannot accept connections, they wait in the kernel's queue; \
                 if files have run out, raise `ulimit -n`"
            );
        }
        let now = pause.map_or(first_pause, |last| last * 2);
        let now = now.min(longest_pause);
        pause = Some(now);
        if wait(stopped, None, Some(now))? {
            return Ok(());
        }
    }
}

/// Moves everything from the kernel's queue to ours, which does not overflow:
/// it ends where the files do.
fn take_all(
    listener: &TcpListener,
    waiting: &mut VecDeque<(TcpStream, SocketAddr)>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok(accepted) => waiting.push_back(accepted),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                // The connection was gone before it was accepted.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

/// Sleeps until something comes, and says whether the thread must end.
fn wait(
    stopped: &UnixStream,
    listening: Option<PollFd<'_>>,
    at_most: Option<Duration>,
) -> io::Result<bool> {
    let at_most = at_most.map(|pause| Timespec {
        tv_sec: pause.as_secs().cast_signed(),
        tv_nsec: pause.subsec_nanos().into(),
    });
    let stop = PollFd::new(stopped, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = std::iter::once(stop).chain(listening).collect();
    match poll(&mut fds, at_most.as_ref()) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
