//! Response bodies of the main port.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tonic::Status;

use super::data::Data;
use super::grpc_message;
use super::side::SideBody;
use super::stream::Stream;

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
