//! A stream, from `initial_response` on.
//!
//! It lives in the response body: HTTP/2 polls it when it can send, and that is
//! all that ever runs for it. So nothing here may depend on being polled in
//! time; a body whose client takes nothing is not polled at all, and whoever
//! must notice that is the service's publisher.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tonic::Status;
use tracing::debug;

use super::admission::Permit;
use super::budget::Budget;
use super::data::{Data, Gate};
use super::delivery::{Group, Listing, Subscription, Update};
use super::handshake::NewStream;
use super::metrics::OpenStream;
use super::refusal;
use super::request::{Message, RequestReader, Unread};
use super::responses::Responses;
use lookaside_core::model::Nonce;

/// Messages and DATA frames of a client that are taken in one go, so that one that
/// sends without pause does not keep a thread to itself.
const STEPS_PER_POLL: usize = 128;

/// Moves the rotation from one ordinal to the next: 2⁶⁴ divided by the golden
/// ratio, which spreads any number of clients evenly over a list.
const ORDINAL_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Moves the rotation of every client from one list to the next: 2⁶⁴ × 0.7549,
/// the golden ratio's counterpart in two dimensions.
const VERSION_STEP: u64 = 0xc13f_a9a9_02a6_328f;

/// A stream that has a service.
pub(super) struct Stream {
    /// `None` when the client has nothing more to say.
    request: Option<Incoming>,
    reader: RequestReader,
    pace: Budget,
    subscription: Subscription,
    metrics: OpenStream,
    responses: Arc<Responses>,
    gate: Arc<Gate>,
    next: Next,
    _permit: Permit,
}

/// What goes out next.
enum Next {
    /// `initial_response`.
    InitialResponse,
    /// The first message of what the stream is about.
    First,
    /// What has changed.
    Change,
    /// The end, with this status.
    End(Status),
    /// Nothing more.
    Nothing,
}

impl Stream {
    pub(super) fn new(begun: NewStream, responses: Arc<Responses>, permit: Permit) -> Self {
        Self {
            request: Some(begun.request),
            reader: begun.reader,
            pace: Budget::new(),
            subscription: begun.subscription,
            metrics: begun.metrics.open(),
            responses,
            gate: Arc::default(),
            next: Next::InitialResponse,
            _permit: permit,
        }
    }

    /// The next frame; never ends without trailers.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Data>>> {
        if matches!(self.next, Next::First | Next::Change) {
            self.read(cx);
        }
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::InitialResponse => {
                self.next = Next::First;
                let initial = self.responses.initial();
                Poll::Ready(Some(Frame::data(Data::Bytes(initial))))
            }
            next @ (Next::First | Next::Change) => {
                let first = matches!(next, Next::First);
                self.next = next;
                ready!(self.gate.poll_open(cx));
                match ready!(self.subscription.poll_next(cx)) {
                    Update::Group(group) => {
                        self.next = Next::Change;
                        Poll::Ready(Some(Frame::data(self.message(&group, first))))
                    }
                    Update::End(reason) => {
                        self.next = Next::Nothing;
                        Poll::Ready(Some(trailers(&refusal::ended(reason))))
                    }
                }
            }
            Next::End(status) => Poll::Ready(Some(trailers(&status))),
            Next::Nothing => Poll::Ready(None),
        }
    }

    /// Takes what the client sent off the wire, always all of it: unread DATA is
    /// what HTTP/2 ends connections for.
    fn read(&mut self, cx: &mut Context<'_>) {
        for _ in 0..STEPS_PER_POLL {
            // The first may have come together with initial_request.
            match self.reader.next_unread() {
                Ok(Some(unread)) => {
                    self.take(unread);
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    debug!(%error, "ended a stream");
                    self.metrics.service().malformed();
                    self.request = None;
                    self.next = Next::End(refusal::framing_lost(error));
                    return;
                }
            }
            let Some(request) = &mut self.request else {
                return;
            };
            match Pin::new(request).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.push(data);
                    }
                }
                // Clients do not end their half, but one that does may listen on.
                // After a reset HTTP/2 drops the whole stream.
                Poll::Ready(None | Some(Err(_))) => self.request = None,
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    fn take(&mut self, unread: Unread) {
        if !self.pace.pay(self.reader.cost(&unread)) {
            self.metrics.service().too_fast();
            return;
        }
        match self.reader.read(unread) {
            Message::Stats(stats) => {
                let snapshot = self.subscription.service().snapshot();
                let drops = snapshot.as_ref().map(|snapshot| &snapshot.plan.drops[..]);
                self.metrics
                    .service()
                    .record(&stats, drops.unwrap_or_default());
            }
            Message::Initial(_) => {
                debug!("ignored a second initial_request");
                self.metrics.service().second_initial();
            }
            Message::Malformed(malformed) => {
                debug!(%malformed, "ignored a message");
                self.metrics.service().malformed();
            }
        }
    }

    fn message(&self, group: &Group, first: bool) -> Data {
        let service = self.metrics.service();
        match &group.listing {
            Listing::Servers(lists) => {
                let ordinal = self.subscription.ordinal();
                let variant = lists.variant(ordinal);
                let phase = self.responses.phase();
                let rotation = rotation(phase, ordinal, group.version, variant.len());
                let frame = if first {
                    variant.first_frame(rotation, Nonce::from_bits(fastrand::u64(..)))
                } else {
                    variant.frame(rotation)
                };
                service.list_sent(&frame);
                self.gate.send(frame)
            }
            Listing::Fallback => {
                service.fallback_sent();
                Data::Bytes(self.responses.fallback())
            }
        }
    }
}

/// Where a stream's list starts, of `len` entries: the streams of a service,
/// by their ordinals, evenly spread, and all elsewhere in the next version.
fn rotation(phase: u64, ordinal: u64, version: u64, len: usize) -> u64 {
    let phase = phase
        .wrapping_add(ordinal.wrapping_mul(ORDINAL_STEP))
        .wrapping_add(version.wrapping_mul(VERSION_STEP));
    // The phase is a fraction of the list.
    ((u128::from(phase) * len as u128) >> 64) as u64
}

fn trailers(status: &Status) -> Frame<Data> {
    let mut trailers = HeaderMap::with_capacity(2);
    // Fails only for messages that are no header values, and those are escaped.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn streams_start_evenly_over_their_list(
            phase: u64,
            version in 0u64..1_000_000,
            streams in 1u64..2000,
            len in 1usize..50,
        ) {
            let mut starts = vec![0u64; len];
            for ordinal in 0..streams {
                starts[rotation(phase, ordinal, version, len) as usize] += 1;
            }
            let even = streams as f64 / len as f64;
            let most = starts.iter().max().map_or(0.0, |most| *most as f64);
            // The golden ratio's discrepancy, which no sequence beats by much.
            let off = 2.0 + (streams as f64).log2() / 2.0;
            prop_assert!(most <= even + off, "{most} of {streams} at one of {len}");
        }

        #[test]
        fn a_stream_starts_elsewhere_in_each_version(phase: u64, ordinal in 0u64..1_000_000) {
            let starts: Vec<u64> = (1..=8).map(|v| rotation(phase, ordinal, v, 1000)).collect();
            for (index, start) in starts.iter().enumerate() {
                prop_assert!(!starts[..index].contains(start));
            }
        }
    }
}
