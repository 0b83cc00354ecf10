//! What a tonic backend behind a lookaside balancer links.
//!
//! A few lines, and the backend counts its load, is known to the balancers, is
//! sent calls as it can take them, and goes without one failing:
//!
//! ```no_run
//! use lookaside_backend::{Load, Registration, Utilization};
//! # use lookaside_proto::helloworld::{HelloReply, HelloRequest};
//! # use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
//! # use tonic::{Request, Response, Status};
//! # struct MyGreeter;
//! # #[tonic::async_trait]
//! # impl Greeter for MyGreeter {
//! #     async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
//! #         Err(Status::unimplemented(""))
//! #     }
//! # }
//!
//! # async fn example(stopped: impl Future<Output = ()>) -> Result<(), Box<dyn std::error::Error>> {
//! let load = Load::new(Utilization::Cpu);
//! let registration = Registration::builder("dns:///lb.example.com:9000")
//!     .service("greeter.example.com")
//!     .port(50051)
//!     .load(&load)
//!     .start()?;
//!
//! tonic::transport::Server::builder()
//!     .layer(load.layer())
//!     .add_service(GreeterServer::new(MyGreeter))
//!     .serve_with_shutdown("0.0.0.0:50051".parse()?, async {
//!         stopped.await; // SIGTERM, say
//!         registration.drain().await;
//!     })
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! | | |
//! |---|---|
//! | [`Load`] | counts calls, errors and calls under way by a tower layer; knows utilization by calls under way, CPU, or what the application says |
//! | [`Registration`] | tells balancers that the backend is there, how busy it is, and that it goes; comes back by itself to a balancer that was away |
//! | [`Load::orca`] | the same reports for balancers that ask: `xds.service.orca.v3.OpenRcaService` |
//! | [`Trailers`] | and for clients that balance by themselves: `endpoint-load-metrics-bin` |
//! | [`lb_token`] | which entry of a balancer's list a call came by |
//!
//! None needs the others. The balancer's operator lets backends register:
//!
//! ```toml
//! [[service]]
//! name = "greeter.example.com"
//! register = { cidrs = ["10.0.0.0/8"] }
//! ```
//!
//! # What is counted
//!
//! Calls, when they end: by the status in their trailers (or in headers that
//! stand alone), by being taken back, or by breaking off. [`is_error`] says
//! which are errors. A call that lasts counts as under way all the time and as
//! one call at its end. gRPC's own services (health, reflection, ORCA) are not
//! counted: their streams last as long as somebody watches, and a drain would
//! wait for them.
//!
//! It costs a call six to nine atomic additions on cache lines that threads
//! seldom share; nothing runs in the background, and rates are made when
//! somebody reads.
//!
//! # What tonic waits for
//!
//! A server that shuts down waits for every stream. [`Registration::drain`] ends
//! those of ORCA; streams of `tonic-health` watchers end when its
//! `HealthReporter` and service are dropped, which is after the shutdown, so give
//! the shutdown a time limit where clients watch health.
//!
//! # Tokens
//!
//! ```
//! use lookaside_backend::lb_token;
//! use tonic::metadata::MetadataMap;
//!
//! let mut metadata = MetadataMap::new();
//! metadata.insert("lb-token", "q1Zf0aB_.4rT-xW2k".parse().unwrap());
//!
//! let token = lb_token(&metadata).unwrap();
//! assert_eq!(token.id(), "q1Zf0aB_");
//! assert_eq!(token.nonce(), Some("4rT-xW2k"));
//! ```

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cpu;
mod load;
mod orca;
mod registration;
mod token;

pub use self::load::{
    CountedBody, CountedFuture, CountedService, Load, LoadBuilder, LoadLayer, Report, Trailers,
    Utilization, is_error,
};
pub use self::orca::Orca;
pub use self::registration::{
    BalancerState, BalancerStatus, DrainOptions, Drained, Registered, Registration,
    RegistrationBuilder, RegistrationError, RegistrationStatus, TargetStatus,
};
pub use self::token::{LbToken, lb_token};
