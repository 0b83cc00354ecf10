//! `grpc.health.v1` of the balancer itself: a table of services and whether each is served.
//! tonic-health has no `List`.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::{Stream, stream};
use lookaside_proto::health_v1::health_check_response::ServingStatus;
use lookaside_proto::health_v1::health_server::Health;
use lookaside_proto::health_v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

type Statuses = BTreeMap<&'static str, ServingStatus>;

/// Says whether services are served. Clones say it of the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Serving(watch::Sender<Statuses>);

impl Serving {
    /// The empty name is the server as a whole.
    pub(super) fn set(&self, service: &'static str, status: ServingStatus) {
        self.0.send_modify(|statuses| {
            statuses.insert(service, status);
        });
    }
}

/// The generated service's implementation.
#[derive(Debug)]
pub(super) struct ServingHealth(watch::Receiver<Statuses>);

/// What goes down a `Watch`.
type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

impl ServingHealth {
    /// Watches end when every clone of `serving` is dropped.
    pub(super) fn of(serving: &Serving) -> Self {
        Self(serving.0.subscribe())
    }

    fn status(&self, service: &str) -> Option<ServingStatus> {
        self.0.borrow().get(service).copied()
    }
}

#[tonic::async_trait]
impl Health for ServingHealth {
    type WatchStream = Watched;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service);
        let status = status.ok_or_else(|| {
            Status::not_found("this balancer does not say how this service is; List says which")
        })?;
        Ok(Response::new(response(status)))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = self.0.borrow();
        let statuses = statuses.iter();
        let statuses = statuses.map(|(name, status)| ((*name).to_owned(), response(*status)));
        Ok(Response::new(HealthListResponse {
            statuses: statuses.collect(),
        }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        let service = request.into_inner().service;
        let mut statuses = self.0.clone();
        statuses.mark_changed();
        let watched = stream::unfold((statuses, None), move |(mut statuses, mut told)| {
            let service = service.clone();
            async move {
                loop {
                    statuses.changed().await.ok()?;
                    let status = statuses.borrow_and_update().get(&*service).copied();
                    let status = status.unwrap_or(ServingStatus::ServiceUnknown);
                    if told.replace(status) != Some(status) {
                        return Some((Ok(response(status)), (statuses, told)));
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(watched)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn asked(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    #[tokio::test]
    async fn every_service_is_listed_and_no_other_is_found() {
        let serving = Serving::default();
        serving.set("", ServingStatus::NotServing);
        serving.set("a.B", ServingStatus::Serving);
        let health = ServingHealth::of(&serving);
        let listed = health.list(Request::new(HealthListRequest {})).await;
        let listed = listed.unwrap().into_inner().statuses;
        let listed: BTreeMap<_, _> = listed.iter().map(|(n, r)| (&**n, r.status())).collect();
        let wanted = [
            ("", ServingStatus::NotServing),
            ("a.B", ServingStatus::Serving),
        ];
        assert_eq!(listed, wanted.into());
        let found = health.check(asked("a.B")).await.unwrap().into_inner();
        assert_eq!(found.status(), ServingStatus::Serving);
        let missing = health.check(asked("a.C")).await.unwrap_err();
        assert_eq!(missing.code(), tonic::Code::NotFound);
    }

    #[tokio::test]
    async fn a_watch_tells_each_change_of_its_service_once_and_ends_with_the_server() {
        let serving = Serving::default();
        let health = ServingHealth::of(&serving);
        let watched = health.watch(asked("a.B")).await.unwrap();
        drop(health);
        let mut told = watched.into_inner().map(|told| told.unwrap().status());
        assert_eq!(told.next().await, Some(ServingStatus::ServiceUnknown));
        serving.set("", ServingStatus::Serving);
        serving.set("a.B", ServingStatus::Serving);
        assert_eq!(told.next().await, Some(ServingStatus::Serving));
        serving.set("a.B", ServingStatus::NotServing);
        assert_eq!(told.next().await, Some(ServingStatus::NotServing));
        drop(serving);
        assert_eq!(told.next().await, None);
    }
}
