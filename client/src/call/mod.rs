//! One RPC: from its pick to the end of its response.

mod body;
mod retry;
mod timeout;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use lookaside_proto::lb_v1::LB_TOKEN_KEY;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use self::body::{Attempt, CallBody, status_of};
use self::retry::{Retries, code_in};
use self::timeout::{set_timeout, timeout_of};
use self::waiting::{Outputs, expired};
use crate::control::Published;
use crate::endpoint::Address;
use crate::policy::{Pick, PickArgs};
use crate::subchannel::{Connection, Kept, NotSent, RequestBody, ResponseBody, describe};

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
/// was refused by a server that did not look at it, or if the service config has a
/// retry policy for it. It ends by its `grpc-timeout`, also while it waits.
pub(crate) async fn call(
    published: Arc<Published>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
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
            set_timeout(request.headers_mut(), longest);
        }
        wait_for_ready |= config.wait_for_ready == Some(true);
        let policy = config.retry_policy.clone();
        retries = policy.map(|policy| Retries::new(policy, methods.throttle().cloned()));
    }
    // One that ends when the clock does never ends.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let waits = AtomicBool::new(false);
    let sent = send(&published, request, wait_for_ready, &mut retries, &waits);
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
            retries,
            _attempt: attempt,
        })
    }))
}

/// `waits` says whether it waits for a connection at the moment.
async fn send(
    published: &Arc<Published>,
    request: Request<Body>,
    wait_for_ready: bool,
    retries: &mut Option<Retries>,
    waits: &AtomicBool,
) -> Result<(Response<ResponseBody>, Arc<Address>, Attempt), Status> {
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
                let headers = response.headers();
                let ended = code_in(headers).zip(retries.as_mut());
                let Some((pause, status)) = ended.and_then(|(code, retries)| {
                    let pause = retries.after(code, Some(headers))?;
                    Some((pause, Status::from_header_map(headers)?))
                }) else {
                    return Ok((response, Arc::clone(connection.peer()), attempt));
                };
                drop((response, attempt));
                (request, kept) = again(published, kept, retries, pause, status).await?;
                continue;
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
            let status = status_of(error, connection.peer());
            let pause = retries.as_mut().and_then(|r| r.after(status.code(), None));
            drop(attempt);
            match pause {
                Some(pause) => {
                    (request, kept) = again(published, kept, retries, pause, status).await?;
                }
                None => return Err(status),
            }
        }
    }
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
    tokio::time::sleep(pause).await;
    Ok((request, kept))
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
