//! Requests that can be sent a second time.
//!
//! An RPC that reached a server which then refused it unseen (REFUSED_STREAM, or
//! a GOAWAY that does not cover it) is to be sent elsewhere: gRPC's transparent
//! retry (gRFC A6). What left by then has to be kept, up to a limit and until the
//! server answers; nothing is copied.
//!
//! Most RPCs are unary, and their message is there before they start. It is taken
//! out of tonic's body and sent as one DATA frame that also ends the stream,
//! where tonic's body would need a second, empty one: less work for both ends, and
//! keeping it costs one reference count.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// Most that is kept of one RPC, in bytes; gRPC's buffer for retries. A longer
/// request is not retried once it is on its way.
const KEEP: usize = 256 * 1024;

/// The body of a request, as a connection sends it.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    /// The one message of a unary RPC, until it is sent.
    Whole(Option<Bytes>),
    /// Messages as they come.
    Stream(Replayable),
}

/// A request's body, by the ways to send it.
pub(super) enum Outgoing {
    /// The headers are all.
    Empty,
    /// The only message.
    Whole(Bytes),
    /// Frames as they come.
    Stream(Replayable),
}

/// What it takes to send a request again.
#[derive(Debug)]
pub(crate) struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: KeptBody,
}

#[derive(Debug)]
enum KeptBody {
    Whole(Bytes),
    Stream(oneshot::Receiver<Stream>),
    TooLong,
}

impl Kept {
    /// Splits `request` into one to send and what it takes to send it again.
    ///
    /// # Errors
    /// The status with which the body begins, if it does: a message that could not
    /// be encoded.
    pub(crate) async fn new(
        request: Request<Body>,
    ) -> Result<(Request<RequestBody>, Self), Status> {
        let (parts, body) = request.into_parts();
        let mut stream = Stream::new(body);
        // Whether the whole body is there: asked, not waited for.
        let whole = poll_fn(|cx| Poll::Ready(stream.take_whole(cx))).await?;
        Ok(match whole {
            Some(message) => Self::whole(parts, message),
            None => Self::stream(parts, stream),
        })
    }

    /// The request once more, in two parts as before. Waits until the first sending
    /// has let go of the body. `None` if it was too long to be kept.
    pub(crate) async fn again(self) -> Option<(Request<RequestBody>, Self)> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method;
        parts.uri = self.uri;
        parts.headers = self.headers;
        match self.body {
            KeptBody::Whole(message) => Some(Self::whole(parts, message)),
            KeptBody::Stream(home) => Some(Self::stream(parts, home.await.ok()?)),
            KeptBody::TooLong => None,
        }
    }

    fn whole(parts: Parts, message: Bytes) -> (Request<RequestBody>, Self) {
        let body = match message.len() {
            ..=KEEP => KeptBody::Whole(message.clone()),
            _ => KeptBody::TooLong,
        };
        Self::of(parts, Kind::Whole(Some(message)), body)
    }

    fn stream(parts: Parts, stream: Stream) -> (Request<RequestBody>, Self) {
        let (home, kept) = oneshot::channel();
        let (home, keep) = match stream.size {
            ..=KEEP => (Some(home), KeptBody::Stream(kept)),
            _ => (None, KeptBody::TooLong),
        };
        let body = Replayable {
            stream,
            next: 0,
            home,
        };
        Self::of(parts, Kind::Stream(body), keep)
    }

    fn of(parts: Parts, send: Kind, keep: KeptBody) -> (Request<RequestBody>, Self) {
        let kept = Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            body: keep,
        };
        (Request::from_parts(parts, RequestBody(send)), kept)
    }
}

/// For requests that are not sent again.
impl From<Body> for RequestBody {
    fn from(body: Body) -> Self {
        Self(Kind::Stream(Replayable {
            stream: Stream::new(body),
            next: 0,
            home: None,
        }))
    }
}

