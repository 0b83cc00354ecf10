//! The methods beside `BalanceLoad`: registration, health and reflection, as tonic
//! serves them, within the limits of all streams.
//!
//! tonic waits for a request as long as it takes and keeps what was begun for ever.
//! Here a request must be complete in time, reflection ends when nobody asks any
//! more, and what it answers is paced: ten bytes ask for twenty thousand. A health
//! `Watch` lasts as long as its client, and counts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::service::Routes;
use tower::util::ServiceExt as _;

use super::admission::{Permit, StreamLimits};
use super::budget::Budget;
use crate::wait::within;

/// Where reflection's methods are, of any version.
const REFLECTION: &str = "/grpc.reflection.";

/// A response of reflection costs so much of a stream's budget: two hundred are
/// free, then there are twenty-five each second.
const REFLECTION_COST: u64 = 640;

/// How long an answer waits that the budget does not cover.
const HELD: Duration = Duration::from_millis(40);

/// What goes down a stream that tonic serves.
///
/// It counts as a stream until it is dropped.
pub struct SideBody {
    inner: tonic::body::Body,
    asked: Option<ReflectionTimer>,
    _permit: Permit,
}

/// A stream that lasts only as long as its client asks.
struct ReflectionTimer {
    idle_timeout: Duration,
    /// Ends the stream, or lets the next answer go.
    clock: Pin<Box<Sleep>>,
    pace: Budget,
    held: bool,
    ended: bool,
}

/// What tonic answers, within `limits`.
pub(super) async fn answer(
    routes: Routes,
    request: Request<Incoming>,
    limits: &StreamLimits,
    permit: Permit,
) -> Result<Response<SideBody>, Status> {
    let is_reflection = request.uri().path().starts_with(REFLECTION);
    let answered = within(limits.request_timeout, routes.oneshot(request)).await;
    let Ok(answered) = answered else {
        return Err(Status::deadline_exceeded(format!(
            "the request was not complete within {:?}",
            limits.request_timeout
        )));
    };
    let Ok(response) = answered;
    let asked = is_reflection.then(|| ReflectionTimer::new(limits.idle_timeout));
    Ok(response.map(|inner| SideBody {
        inner,
        asked,
        _permit: permit,
    }))
}

impl ReflectionTimer {
    fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            clock: Box::pin(sleep_until(Instant::now() + idle_timeout)),
            pace: Budget::new(),
            held: false,
            ended: false,
        }
    }

    /// Ready with an end, or with `None` when the next answer may go.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Status>> {
        if self.clock.as_mut().poll(cx).is_pending() {
            return if self.held {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        }
        if self.held {
            self.held = false;
            self.wait(self.idle_timeout);
            // Whoever polls a timer is woken by it.
            return self.poll(cx);
        }
        Poll::Ready(Some(Status::deadline_exceeded(format!(
            "no request within {:?}; open another stream",
            self.idle_timeout
        ))))
    }

    /// An answer goes out.
    fn answered(&mut self) {
        self.held = !self.pace.pay(REFLECTION_COST);
        let wait = if self.held { HELD } else { self.idle_timeout };
        self.wait(wait);
    }

    fn wait(&mut self, time: Duration) {
        self.clock.as_mut().reset(Instant::now() + time);
    }
}

impl SideBody {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(asked) = &mut self.asked {
            if asked.ended {
                return Poll::Ready(None);
            }
            match asked.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(status)) => {
                    asked.ended = true;
                    let mut trailers = HeaderMap::with_capacity(2);
                    // Fails only for messages that are no header values.
                    let _ = status.add_header(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Poll::Ready(None) => {}
            }
        }
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Some(asked), Poll::Ready(Some(Ok(frame)))) = (&mut self.asked, &frame)
            && frame.is_data()
        {
            asked.answered();
        }
        frame
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> http_body::SizeHint {
        if self.asked.is_some() {
            return http_body::SizeHint::default();
        }
        self.inner.size_hint()
    }
}
