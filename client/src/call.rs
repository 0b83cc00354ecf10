//! One RPC: from its pick to the end of its response.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use lookaside_proto::lb_v1::LB_TOKEN_KEY;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::control::{Progress, Published};
use crate::endpoint::Address;
use crate::policy::{CallEnd, CallTracker, Pick, PickArgs};
use crate::subchannel::{Connection, Kept, NotSent, ResponseBody, describe};

/// Extension of a request that waits for a connection instead of failing while
/// there is none: gRPC's "wait for ready". Drops by a balancer apply all the
/// same, and so does the request's timeout.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(lookaside_client::WaitForReady);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitForReady;

/// Sends `request` where the pickers say, and again elsewhere if it never left, or
/// was refused by a server that did not look at it. It ends by its
/// `grpc-timeout`, also while it waits.
pub(crate) async fn call(
    published: Arc<Published>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let deadline = timeout_of(request.headers()).map(|timeout| Instant::now() + timeout);
    let waits = AtomicBool::new(false);
    let sent = send(&published, request, &waits);
    let (response, peer, attempt) = match deadline {
        None => sent.await?,
        Some(deadline) => match tokio::time::timeout_at(deadline, sent).await {
            Ok(sent) => sent?,
            Err(_) => return Err(expired(&published, waits.load(Relaxed))),
        },
    };
    Ok(response.map(|incoming| {
        Body::new(CallBody {
            incoming,
            peer,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            _attempt: attempt,
        })
    }))
}

/// `waits` says whether it waits for a connection at the moment.
async fn send(
    published: &Arc<Published>,
    request: Request<Body>,
    waits: &AtomicBool,
) -> Result<(Response<ResponseBody>, Arc<Address>, Attempt), Status> {
    let wait_for_ready = request.extensions().get::<WaitForReady>().is_some();
    let mut outputs = Outputs::new(published, waits);
    let mut given_back = false;
    let mut refused = false;
    let (mut request, mut kept) = Kept::new(request).await?;
    loop {
        let chosen = match choose(published, &request, wait_for_ready) {
            Ok(chosen) => chosen,
            Err(status) => {
                // A caller that tries again and again must not keep the control
                // task of a single-threaded runtime from ever running.
                tokio::task::coop::consume_budget().await;
                return Err(status);
            }
        };
        let Some(Chosen {
            connection,
            lb_token,
            mut attempt,
        }) = chosen
        else {
            outputs.next().await;
            given_back = false;
            continue;
        };
        match lb_token {
            Some(token) => request.headers_mut().insert(LB_TOKEN_KEY, token),
            None => request.headers_mut().remove(LB_TOKEN_KEY),
        };
        let NotSent {
            request: unsent,
            left,
            malformed,
            error,
        } = match connection.send(request).await {
            Ok(response) => {
                attempt.end.received = true;
                return Ok((response, Arc::clone(connection.peer()), attempt));
            }
            Err(not_sent) => not_sent,
        };
        if malformed {
            attempt.end.sent = false;
            let reason = describe(&error);
            return Err(Status::internal(format!("no request for HTTP/2: {reason}")));
        }
        if !left {
            attempt.end.sent = false;
            published.metrics().retries.fetch_add(1, Relaxed);
            tracing::debug!(%error, "not sent; it goes elsewhere");
            match unsent {
                Some(unsent) => request = *unsent,
                None => match kept.again().await {
                    Some(again) => (request, kept) = again,
                    None => return Err(status_of(error, connection.peer())),
                },
            }
            // The picker will change, as the connection is gone. Until then its
            // other connections may do; but only once, or this loop would spin
            // where there is no other.
            if given_back {
                outputs.next().await;
            }
            given_back = !given_back;
        } else if !refused && was_refused(&error) {
            // Once, as gRPC has it: a server that refuses everything would keep
            // an RPC going round.
            refused = true;
            match kept.again().await {
                Some(again) => {
                    published.metrics().retries.fetch_add(1, Relaxed);
                    tracing::debug!(%error, "refused unseen; it goes elsewhere");
                    (request, kept) = again;
                }
                None => return Err(status_of(error, connection.peer())),
            }
        } else {
            return Err(status_of(error, connection.peer()));
        }
    }
}

