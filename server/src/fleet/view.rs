//! What a plan is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{
    Clients, Contribution, HealthFields, PlanInput, ServiceSettings, Source, TimedReport,
};

/// What is known of a service at one moment, to plan by. It shares what is large with
/// the service, so that nobody waits for a plan who has something to say.
#[derive(Debug)]
pub(super) struct View {
    pub(super) settings: Arc<ServiceSettings>,
    pub(super) contributions: BTreeMap<Source, Contribution>,
    pub(super) health: Arc<BTreeMap<BackendAddr, HealthFields>>,
    pub(super) reports: Vec<TimedReport>,
    pub(super) clients: Clients,
}

impl View {
    pub(super) fn input(&self) -> PlanInput<'_> {
        PlanInput {
            contributions: &self.contributions,
            settings: &self.settings,
            health: &self.health,
            reports: &self.reports,
            clients: &self.clients,
        }
    }
}
