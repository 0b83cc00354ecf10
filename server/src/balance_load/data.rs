//! The pieces of a stream that HTTP/2 is given.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;

use lookaside_core::list::ListFrame;

/// A piece of a body: one DATA frame, if the client takes frames that long.
#[derive(Debug)]
pub enum Data {
    /// Bytes as they are.
    Bytes(Bytes),
    /// A server list. Boxed: HTTP/2 reserves the space of the largest piece
    /// several times per connection, and there rarely is a list.
    List(Box<ListInFlight>),
}

/// A list on its way to the client.
#[derive(Debug)]
pub struct ListInFlight {
    frame: ListFrame,
    gate: Arc<Gate>,
}

/// Shut while HTTP/2 has a list that it has not sent to the end.
///
/// HTTP/2 takes the next piece of a body before it has room for it. A list that
/// waits there would be outdated by the time there is room, so a stream gives
/// none until the one before it is gone.
#[derive(Debug, Default)]
pub(super) struct Gate {
    shut: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    /// Ready when the last list is sent.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.shut.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.shut.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Sends a list, and shuts the gate until it is sent.
    pub(super) fn send(self: &Arc<Self>, frame: ListFrame) -> Data {
        self.shut.store(true, Ordering::Release);
        Data::List(Box::new(ListInFlight {
            frame,
            gate: Arc::clone(self),
        }))
    }
}

impl Drop for ListInFlight {
    fn drop(&mut self) {
        self.gate.shut.store(false, Ordering::Release);
        self.gate.waker.wake();
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::List(list) => list.frame.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::List(list) => list.frame.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::List(list) => list.frame.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::List(list) => list.frame.advance(count),
        }
    }
}
