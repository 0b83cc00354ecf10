//! The tower layer that counts calls.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::Load;
use super::body::CountedBody;
use super::call::Call;

/// Counts the calls of the service it wraps, by [`Load::layer`].
#[derive(Debug, Clone)]
pub struct LoadLayer {
    load: Load,
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct CountedService<S> {
    inner: S,
    load: Load,
}

pin_project! {
    /// The response to come of a counted call.
    #[derive(Debug)]
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl LoadLayer {
    pub(super) fn new(load: Load) -> Self {
        Self { load }
    }
}

impl<S> Layer<S> for LoadLayer {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> CountedService<S> {
        CountedService {
            inner,
            load: self.load.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for CountedService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call::begin(&self.load, request.uri().path(), request.headers());
        CountedFuture {
            inner: self.inner.call(request),
            call,
        }
    }
}

impl<F, R, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<CountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx));
        let mut call = this.call.take();
        Poll::Ready(match response {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                // Nothing but headers: then the status is among them.
                if head.headers.contains_key("grpc-status")
                    && let Some(call) = call.take()
                {
                    call.end(&mut head.headers);
                }
                Ok(Response::from_parts(head, CountedBody::new(body, call)))
            }
            Err(error) => {
                if let Some(call) = call {
                    call.break_off();
                }
                Err(error)
            }
        })
    }
}
