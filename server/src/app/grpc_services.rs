//! What the main port serves beside BalanceLoad: registration, health and
//! reflection, as tonic generates them.

use std::sync::Arc;

use lookaside_proto::FILE_DESCRIPTORS;
use lookaside_proto::health_v1::health_check_response::ServingStatus;
use lookaside_proto::health_v1::health_server::HealthServer;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::serving::{Serving, ServingHealth};
use crate::catalogue::Catalogue;
use crate::registration::Registrar;

/// The service that clients of the balancer may watch the health of.
const LOAD_BALANCER: &str = "grpc.lb.v1.LoadBalancer";

/// Messages of health and reflection are names.
const MAX_NAMES: usize = 4096;

/// The service of backends that register.
const REGISTRATION: &str = "lookaside.v1.RegistrationService";

/// The services; that of health says what `serving` says.
pub(super) fn routes(
    registrar: &Registrar,
    serving: &Serving,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
            // The Greeter is among our protos and is not served here.
            .with_service_name(LOAD_BALANCER)
            .with_service_name(REGISTRATION)
            .with_service_name("grpc.health.v1.Health")
    };
    let health = HealthServer::new(ServingHealth::of(serving));
    let mut routes = Routes::new(health.max_decoding_message_size(MAX_NAMES));
    routes = routes.add_service(registrar.service());
    routes = routes.add_service(
        reflection()
            .build_v1()?
            .max_decoding_message_size(MAX_NAMES),
    );
    routes = routes.add_service(
        reflection()
            .build_v1alpha()?
            .max_decoding_message_size(MAX_NAMES),
    );
    Ok(routes)
}

/// Keeps the health of the balancer true: serving once every service has had a
/// list to send, and no longer once `draining`. Backends may register from the start:
/// services wait for them.
pub(super) async fn report_health(
    catalogue: Arc<Catalogue>,
    serving: Serving,
    draining: CancellationToken,
    end: CancellationToken,
) {
    let set = |status| {
        for service in ["", LOAD_BALANCER] {
            serving.set(service, status);
        }
    };
    set(ServingStatus::NotServing);
    serving.set(REGISTRATION, ServingStatus::Serving);
    let ready = async {
        catalogue.ready().await;
        set(ServingStatus::Serving);
        // A service that is added later is not the balancer's health.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ready => {}
        () = draining.cancelled() => {
            set(ServingStatus::NotServing);
            serving.set(REGISTRATION, ServingStatus::NotServing);
        }
    }
    // Streams of health watchers hang on it.
    end.cancelled().await;
}