/// Whether the server says that it did not look at the RPC.
fn was_refused(error: &h2::Error) -> bool {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends with the server's GOAWAY only what it does not cover.
    error.is_remote() && (error.is_go_away() || (error.is_reset() && refused))
}

struct Chosen {
    connection: Connection,
    lb_token: Option<HeaderValue>,
    attempt: Attempt,
}

/// One pick; `None` means to wait for the next picker.
fn choose<B>(
    published: &Arc<Published>,
    request: &Request<B>,
    wait_for_ready: bool,
) -> Result<Option<Chosen>, Status> {
    let args = PickArgs::new(request.uri(), request.headers());
    published.pick(&args, |pick| match pick {
        Pick::Complete(picked) => Ok(Some(Chosen {
            connection: picked.connection.clone(),
            lb_token: picked.lb_token.cloned(),
            attempt: Attempt::new(published, picked.tracker),
        })),
        Pick::Queue => Ok(None),
        Pick::Fail(_) if wait_for_ready => Ok(None),
        Pick::Fail(status) => {
            published.metrics().failed_picks.add_one();
            Err(status.clone())
        }
        Pick::Drop(status) => Err(status.clone()),
    })
}

/// Waits for the next output without missing one: it subscribes before the pick
/// that may make it wait a second time.
struct Outputs<'a> {
    published: &'a Published,
    waits: &'a AtomicBool,
    progress: Option<watch::Receiver<Progress>>,
}

impl<'a> Outputs<'a> {
    fn new(published: &'a Published, waits: &'a AtomicBool) -> Self {
        Self {
            published,
            waits,
            progress: None,
        }
    }

    async fn next(&mut self) {
        match &mut self.progress {
            // The caller picked before there was a subscription: it has to pick
            // once more before it may wait.
            None => self.progress = Some(self.published.subscribe()),
            Some(progress) => {
                self.waits.store(true, Relaxed);
                // The sender lives in `published`.
                let _ = progress.changed().await;
                self.waits.store(false, Relaxed);
            }
        }
    }
}

/// One sending of an RPC. Its end is counted, however it comes about.
#[derive(Debug)]
struct Attempt {
    published: Arc<Published>,
    tracker: Option<Arc<dyn CallTracker>>,
    end: CallEnd,
}

impl Attempt {
    /// Of an RPC whose start has been counted.
    fn new(published: &Arc<Published>, tracker: Option<&Arc<dyn CallTracker>>) -> Self {
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

/// A response's body: ends the attempt, and the RPC at its deadline.
struct CallBody {
    incoming: ResponseBody,
    /// Who answers.
    peer: Arc<Address>,
    deadline: Option<Pin<Box<Sleep>>>,
    _attempt: Attempt,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
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

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call's timeout is over")
}

/// The status of an RPC whose timeout is over: if it waited, with what for.
fn expired(published: &Published, waited: bool) -> Status {
    if !waited {
        return deadline_exceeded();
    }
    published.metrics().expired.fetch_add(1, Relaxed);
    let output = published.output();
    let reason = output.picker.failure();
    let reason = reason.unwrap_or("none has been opened or refused yet");
    Status::deadline_exceeded(format!(
        "the call's timeout is over, and it waited for a connection: {reason}"
    ))
}

/// The status of an RPC that left and got no answer: the server may have run it.
fn status_of(error: h2::Error, peer: &Address) -> Status {
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

/// The value of `grpc-timeout`: up to eight digits and a unit. Nonsense is no
/// timeout; the server will say so.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        timeout_of(&headers)
    }

    #[test]
    fn timeouts_of_every_unit() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(timeout("6u"), Some(Duration::from_micros(6)));
        assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1.5S"] {
            assert_eq!(timeout(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_panics(text in "[ -~]{0,12}") {
            let _ = timeout(&text);
        }
    }
}
