//! Turns the many small writes of HTTP/2 into one write per poll.
//!
//! h2 flushes after every DATA frame, so a list of 52 kB costs four system
//! calls, four packets' worth of kernel work and four wake-ups of the client.
//! Here writes are gathered while the connection is polled, and its task sends
//! them when the poll is over: half the CPU at 52 kB.
//!
//! The memory of idle connections stays out of it: the buffer is borrowed from
//! the thread and goes back once it is sent. Only what a slow peer left over
//! stays with its connection, and while it does nothing is added to it, so a
//! slow peer costs what one poll wrote and not more.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes gathered before they are sent even within a poll.
const GATHER_LIMIT: usize = 128 * 1024;

thread_local! {
    /// An empty buffer for the connection that is polled next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An IO that gathers what is written until its [`Outbox`] is flushed.
#[derive(Debug)]
pub(super) struct Coalescing<T>(Arc<Mutex<Gather<T>>>);

/// The other handle of a [`Coalescing`] IO, for the task that polls it.
#[derive(Debug)]
pub(super) struct Outbox<T>(Arc<Mutex<Gather<T>>>);

/// What is known of an IO's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes read since the beginning.
    pub(super) read: u64,
    /// Bytes sent since the beginning.
    pub(super) sent: u64,
}

#[derive(Debug)]
struct Gather<T> {
    io: T,
    /// Written by HTTP/2 and not sent: `gathered[start..]`.
    gathered: Vec<u8>,
    start: usize,
    /// The peer did not take all of the last flush.
    stuck: bool,
    /// A writer was turned away and waits for room.
    turned_away: bool,
    progress: Progress,
}

impl<T> Coalescing<T> {
    /// Wraps `io`; the task that polls the user of it flushes the outbox.
    pub(super) fn new(io: T) -> (Self, Outbox<T>) {
        let gather = Arc::new(Mutex::new(Gather {
            io,
            gathered: Vec::new(),
            start: 0,
            stuck: false,
            turned_away: false,
            progress: Progress { read: 0, sent: 0 },
        }));
        (Self(Arc::clone(&gather)), Outbox(gather))
    }
}

impl<T: AsyncWrite + Unpin> Outbox<T> {
    /// Sends what was gathered. `Pending` if the peer does not take all of it;
    /// the task is woken when it takes more.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.0);
        ready!(gather.send(cx))?;
        if std::mem::take(&mut gather.turned_away) {
            // There was no room when it wanted to write; now there is.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// How far the IO has come.
    pub(super) fn progress(&self) -> Progress {
        lock(&self.0).progress
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.try_send(cx);
        self.stuck = sent.is_pending();
        if self.stuck {
            self.shrink();
        } else {
            self.give_back();
        }
        sent
    }

    fn try_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() && !self.stuck {
            return Poll::Ready(Ok(()));
        }
        while self.start < self.gathered.len() {
            let rest = &self.gathered[self.start..];
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += count;
            self.progress.sent += count as u64;
        }
        // TLS has a buffer of its own.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Room for more, or `Pending` while what a slow peer left over must go
    /// first.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.stuck || self.gathered.len() >= GATHER_LIMIT {
            let sent = self.send(cx)?;
            self.turned_away = sent.is_pending();
            ready!(sent);
        }
        if self.gathered.capacity() == 0 {
            self.gathered = SPARE.take();
        }
        Poll::Ready(Ok(GATHER_LIMIT - self.gathered.len()))
    }

    /// Keeps a copy of the right size of what is left, so that the thread's
    /// buffer does not stay with a slow peer.
    fn shrink(&mut self) {
        if self.start == 0 && self.gathered.capacity() <= 2 * self.gathered.len() {
            return;
        }
        let rest = self.gathered[self.start..].to_vec();
        let spare = std::mem::replace(&mut self.gathered, rest);
        self.start = 0;
        keep_spare(spare);
    }

    fn give_back(&mut self) {
        self.start = 0;
        keep_spare(std::mem::take(&mut self.gathered));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalescing<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.0);
        let before = buf.filled().len();
        ready!(Pin::new(&mut gather.io).poll_read(cx, buf))?;
        gather.progress.read += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalescing<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gather = lock(&self.0);
        let room = ready!(gather.poll_room(cx))?;
        let mut left = room;
        for buf in bufs {
            let count = buf.len().min(left);
            gather.gathered.extend_from_slice(&buf[..count]);
            left -= count;
        }
        Poll::Ready(Ok(room - left))
    }

    /// True, although it copies: h2 copies more itself if it is not.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the task flushes the outbox when its poll is over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = lock(&self.0);
        ready!(gather.send(cx))?;
        Pin::new(&mut gather.io).poll_shutdown(cx)
    }
}

fn keep_spare(mut spare: Vec<u8>) {
    if spare.capacity() == 0 || spare.capacity() > 2 * GATHER_LIMIT {
        return;
    }
    spare.clear();
    SPARE.set(spare);
}

fn lock<T>(gather: &Mutex<Gather<T>>) -> MutexGuard<'_, Gather<T>> {
    // Never contended: both handles belong to one task.
    gather.lock().unwrap_or_else(PoisonError::into_inner)
}
