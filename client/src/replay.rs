//! Request bodies that can be sent a second time.
//!
//! An RPC that reached a server which then refused it unseen (REFUSED_STREAM, or
//! a GOAWAY that does not cover it) is to be sent elsewhere: gRPC's transparent
//! retry (gRFC A6). What left by then has to be kept: clones of the frames, up to
//! a limit, until the server answers. Nothing is copied.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// Most that is kept of one RPC, in bytes; gRPC's buffer for retries. A longer
/// request is not retried once it is on its way.
const KEEP: usize = 256 * 1024;

/// What is needed to send a request again.
#[derive(Debug)]
pub(crate) struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: oneshot::Receiver<Unfinished>,
}

impl Kept {
    /// Splits `request` into one to send and what it takes to send it again.
    pub(crate) fn new(request: Request<Body>) -> (Request<Body>, Self) {
        let (parts, body) = request.into_parts();
        Self::of(parts, Unfinished::new(body))
    }

    fn of(parts: Parts, body: Unfinished) -> (Request<Body>, Self) {
        let (home, kept) = oneshot::channel();
        let kept = Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            body: kept,
        };
        let body = Replayable {
            body,
            next: 0,
            home: Some(home),
        };
        (Request::from_parts(parts, Body::new(body)), kept)
    }

    /// The request once more, in two parts as before. Waits until the first sending
    /// has let go of the body. `None` if it was too long to be kept.
    pub(crate) async fn again(self) -> Option<(Request<Body>, Self)> {
        let body = self.body.await.ok()?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method;
        parts.uri = self.uri;
        parts.headers = self.headers;
        Some(Self::of(parts, body))
    }
}

/// A body, and what was already taken from it.
#[derive(Debug)]
struct Unfinished {
    taken: VecDeque<Bytes>,
    size: usize,
    rest: Body,
}

impl Unfinished {
    fn new(rest: Body) -> Self {
        Self {
            taken: VecDeque::new(),
            size: 0,
            rest,
        }
    }
}

/// Sends what was taken once, then the rest; and comes home when it is dropped.
struct Replayable {
    body: Unfinished,
    /// Which of the taken frames is next.
    next: usize,
    /// Where to go when the sending is over; none if nobody can want it any more.
    home: Option<oneshot::Sender<Unfinished>>,
}

impl Replayable {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        // Closed once the server has answered, or the caller has gone.
        if self.home.as_ref().is_none_or(oneshot::Sender::is_closed) {
            self.forget();
            return;
        }
        match frame.data_ref() {
            Some(data) if self.body.size + data.len() <= KEEP => {
                self.body.size += data.len();
                self.body.taken.push_back(data.clone());
                self.next += 1;
            }
            // Too long, or trailers, which gRPC requests do not have.
            _ => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.home = None;
        self.body.taken.clear();
        self.next = 0;
    }
}

impl HttpBody for Replayable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.body.taken.get(self.next).cloned() {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let frame = ready!(Pin::new(&mut self.body.rest).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.keep(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.body.taken.len() && self.body.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Only the untouched body knows; gRPC sends no length anyway.
        match self.body.taken.is_empty() {
            true => self.body.rest.size_hint(),
            false => SizeHint::default(),
        }
    }
}

impl Drop for Replayable {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let body = Unfinished {
                taken: std::mem::take(&mut self.body.taken),
                size: self.body.size,
                rest: std::mem::take(&mut self.body.rest),
            };
            // Refused by whoever has got an answer meanwhile.
            let _ = home.send(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn request(chunks: &[&'static str]) -> Request<Body> {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        let mut request = Request::new(Body::new(StreamBody::new(stream::iter(frames))));
        request.headers_mut().insert("x", "y".parse().unwrap());
        *request.uri_mut() = "http://a/b".parse().unwrap();
        request
    }

    async fn frames(request: &mut Request<Body>, count: usize) -> Vec<Bytes> {
        let frames = request.body_mut().into_data_stream().take(count);
        frames.map(|frame| frame.unwrap()).collect().await
    }

    #[tokio::test]
    async fn a_body_cut_off_anywhere_is_sent_whole_the_next_time() {
        let chunks = ["one", "two", "three"];
        for cut in 0..=3 {
            let (mut first, kept) = Kept::new(request(&chunks));
            assert_eq!(frames(&mut first, cut).await, chunks[..cut]);
            drop(first);
            let (mut second, kept) = kept.again().await.unwrap();
            assert_eq!(second.headers()["x"], "y");
            assert_eq!(second.uri(), "http://a/b");
            assert_eq!(frames(&mut second, 1).await, chunks[..1]);
            drop(second);
            let (mut third, _kept) = kept.again().await.unwrap();
            assert_eq!(frames(&mut third, 9).await, chunks);
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_once_nobody_wants_it() {
        let (mut first, kept) = Kept::new(request(&["one", "two"]));
        drop(kept);
        assert_eq!(frames(&mut first, 9).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn what_is_too_long_is_sent_and_not_kept() {
        let long = Bytes::from(vec![0; KEEP + 1]);
        let body = http_body_util::Full::new(long.clone());
        let (mut first, kept) = Kept::new(Request::new(Body::new(body)));
        assert_eq!(frames(&mut first, 9).await, [long]);
        drop(first);
        assert!(kept.again().await.is_none());
    }
}
