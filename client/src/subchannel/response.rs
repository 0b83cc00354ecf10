//! A response's body, as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::OwnedSemaphorePermit;

use super::upload::Upload;

/// The messages and trailers of a response. Dropped before its end, it cancels
/// the RPC.
#[derive(Debug)]
pub struct ResponseBody {
    stream: RecvStream,
    /// Whether only trailers can follow.
    data_over: bool,
    /// Ends with the response: nobody can want more of the request.
    _upload: Option<Upload>,
    /// The RPC's place on the connection.
    _permit: OwnedSemaphorePermit,
}

impl ResponseBody {
    pub(super) fn new(
        stream: RecvStream,
        upload: Option<Upload>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            stream,
            data_over: false,
            _upload: upload,
            _permit: permit,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What is taken is used: tonic bounds how much it keeps.
                    let released = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(released.map(|()| Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(of(error)),
                None => self.data_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(of(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A server that resets with NO_ERROR has said all it wants to (RFC 9113 §8.1).
fn of<T>(error: h2::Error) -> Option<Result<T, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}
