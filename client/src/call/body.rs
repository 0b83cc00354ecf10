//! The response's body, and how the RPC is counted when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::attempt::Attempt;
use super::observed::Observed;
use super::retry::{Retries, code_in};
use crate::subchannel::{Connection, ResponseBody, describe};

/// A response's body: ends the attempt, and the RPC at its deadline.
pub(super) struct CallBody {
    pub(super) incoming: ResponseBody,
    /// Over which it comes.
    pub(super) connection: Connection,
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
    /// Who counts how the RPC ends.
    pub(super) retries: Option<Retries>,
    pub(super) attempt: Attempt,
    /// Of the RPC as a whole, if its end is to be told.
    pub(super) observed: Option<Observed>,
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
            let frame = frame.map(|frame| {
                let frame = frame.map_err(|error| status_of(error, &self.connection));
                self.in_time(frame)
            });
            self.note(frame.as_ref());
            return Poll::Ready(frame);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.deadline = None;
            self.ended(Code::DeadlineExceeded, None);
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

/// How an RPC ends that is let go: by its deadline, or by the application.
pub(super) fn let_go(deadline: Option<Instant>) -> Code {
    match is_over(deadline) {
        true => Code::DeadlineExceeded,
        false => Code::Cancelled,
    }
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's timeout is over")
}

impl CallBody {
    /// Tells of the end, if this is it.
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, Status>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ended(code_in(trailers).unwrap_or(Code::Unknown), Some(trailers));
                }
            }
            Some(Err(status)) => self.ended(status.code(), None),
            // Without a word on how.
            None => self.ended(Code::Unknown, None),
        }
    }

    fn ended(&mut self, code: Code, trailers: Option<&HeaderMap>) {
        self.attempt.ended(code, trailers);
        if let Some(observed) = &mut self.observed {
            observed.ended(code);
        }
    }

    /// What came, if it came in time: an application that reads slowly does not make the
    /// call longer. How a call ended that was over in time stands.
    fn in_time(&mut self, frame: Result<Frame<Bytes>, Status>) -> Result<Frame<Bytes>, Status> {
        let deadline = self.deadline.as_ref().map(|sleep| sleep.deadline());
        let stands = match &frame {
            Ok(frame) => {
                let code = frame.trailers_ref().and_then(code_in);
                code.is_some_and(|code| code != Code::Cancelled)
            }
            Err(_) => return at_deadline(frame, deadline),
        };
        if stands || !is_over(deadline) {
            return frame;
        }
        self.deadline = None;
        Err(deadline_exceeded())
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// A server that counts the same timeout may end the call first, as cancelled.
pub(super) fn at_deadline<T>(
    result: Result<T, Status>,
    deadline: Option<Instant>,
) -> Result<T, Status> {
    result.map_err(|status| match status.code() {
        Code::Cancelled if is_over(deadline) => deadline_exceeded(),
        _ => status,
    })
}

/// The status of an RPC that left and got no answer: the server may have run it.
pub(super) fn status_of(error: h2::Error, connection: &Connection) -> Status {
    let mut text = describe(&error);
    let ended = error.is_io() || error.is_go_away();
    if let Some(goodbye) = connection.goodbye()
        && error.is_io()
    {
        text += &format!("; before that, {goodbye}");
    }
    let status = Status::from_error(Box::new(error));
    match status.code() {
        // A connection that is cut off is not an unknown matter.
        code if ended || code == Code::Unknown => {
            let mut lost = Status::unavailable(format!(
                "connection to {} lost, and the call may have run: {text}",
                connection.peer()
            ));
            lost.set_source(Arc::new(status));
            lost
        }
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_times_out_at_the_same_moment_did_not_cancel() {
        let server = Err::<(), _>(Status::cancelled("Timeout expired"));
        let deadline = Instant::now() + Duration::from_millis(10);
        let code = |deadline| at_deadline(server.clone(), deadline).unwrap_err().code();
        assert_eq!(code(None), Code::Cancelled);
        assert_eq!(code(Some(deadline)), Code::Cancelled);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(code(Some(deadline)), Code::DeadlineExceeded);
        let other = Err::<(), _>(Status::data_loss("x"));
        let other = at_deadline(other, Some(deadline)).unwrap_err();
        assert_eq!(other.code(), Code::DataLoss);
    }
}
