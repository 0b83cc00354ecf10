//! The deliveries of all services.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Delivery, EndReason, Subscription};
use crate::balance_load::metrics::BalanceLoadMetrics;
use crate::catalogue::Service;
use crate::wait::restarting;
use lookaside_core::model::ServiceName;
#[cfg(test)]
use lookaside_core::plan::Clients;

/// A delivery for each service that has streams; its tasks end with it.
#[derive(Debug)]
pub(in crate::balance_load) struct Deliveries {
    list_timeout: Duration,
    by_name: DashMap<ServiceName, Arc<Delivery>>,
    tasks: Mutex<JoinSet<()>>,
    shutting_down: AtomicBool,
}

impl Deliveries {
    /// A client that does not take a list within `list_timeout` loses its connection.
    pub(in crate::balance_load) fn new(list_timeout: Duration) -> Self {
        Self {
            list_timeout,
            by_name: DashMap::new(),
            tasks: Mutex::default(),
            shutting_down: AtomicBool::new(false),
        }
    }

    /// Joins the streams of `service`: see [`Delivery::subscribe`].
    ///
    /// # Errors
    /// If the service, or the balancer, is going away.
    pub(in crate::balance_load) fn subscribe(
        &self,
        service: &Arc<Service>,
        ip: IpAddr,
        connection: CancellationToken,
        metrics: &BalanceLoadMetrics,
    ) -> Result<Subscription, EndReason> {
        self.of(service, metrics)?.subscribe(ip, connection)
    }

    /// The services are others: forgets those that were removed. Their streams end all
    /// the same.
    pub(in crate::balance_load) fn follow_services(&self) {
        self.by_name
            .retain(|_, delivery| !delivery.service.is_removed());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
    }

    /// Ends every stream, spread over `over`, and lets no new one in.
    pub(in crate::balance_load) async fn end_all(&self, over: Duration) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let all: Vec<Arc<Delivery>> = self.by_name.iter().map(|d| Arc::clone(&d)).collect();
        let ends = all.iter().map(|delivery| {
            let subscribers = &delivery.subscribers;
            subscribers.end_all(EndReason::ShuttingDown, over)
        });
        join_all(ends).await;
    }

    /// The delivery of a service, which begins with its first stream.
    fn of(
        &self,
        service: &Arc<Service>,
        metrics: &BalanceLoadMetrics,
    ) -> Result<Arc<Delivery>, EndReason> {
        // While the entry is held, nothing of this name comes or goes: what is checked
        // here is seen by whoever removes a service or ends all streams.
        let entry = self.by_name.entry(service.name().clone());
        if let Entry::Occupied(known) = &entry
            && Arc::ptr_eq(&known.get().service, service)
        {
            return Ok(Arc::clone(known.get()));
        }
        if self.shutting_down.load(Ordering::SeqCst) {
            return Err(EndReason::ShuttingDown);
        }
        // One that was removed must not take the place of the one after it.
        if service.is_removed() {
            return Err(EndReason::ServiceRemoved);
        }
        let metrics = metrics.service(service.name());
        let delivery = Arc::new(Delivery::new(
            Arc::clone(service),
            self.list_timeout,
            metrics,
        ));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut followed = Arc::clone(&delivery);
        tasks.spawn(async move { restarting(&mut followed).await });
        drop(tasks);
        match entry {
            Entry::Occupied(mut outdated) => {
                outdated.insert(Arc::clone(&delivery));
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(&delivery));
            }
        }
        Ok(delivery)
    }

    /// Where the clients of a service with streams are.
    #[cfg(test)]
    pub(super) fn clients(&self, service: &Service) -> Clients {
        let delivery = self.by_name.get(service.name()).expect("it has streams");
        delivery.subscribers.clients()
    }

    /// How many streams follow a service.
    #[cfg(test)]
    pub(in crate::balance_load) fn streams(&self, service: &Service) -> usize {
        let delivery = self.by_name.get(service.name());
        delivery.map_or(0, |delivery| delivery.subscribers.len())
    }
}
