//! What the main port serves beside BalanceLoad: registration, health and
//! reflection, as tonic generates them.

use std::sync::Arc;

use lookaside_proto::FILE_DESCRIPTORS;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::catalogue::Catalogue;
use crate::registration::Registrar;

/// The service that clients of the balancer may watch the health of.
const LOAD_BALANCER: &str = "grpc.lb.v1.LoadBalancer";

/// Messages of health and reflection are names.
const MAX_NAMES: usize = 4096;

/// The service of backends that register.
const REGISTRATION: &str = "lookaside.v1.RegistrationService";

/// The services, and what tells the health of the balancer.
pub(super) fn routes(
    registrar: &Registrar,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // The Greeter is among our protos and is not served here.
            .with_service_name(LOAD_BALANCER)
            .with_service_name(REGISTRATION)
            .with_service_name("grpc.health.v1.Health")
    };
    let (reporter, health) = tonic_health::server::health_reporter();
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
    Ok((routes, reporter))
}

/// Keeps the health of the balancer true: serving once every service has had a
/// list to send, and no longer once `draining`. Backends may register from the start:
/// services wait for them.
pub(super) async fn report_health(
    catalogue: Arc<Catalogue>,
    reporter: HealthReporter,
    draining: CancellationToken,
    end: CancellationToken,
) {
    let set = async |status| {
        for service in ["", LOAD_BALANCER] {
            reporter.set_service_status(service, status).await;
        }
    };
    set(ServingStatus::NotServing).await;
    reporter
        .set_service_status(REGISTRATION, ServingStatus::Serving)
        .await;
    let ready = async {
        catalogue.ready().await;
        set(ServingStatus::Serving).await;
        // A service that is added later is not the balancer's health.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ready => {}
        () = draining.cancelled() => {
            set(ServingStatus::NotServing).await;
            reporter
                .set_service_status(REGISTRATION, ServingStatus::NotServing)
                .await;
        }
    }
    // Streams of health watchers hang on the reporter.
    end.cancelled().await;
}
