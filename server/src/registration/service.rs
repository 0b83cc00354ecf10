//! The generated service's implementation: a stream each.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{Stream, stream};
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::registration_service_server::RegistrationService;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::stream::Backend;

/// Streams at one time.
const MAX_STREAMS: usize = 50_000;

/// The generated service's implementation.
#[derive(Debug, Clone)]
pub struct Register(Arc<Shared>);

/// What goes down a stream.
pub type Responses =
    Pin<Box<dyn Stream<Item = Result<pb::RegisterResponse, Status>> + Send + 'static>>;

impl Register {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

#[tonic::async_trait]
impl RegistrationService for Register {
    type RegisterStream = Responses;

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let backend = Backend::begin(Arc::clone(&self.0), request).await?;
        let responses = stream::unfold(Some(backend), async |backend| {
            let mut backend = backend?;
            match backend.next().await {
                Some(Ok(answer)) => {
                    let response = pb::RegisterResponse {
                        message: Some(answer),
                    };
                    Some((Ok(response), Some(backend)))
                }
                Some(Err(status)) => Some((Err(status), None)),
                None => None,
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Counts a stream until it is dropped.
pub(super) struct StreamPermit(Arc<Shared>);

impl StreamPermit {
    pub(super) fn take(shared: Arc<Shared>) -> Result<Self, Status> {
        let streams = shared.streams.fetch_add(1, Ordering::Relaxed);
        shared.metrics.streams.inc();
        let permit = Self(shared);
        if streams >= MAX_STREAMS {
            return Err(Status::resource_exhausted(
                "this balancer has as many registration streams as it takes",
            ));
        }
        Ok(permit)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.streams.dec();
    }
}
