//! A socket that takes few bytes at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use proptest::prelude::*;

use super::*;

/// A peer that takes as much as it is told to, and then nothing.
#[derive(Debug, Default)]
struct Peer {
    takes: usize,
    at_once: usize,
    taken: Vec<u8>,
    writes: usize,
    waiting: Option<Waker>,
    shut: bool,
}

#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Peer>>);

impl Pipe {
    fn peer(&self) -> MutexGuard<'_, Peer> {
        self.0.lock().unwrap()
    }

    /// Takes `count` bytes more, and says so to whoever waits for it.
    fn take(&self, count: usize) {
        let mut peer = self.peer();
        peer.takes += count;
        if let Some(waker) = peer.waiting.take() {
            waker.wake();
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut peer = self.peer();
        let count = buf.len().min(peer.takes).min(peer.at_once);
        if count == 0 {
            peer.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        peer.takes -= count;
        peer.writes += 1;
        peer.taken.extend(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.peer().shut = true;
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that has frames to write, as h2 writes them.
struct Writer {
    io: Coalescing<Pipe>,
    outbox: Outbox<Pipe>,
    frames: Vec<Vec<u8>>,
    /// Frames written per poll: what else comes later.
    per_poll: usize,
}

impl Writer {
    /// One poll of the connection's task.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..self.per_poll {
            while let Some(frame) = self.frames.first_mut() {
                let (head, rest) = frame.split_at(frame.len().min(9));
                let slices = [IoSlice::new(head), IoSlice::new(rest)];
                match Pin::new(&mut self.io).poll_write_vectored(cx, &slices) {
                    Poll::Ready(count) => drop(frame.drain(..count.unwrap())),
                    Poll::Pending => break,
                }
                if frame.is_empty() {
                    self.frames.remove(0);
                    let flushed = Pin::new(&mut self.io).poll_flush(cx);
                    assert!(matches!(flushed, Poll::Ready(Ok(()))));
                    break;
                }
            }
        }
        let flushed = self.outbox.poll_flush(cx);
        if self.frames.is_empty() {
            return flushed.map(|flushed| flushed.unwrap());
        }
        if flushed.is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

proptest! {
    #[test]
    fn a_slow_peer_gets_every_byte_in_order(
        sizes in proptest::collection::vec(1usize..50_000, 1..20),
        takes in proptest::collection::vec(1usize..40_000, 1..10),
        at_once in 1usize..100_000,
        per_poll in 1usize..8,
    ) {
        let pipe = Pipe::default();
        pipe.peer().at_once = at_once;
        let (io, outbox) = Coalescing::new(pipe.clone());
        let frames: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| (0..*size).map(|at| (index * 31 + at) as u8).collect())
            .collect();
        let sent = frames.concat();
        let mut writer = Writer { io, outbox, frames, per_poll };
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);

        let mut takes = takes.iter().cycle();
        while writer.poll(&mut cx).is_pending() {
            if !woken.0.swap(false, Ordering::Relaxed) {
                // Nothing can go on but by the peer, so it must be waited for.
                pipe.take(*takes.next().unwrap());
                prop_assert!(woken.0.swap(false, Ordering::Relaxed), "stalled");
            }
            let held = lock(&writer.outbox.0).gathered.len();
            prop_assert!(held <= GATHER_LIMIT);
        }
        prop_assert_eq!(&pipe.peer().taken, &sent);
        prop_assert_eq!(writer.outbox.progress().sent, sent.len() as u64);
        prop_assert_eq!(lock(&writer.outbox.0).gathered.capacity(), 0);
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(io: &mut Coalescing<Pipe>, bytes: &[u8]) -> Poll<usize> {
    Pin::new(io)
        .poll_write(&mut noop(), bytes)
        .map(|n| n.unwrap())
}

#[test]
fn what_one_poll_writes_is_one_write() {
    let pipe = Pipe::default();
    pipe.peer().at_once = usize::MAX;
    pipe.take(usize::MAX);
    let (mut io, outbox) = Coalescing::new(pipe.clone());
    for frame in [[1; 16_384]; 4] {
        assert_eq!(write(&mut io, &frame), Poll::Ready(frame.len()));
    }
    assert_eq!(pipe.peer().writes, 0);
    assert!(outbox.poll_flush(&mut noop()).is_ready());
    assert_eq!(pipe.peer().writes, 1);
    assert_eq!(pipe.peer().taken.len(), 4 * 16_384);
}

#[test]
fn nothing_is_gathered_for_a_peer_that_is_behind() {
    let pipe = Pipe::default();
    pipe.peer().at_once = usize::MAX;
    pipe.take(10);
    let (mut io, outbox) = Coalescing::new(pipe.clone());
    assert_eq!(write(&mut io, &[1; 100]), Poll::Ready(100));
    assert!(outbox.poll_flush(&mut noop()).is_pending());
    assert!(write(&mut io, &[2; 100]).is_pending());
    let held = lock(&outbox.0).gathered.capacity();
    assert_eq!(held, 90, "only what is left is kept");
    pipe.take(usize::MAX);
    assert_eq!(write(&mut io, &[2; 100]), Poll::Ready(100));
}

#[test]
fn the_last_words_are_sent_before_the_end() {
    let pipe = Pipe::default();
    pipe.peer().at_once = usize::MAX;
    let (mut io, _outbox) = Coalescing::new(pipe.clone());
    assert_eq!(write(&mut io, b"goaway"), Poll::Ready(6));
    assert!(Pin::new(&mut io).poll_shutdown(&mut noop()).is_pending());
    assert!(!pipe.peer().shut);
    pipe.take(6);
    assert!(Pin::new(&mut io).poll_shutdown(&mut noop()).is_ready());
    assert!(pipe.peer().shut);
    assert_eq!(pipe.peer().taken, b"goaway");
}
