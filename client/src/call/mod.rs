//! One RPC: from its pick to the end of its response.

mod attempt;
mod body;
mod observed;
mod retry;
mod room;
mod timeout;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use lookaside_proto::lb_v1::LB_TOKEN_KEY;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use self::attempt::{Attempt, Outcome};
use self::body::{CallBody, at_deadline, deadline_exceeded, is_over};
use self::observed::Observed;
use self::retry::{Retries, code_in};
use self::room::{Choice, find_room};
use self::timeout::{set_timeout, timeout_of};
use self::waiting::{Outputs, Waits};
use crate::control::Published;
use crate::endpoint::Address;
use crate::policy::{Pick, PickArgs};
use crate::subchannel::{Connection, Kept, RequestBody, ResponseBody};

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

/// Extension of a response: the backend that answered.
///
/// ```
/// # fn example(response: tonic::Response<()>) {
/// if let Some(lookaside_client::Peer(address)) = response.extensions().get() {
///     println!("{address} answered");
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub Arc<Address>);

/// Sends `request` where the pickers say, and again elsewhere if it never left, or
/// was refused by a server that did not look at it, or if the service config has a
/// retry policy for it. It ends by its `grpc-timeout`, also while it waits.
pub(crate) async fn call(
    published: Arc<Published>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let hook = published.hook();
    let mut observed = hook.map(|hook| Observed::new(hook, request.uri()));
    match run(&published, request, &mut observed).await {
        Ok(response) => {
            if let Some(observed) = &mut observed
                && let Some(code) = code_in(response.headers())
            {
                observed.ended(code);
            }
            Ok(response.map(|body| Body::new(CallBody { observed, ..body })))
        }
        Err(status) => {
            if let Some(mut observed) = observed {
                observed.ended(status.code());
            }
            Err(status)
        }
    }
}

/// The same, up to the response's headers.
async fn run(
    published: &Arc<Published>,
    request: Request<Body>,
    observed: &mut Option<Observed>,
) -> Result<Response<CallBody>, Status> {
    let mut timeout = timeout_of(request.headers());
    let mut wait_for_ready = request.extensions().get::<WaitForReady>().is_some();
    let mut retries = None;
    if let Some(methods) = published.methods()
        && let Some(config) = methods.of(request.uri().path())
    {
        if let Some(longest) = config.timeout
            && timeout.is_none_or(|timeout| longest < timeout)
        {
            timeout = Some(longest);
        }
        wait_for_ready |= config.wait_for_ready == Some(true);
        let policy = config.retry_policy.clone();
        retries = policy.map(|policy| Retries::new(policy, methods.throttle().cloned()));
    }
    // One that ends when the clock does never ends.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    if let Some(observed) = observed {
        observed.until(deadline);
    }
    let waits = Waits::default();
    let terms = Terms {
        observed: observed.as_ref(),
        wait_for_ready,
        deadline,
        waits: &waits,
    };
    let sent = send(published, request, &terms, &mut retries);
    let (mut response, connection, attempt) = match deadline {
        None => sent.await?,
        Some(deadline) => {
            let bounded = {
                let _clock = published.clock();
                tokio::time::timeout_at(deadline, sent)
            };
            match bounded.await {
                Ok(sent) => at_deadline(sent, Some(deadline))?,
                Err(_) => return Err(waits.expired(published)),
            }
        }
    };
    if code_in(response.headers()) == Some(Code::Cancelled) && is_over(deadline) {
        return Err(deadline_exceeded());
    }
    let peer = Peer(Arc::clone(connection.peer()));
    response.extensions_mut().insert(peer);
    let _clock = published.clock();
    Ok(response.map(|incoming| CallBody {
        incoming,
        connection,
        deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
        retries,
        attempt,
        observed: None,
    }))
}

/// What holds for all attempts of an RPC.
struct Terms<'a> {
    /// Who wants to know where it is sent.
    observed: Option<&'a Observed>,
    wait_for_ready: bool,
    /// When its timeout is over.
    deadline: Option<Instant>,
    waits: &'a Waits,
}

impl Terms<'_> {
    /// Sends one attempt, to where `choice` says or, if there is no room, to another
    /// backend.
    async fn send(
        &self,
        published: &Published,
        choice: &mut Choice,
        mut request: Request<RequestBody>,
    ) -> Outcome {
        let sent_to = |choice: &Choice| {
            if let Some(observed) = self.observed {
                observed.sent_to(choice.connection.peer());
            }
        };
        choice.attempt.deadline = self.deadline;
        sent_to(choice);
        let args = PickArgs::new(request.uri(), request.headers());
        let sent = match find_room(published, args, choice, self.waits).await {
            None => Err(choice.connection.refuse(request)),
            Some(permit) => {
                sent_to(choice);
                choice.connection = permit.connection().clone();
                match choice.lb_token.take() {
                    Some(token) => request.headers_mut().insert(LB_TOKEN_KEY, token),
                    None => request.headers_mut().remove(LB_TOKEN_KEY),
                };
                let leaves = |headers: &mut HeaderMap| {
                    if let Some(deadline) = self.deadline {
                        // What is left of it, wherever it waited.
                        set_timeout(headers, deadline.saturating_duration_since(Instant::now()));
                    }
                };
                permit.send(request, leaves).await
            }
        };
        Outcome::of(sent, &choice.connection, &mut choice.attempt).await
    }
}

