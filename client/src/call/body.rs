//! The response's body, and how the RPC is counted when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::retry::{Retries, code_in};
use crate::control::Published;
use crate::endpoint::Address;
use crate::policy::{CallEnd, CallTracker};
use crate::subchannel::{ResponseBody, describe};

/// A response's body: ends the attempt, and the RPC at its deadline.
pub(super) struct CallBody {
    pub(super) incoming: ResponseBody,
    /// Who answers.
    pub(super) peer: Arc<Address>,
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    /// Who counts how the RPC ends.
    pub(super) retries: Option<Retries>,
    pub(super) _attempt: Attempt,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
                && let Some(retries) = self.retries.take()
                && let Some(code) = code_in(trailers)
            {
                retries.note(code, false);
            }
            let failed = |error| status_of(error, &self.peer);
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.deadline = None;
            return Poll::Ready(Some(Err(deadline_exceeded())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// One sending of an RPC. Its end is counted, however it comes about.
#[derive(Debug)]
pub(super) struct Attempt {
    published: Arc<Published>,
    tracker: Option<Arc<dyn CallTracker>>,
    pub(super) end: CallEnd,
}

impl Attempt {
    /// Of an RPC whose start has been counted.
    pub(super) fn new(published: &Arc<Published>, tracker: Option<&Arc<dyn CallTracker>>) -> Self {
        Self {
            published: Arc::clone(published),
            tracker: tracker.cloned(),
            end: CallEnd {
                sent: true,
                received: false,
            },
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(tracker) = &self.tracker {
            tracker.finished(self.end);
        }
        self.published.metrics().finished.add_one();
    }
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's timeout is over")
}

/// The status of an RPC that left and got no answer: the server may have run it.
pub(super) fn status_of(error: h2::Error, peer: &Address) -> Status {
    let text = describe(&error);
    let status = Status::from_error(Box::new(error));
    match status.code() {
        // A connection that is cut off is not an unknown matter.
        Code::Unknown => Status::unavailable(format!(
            "connection to {peer} lost, and the call may have run: {text}"
        )),
        _ => status,
    }
}