impl From<RequestBody> for Outgoing {
    fn from(body: RequestBody) -> Self {
        match body.0 {
            Kind::Whole(Some(message)) => Self::Whole(message),
            Kind::Whole(None) => Self::Empty,
            Kind::Stream(body) if body.is_end_stream() => Self::Empty,
            Kind::Stream(body) => Self::Stream(body),
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.0 {
            Kind::Whole(message) => Poll::Ready(message.take().map(|data| Ok(Frame::data(data)))),
            Kind::Stream(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(message) => message.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }
}

/// A body, and what was already taken from it.
#[derive(Debug)]
struct Stream {
    taken: VecDeque<Bytes>,
    size: usize,
    rest: Body,
}

impl Stream {
    fn new(rest: Body) -> Self {
        Self {
            taken: VecDeque::new(),
            size: 0,
            rest,
        }
    }

    /// The body's only message, if it is there and followed by the end.
    fn take_whole(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, Status> {
        let first = match Pin::new(&mut self.rest).poll_frame(cx) {
            Poll::Ready(Some(first)) => first?.into_data(),
            Poll::Ready(None) => {
                // Not every body may be asked again after its end.
                self.rest = Body::empty();
                return Ok(None);
            }
            Poll::Pending => return Ok(None),
        };
        let Ok(first) = first else {
            return Ok(None);
        };
        if self.rest.is_end_stream() {
            return Ok(Some(first));
        }
        let second = Pin::new(&mut self.rest).poll_frame(cx);
        match second {
            Poll::Ready(None) => return Ok(Some(first)),
            Poll::Ready(Some(second)) => {
                self.take(first);
                if let Ok(second) = second?.into_data() {
                    self.take(second);
                }
            }
            Poll::Pending => self.take(first),
        }
        Ok(None)
    }

    fn take(&mut self, data: Bytes) {
        self.size += data.len();
        self.taken.push_back(data);
    }
}

/// Sends what was taken once, then the rest; and comes home when it is dropped.
#[derive(Debug)]
pub(super) struct Replayable {
    stream: Stream,
    /// Which of the taken frames is next.
    next: usize,
    /// Where to go when the sending is over; none if nobody can want it any more.
    home: Option<oneshot::Sender<Stream>>,
}

impl HttpBody for Replayable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.stream.taken.get(self.next).cloned() {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let frame = ready!(Pin::new(&mut self.stream.rest).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.keep(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.stream.taken.len() && self.stream.rest.is_end_stream()
    }
}

impl Replayable {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        // Closed once the server has answered, or the caller has gone.
        let wanted = self.home.as_ref().is_some_and(|home| !home.is_closed());
        match frame.data_ref() {
            Some(data) if wanted && self.stream.size + data.len() <= KEEP => {
                self.stream.take(data.clone());
                self.next += 1;
            }
            // Not wanted, too long, or trailers, which gRPC requests do not have.
            _ => {
                self.home = None;
                self.stream.taken.clear();
                self.next = 0;
            }
        }
    }
}

impl Drop for Replayable {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let stream = Stream {
                taken: std::mem::take(&mut self.stream.taken),
                size: self.stream.size,
                rest: std::mem::take(&mut self.stream.rest),
            };
            // Refused by whoever has got an answer meanwhile.
            let _ = home.send(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Chunks that are all there at once, or each only when asked a second time.
    fn request(chunks: &[&'static str], slow: bool) -> Request<Body> {
        let frames: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok::<_, Status>(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        let frames = stream::iter(frames).then(move |frame| async move {
            if slow {
                tokio::task::yield_now().await;
            }
            frame
        });
        let mut request = Request::new(Body::new(StreamBody::new(frames)));
        request.headers_mut().insert("x", "y".parse().unwrap());
        *request.uri_mut() = "http://a/b".parse().unwrap();
        request
    }

    async fn frames(request: &mut Request<RequestBody>, count: usize) -> Vec<Bytes> {
        let frames = request.body_mut().into_data_stream().take(count);
        frames.map(|frame| frame.unwrap()).collect().await
    }

    #[tokio::test]
    async fn a_body_cut_off_anywhere_is_sent_whole_the_next_time() {
        for chunks in [&["one"][..], &["one", "two", "three"]] {
            for (cut, slow) in (0..=chunks.len()).flat_map(|cut| [(cut, true), (cut, false)]) {
                let (mut first, kept) = Kept::new(request(chunks, slow)).await.unwrap();
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
    }

    #[tokio::test]
    async fn one_message_that_is_there_ends_its_stream() {
        let (mut request, _kept) = Kept::new(request(&["one"], false)).await.unwrap();
        assert!(!request.body().is_end_stream());
        assert_eq!(frames(&mut request, 1).await, ["one"]);
        assert!(request.body().is_end_stream());
    }

    #[tokio::test]
    async fn a_body_without_messages_is_only_an_end() {
        let (mut request, _kept) = Kept::new(request(&[], false)).await.unwrap();
        assert_eq!(frames(&mut request, 9).await, Vec::<Bytes>::new());
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_encoded_fails_at_once() {
        let error = stream::iter([Err::<Frame<Bytes>, _>(Status::internal("no"))]);
        let request = Request::new(Body::new(StreamBody::new(error)));
        let status = Kept::new(request).await.unwrap_err();
        assert_eq!(status.message(), "no");
    }

    #[tokio::test]
    async fn nothing_is_kept_once_nobody_wants_it() {
        let (mut first, kept) = Kept::new(request(&["one", "two"], true)).await.unwrap();
        drop(kept);
        assert_eq!(frames(&mut first, 9).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn what_is_too_long_is_sent_and_not_kept() {
        let long = Bytes::from(vec![0; KEEP + 1]);
        let whole = Body::new(http_body_util::Full::new(long.clone()));
        let parts = [Bytes::from_static(b"short"), long.clone()];
        let parts = parts.map(|part| Ok::<_, Status>(Frame::data(part)));
        let parts = Body::new(StreamBody::new(stream::iter(parts)));
        for (body, wanted) in [(whole, 1), (parts, 2)] {
            let (mut first, kept) = Kept::new(Request::new(body)).await.unwrap();
            assert_eq!(frames(&mut first, 9).await.len(), wanted);
            drop(first);
            assert!(kept.again().await.is_none());
        }
    }
}
