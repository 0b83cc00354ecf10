//! Response bodies of the main port, and the pieces they hand to HTTP/2.

use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use tonic::Status;

use super::grpc_message;
use super::side::SideBody;
use super::stream::Stream;
use lookaside_core::list::ListFrame;

/// The body of a response.
#[derive(Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// What goes down a `BalanceLoad` stream.
    #[doc(hidden)]
    BalanceLoad(BalanceLoadBody),
    /// Of a method that tonic serves. Boxed, as it is larger.
    #[doc(hidden)]
    Tonic(Box<SideBody>),
}

/// What goes down a `BalanceLoad` stream.
///
/// Boxed: HTTP/2 moves bodies about, and those of other methods are small.
pub struct BalanceLoadBody(pub(super) Box<Stream>);

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

impl http_body::Body for Body {
    type Data = Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Status>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::BalanceLoad(BalanceLoadBody(stream)) => {
                stream.poll_frame(cx).map(|frame| frame.map(Ok))
            }
            Self::Tonic(body) => body.poll_frame(cx).map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    grpc_message::tame(trailers);
                }
                frame.map_data(Data::Bytes)
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::BalanceLoad(_) => false,
            Self::Tonic(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::BalanceLoad(_) => SizeHint::default(),
            Self::Tonic(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Body::Empty",
            Self::BalanceLoad(_) => "Body::BalanceLoad",
            Self::Tonic(_) => "Body::Tonic",
        })
    }
}
