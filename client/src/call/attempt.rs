//! One sending of an RPC: who is told of it, and what became of it.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::body::{let_go, status_of};
use crate::control::Published;
use crate::policy::{CallEnd, CallTracker};
use crate::subchannel::{Connection, NotSent, RequestBody, ResponseBody, describe, grpc_or_status};

/// One sending of an RPC. Its end is counted, however it comes about.
#[derive(Debug)]
pub(super) struct Attempt {
    published: Arc<Published>,
    tracker: Option<Arc<dyn CallTracker>>,
    /// If the tracker wants to know how long it takes.
    started: Option<Instant>,
    /// When the RPC's timeout is over.
    pub(super) deadline: Option<Instant>,
    pub(super) end: CallEnd<'static>,
    /// How it ends, once that is known.
    pub(super) code: Option<Code>,
    counted: bool,
}

/// What became of it.
pub(super) enum Outcome {
    /// The server answered; it may have ended the RPC with that.
    Answered(Response<ResponseBody>),
    /// The RPC failed with this, and the server may have run it: the connection was lost,
    /// or the answer was not gRPC.
    Failed(Status),
    /// The server says that it did not look at it; it would fail with this.
    Refused(Status),
    /// It did not leave; it would fail with this. The request, if the connection had not
    /// begun with it.
    NotSent(Status, Option<Box<Request<RequestBody>>>),
    /// HTTP/2 cannot carry it, to nobody.
    Malformed(Status),
}

impl Attempt {
    /// Of an RPC whose start has been counted.
    pub(super) fn new(published: &Arc<Published>, tracker: Option<&Arc<dyn CallTracker>>) -> Self {
        Self {
            published: Arc::clone(published),
            tracker: tracker.cloned(),
            started: tracker.filter(|t| t.timed()).map(|_| Instant::now()),
            deadline: None,
            end: CallEnd {
                sent: true,
                ..CallEnd::cancelled()
            },
            code: None,
            counted: false,
        }
    }

    /// It goes to another backend before it has left. Its start counts once, unless the
    /// other has a tracker of its own.
    pub(super) fn move_to(&mut self, tracker: Option<&Arc<dyn CallTracker>>) {
        let same = match (&self.tracker, tracker) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        self.published.metrics().picks.add_one();
        if let Some(tracker) = tracker {
            tracker.started();
        }
        let mut moved = Self::new(&self.published, tracker);
        moved.deadline = self.deadline;
        let mut before = std::mem::replace(self, moved);
        before.end.sent = false;
        before.code = Some(Code::Unavailable);
    }

    /// It ended with `code`, and with what the server said beside it. Counts once.
    pub(super) fn ended(&mut self, code: Code, trailers: Option<&HeaderMap>) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        if let Some(tracker) = &self.tracker {
            let elapsed = self.started.map(|started| started.elapsed());
            tracker.finished(CallEnd {
                code,
                trailers,
                elapsed: elapsed.unwrap_or_default(),
                ..self.end
            });
        }
        self.published.metrics().finished.add_one();
    }

    /// Notes what became of it, as far as that is known by now.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        self.end.received = match outcome {
            Outcome::Answered(_) => true,
            Outcome::Failed(_) => self.end.received,
            _ => false,
        };
        self.code = match outcome {
            Outcome::Answered(_) => None,
            Outcome::Failed(status) | Outcome::Malformed(status) => Some(status.code()),
            Outcome::Refused(_) | Outcome::NotSent(..) => Some(Code::Unavailable),
        };
        self.end.sent = !matches!(outcome, Outcome::NotSent(..) | Outcome::Malformed(_));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let code = self.code.unwrap_or_else(|| let_go(self.deadline));
        self.ended(code, None);
    }
}

impl Outcome {
    /// What `sent` over `connection` means for the RPC.
    pub(super) async fn of(
        sent: Result<Response<ResponseBody>, NotSent>,
        connection: &Connection,
        attempt: &mut Attempt,
    ) -> Self {
        let outcome = match sent {
            Ok(response) => {
                attempt.end.received = true;
                match grpc_or_status(response).await {
                    Ok(response) => Self::Answered(response),
                    Err(status) => Self::Failed(status),
                }
            }
            Err(not_sent) if not_sent.malformed => {
                let reason = describe(&not_sent.error);
                Self::Malformed(Status::internal(format!("no request for HTTP/2: {reason}")))
            }
            Err(NotSent {
                error,
                left,
                request,
                ..
            }) => {
                let refused = was_refused(&error);
                let status = status_of(error, connection);
                match (left, refused) {
                    (false, _) => Self::NotSent(status, request),
                    (true, true) => Self::Refused(status),
                    (true, false) => Self::Failed(status),
                }
            }
        };
        attempt.note(&outcome);
        outcome
    }
}

/// Whether the server says that it did not look at the RPC.
fn was_refused(error: &h2::Error) -> bool {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with the server's GOAWAY only what it does not cover.
    error.is_remote() && (error.is_go_away() || (error.is_reset() && refused))
}