/// Sends attempts until one has what the RPC ends with.
async fn send(
    published: &Arc<Published>,
    request: Request<Body>,
    terms: &Terms<'_>,
    retries: &mut Option<Retries>,
) -> Result<(Response<ResponseBody>, Connection, Attempt), Status> {
    let mut outputs = Outputs::new(published, terms.waits);
    let mut given_back = false;
    let mut refused = false;
    let (mut request, mut kept) = Kept::new(request).await?;
    loop {
        let choice = match choose(published, &request, terms.wait_for_ready) {
            Ok(choice) => choice,
            Err(status) => {
                // A caller that tries again and again must not keep the control
                // task of a single-threaded runtime from ever running.
                tokio::task::coop::consume_budget().await;
                return Err(status);
            }
        };
        let Some(mut choice) = choice else {
            outputs.next().await;
            given_back = false;
            continue;
        };
        let outcome = terms.send(published, &mut choice, request).await;
        let Choice {
            connection,
            mut attempt,
            ..
        } = choice;
        let (status, pause) = match outcome {
            Outcome::Malformed(status) => return Err(status),
            Outcome::NotSent(status, unsent) => {
                drop(attempt);
                note_elsewhere(published, &status);
                match unsent {
                    Some(unsent) => request = *unsent,
                    None => (request, kept) = kept.again().await.ok_or(status)?,
                }
                // The picker will change, as the connection is gone. Until then its
                // other connections may do; but only once, or this loop would spin
                // where there is no other.
                if given_back {
                    outputs.next().await;
                }
                given_back = !given_back;
                continue;
            }
            Outcome::Refused(status) if !refused => {
                drop(attempt);
                // Once, as gRPC has it: a server that refuses everything would keep
                // an RPC going round.
                refused = true;
                note_elsewhere(published, &status);
                (request, kept) = kept.again().await.ok_or(status)?;
                continue;
            }
            Outcome::Refused(status) | Outcome::Failed(status) => {
                attempt.code = Some(status.code());
                match after(retries, status.code(), None) {
                    Some(pause) => (status, pause),
                    None => return Err(status),
                }
            }
            Outcome::Answered(response) => {
                let headers = response.headers();
                let Some(status) = Status::from_header_map(headers) else {
                    return Ok((response, connection, attempt));
                };
                attempt.ended(status.code(), Some(headers));
                match after(retries, status.code(), Some(headers)) {
                    Some(pause) => (status, pause),
                    None => return Ok((response, connection, attempt)),
                }
            }
        };
        drop(attempt);
        (request, kept) = again(published, kept, retries, pause, status).await?;
    }
}

/// After which pause an RPC that ended with `code` is sent again, if it is.
fn after(
    retries: &mut Option<Retries>,
    code: Code,
    headers: Option<&HeaderMap>,
) -> Option<Duration> {
    retries.as_mut()?.after(code, headers)
}

/// An attempt that no server looked at is followed by one elsewhere.
fn note_elsewhere(published: &Published, status: &Status) {
    published.metrics().retries.fetch_add(1, Relaxed);
    tracing::debug!(%status, "no server has seen the call; it goes elsewhere");
}

/// The request for its next attempt, after a pause.
///
/// # Errors
/// `status`, with which the last one ended, if it is too long to be sent again.
async fn again(
    published: &Published,
    kept: Kept,
    retries: &Option<Retries>,
    pause: Duration,
    status: Status,
) -> Result<(Request<RequestBody>, Kept), Status> {
    let Some((mut request, kept)) = kept.again().await else {
        return Err(status);
    };
    tracing::debug!(%status, ?pause, "failed; it is tried again by its retry policy");
    published.metrics().retries.fetch_add(1, Relaxed);
    if let Some(retries) = retries {
        retries.mark(request.headers_mut());
    }
    let pause = {
        let _clock = published.clock();
        tokio::time::sleep(pause)
    };
    pause.await;
    Ok((request, kept))
}

/// One pick; `None` means to wait for the next picker.
fn choose<B>(
    published: &Arc<Published>,
    request: &Request<B>,
    wait_for_ready: bool,
) -> Result<Option<Choice>, Status> {
    let args = PickArgs::new(request.uri(), request.headers());
    published.pick(&args, |pick| match pick {
        Pick::Complete(picked) => Ok(Some(Choice {
            connection: picked.connection.clone(),
            lb_token: picked.lb_token.cloned(),
            attempt: Attempt::new(published, picked.tracker),
        })),
        Pick::Queue => Ok(None),
        // Of a channel that has ended nothing more can come.
        Pick::Fail(_) if wait_for_ready && !published.has_ended() => Ok(None),
        Pick::Fail(status) => {
            published.metrics().failed_picks.add_one();
            Err(status.clone())
        }
        Pick::Drop(status) => Err(status.clone()),
    })
}
