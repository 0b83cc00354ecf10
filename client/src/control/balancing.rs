//! Who decides where RPCs go, and how one decider takes over from another.

use std::sync::Arc;

use tokio::time::Instant;

use crate::endpoint::{ConnectivityState, Endpoint};
use crate::error::{ConnectError, ConnectErrorKind, ResolveError};
use crate::grpclb::{Event, Grpclb, GrpclbConfig};
use crate::policy::{Output, PickFirst, Policy, RoundRobin};
use crate::resolve::{BalancerAddress, Balancers, Resolution};
use crate::service_config::{
    ChildPolicy, GrpclbPolicyConfig, PickFirstConfig, PolicyConfig, ServiceConfig,
};
use crate::subchannel::Pool;
use crate::until::after;

/// Makes the policy that a channel without a balancer uses.
pub(crate) type MakePolicy = Box<dyn Fn(fastrand::Rng) -> Box<dyn Policy> + Send>;

/// What deciders are made from.
pub(crate) struct Recipe {
    pub(crate) target: String,
    /// The application's own choice.
    /// `pick_first` if there is none.
    pub(crate) make_policy: Option<MakePolicy>,
    pub(crate) grpclb: GrpclbConfig,
    /// For when the resolver has none.
    pub(crate) service_config: Option<ServiceConfig>,
    pub(crate) rng: fastrand::Rng,
}

/// The decider of the moment, and what serves until it can.
pub(super) struct Balancing {
    current: Decider,
    /// Serves while `current` connects, as in gRPC's graceful switch.
    before: Option<Decider>,
    /// The balancers that were named last, also before the channel was idle.
    named: Vec<BalancerAddress>,
    /// What the resolver, or else the application, says of policy and RPCs.
    config: Option<ServiceConfig>,
    /// What waits for word of the balancers, and until when.
    held: Option<(Resolution, Option<Instant>)>,
    /// Lists followed by deciders that are gone.
    lists: u64,
}

enum Decider {
    /// Nothing is known yet.
    Nothing,
    /// There is nothing to decide: idle, or nothing could be found out.
    Fixed(Output),
    Plain(Box<dyn Policy>, Kind),
    Grpclb(Box<Grpclb>),
}

/// Which policy a plain one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The application's choice.
    Own,
    PickFirst(PickFirstConfig),
    RoundRobin,
}

impl Balancing {
    pub(super) fn new() -> Self {
        Self {
            current: Decider::Nothing,
            before: None,
            named: vec![],
            config: None,
            held: None,
            lists: 0,
        }
    }

    /// Begins again, after [`Balancing::rest`].
    pub(super) fn start(&mut self) {
        self.current = Decider::Nothing;
    }

    /// Lets go of everything; RPCs meet `output`.
    pub(super) fn rest(&mut self, output: Output) {
        self.lists = self.lists_followed();
        self.before = None;
        self.held = None;
        self.current = Decider::Fixed(output);
    }

    /// Fails RPCs for this reason, if there is nothing better.
    pub(super) fn fail(&mut self, error: &ResolveError) -> bool {
        let nothing = self.is_undecided();
        if nothing {
            self.held = None;
            let cause = ConnectError::from(error.clone());
            let output = Output::failed_by(error.to_string(), Some(Arc::new(cause)));
            self.current = Decider::Fixed(output);
        }
        nothing
    }

    /// What the resolver knows now. Its word on the policy comes before the
    /// application's.
    pub(super) fn follow(&mut self, resolution: Resolution, recipe: &mut Recipe, pool: &mut Pool) {
        let held = self.held.take();
        if resolution.balancers == Balancers::Unknown && resolution.pending && self.remembers() {
            // One that had a balancer before it was idle does not call past it.
            let patience = recipe.grpclb.fallback_timeout;
            let until = held.map_or_else(|| after(patience), |(_, until)| until);
            if until.is_none_or(|until| until > Instant::now()) {
                self.held = Some((resolution, until));
                return;
            }
        }
        self.decide(resolution, recipe, pool);
    }

    /// When RPCs have waited long enough for word of the balancers.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|(_, until)| *until)
    }

    /// Goes by what waits for word of the balancers.
    pub(super) fn release(&mut self, recipe: &mut Recipe, pool: &mut Pool) {
        if let Some((resolution, _)) = self.held.take() {
            self.decide(resolution, recipe, pool);
        }
    }

    /// What to go by if the resolver says nothing at all: the balancers that it named
    /// before the channel was idle.
    pub(super) fn remembered(&self) -> Option<Resolution> {
        let named = || Resolution::default().with_balancers(self.named.clone());
        self.remembers().then(named)
    }

    fn remembers(&self) -> bool {
        self.is_undecided() && !self.named.is_empty()
    }

    fn is_undecided(&self) -> bool {
        matches!(self.current, Decider::Nothing | Decider::Fixed(_))
    }

    fn decide(&mut self, resolution: Resolution, recipe: &mut Recipe, pool: &mut Pool) {
        let Resolution {
            endpoints,
            mut balancers,
            service_config,
            ..
        } = resolution;
        if balancers == Balancers::Unknown && self.remembers() {
            // What cannot be found out again stays what it was.
            balancers = Balancers::Known(self.named.clone());
        }
        let config = service_config.or_else(|| recipe.service_config.clone());
        let before = std::mem::replace(&mut self.config, config.clone());
        let ignored = config.as_ref().map(|config| &config.ignored);
        if let Some(ignored) = ignored.filter(|ignored| !ignored.is_empty())
            && before.is_none_or(|before| before.ignored != *ignored)
        {
            let settings = ignored.join(", ");
            tracing::warn!(
                settings,
                "the service config has settings that are not known here"
            );
        }
        // A balancer is followed unless the config names another policy.
        let (kind, grpclb) = match config.and_then(|config| config.policy) {
            None => (Kind::Own, Some(GrpclbPolicyConfig::default())),
            Some(PolicyConfig::PickFirst(config)) => (Kind::PickFirst(config), None),
            Some(PolicyConfig::RoundRobin) => (Kind::RoundRobin, None),
            Some(PolicyConfig::Grpclb(config)) => {
                let kind = match config.child {
                    ChildPolicy::RoundRobin => Kind::RoundRobin,
                    ChildPolicy::PickFirst => Kind::PickFirst(PickFirstConfig::default()),
                };
                (kind, Some(config))
            }
        };
        match (&balancers, &grpclb) {
            (_, None) => self.named.clear(),
            (Balancers::Known(balancers), _) => self.named.clone_from(balancers),
            (Balancers::Absent, _) if self.is_undecided() => self.named.clear(),
            _ => {}
        }
        match (&mut self.current, grpclb, balancers) {
            (Decider::Grpclb(grpclb), Some(config), balancers) => {
                // Whoever had a balancer keeps it: an SRV record that is gone for
                // a moment is no reason to leave a list that is good.
                let balancers = match balancers {
                    Balancers::Known(balancers) => Some(balancers),
                    Balancers::Absent | Balancers::Unknown => None,
                };
                grpclb.reconfigure(&config, pool);
                grpclb.resolved(endpoints, balancers, pool);
            }
            (_, Some(config), Balancers::Known(balancers)) => {
                tracing::debug!(?balancers, "following a balancer");
                let rng = recipe.rng.fork();
                let mut grpclb = Grpclb::new(recipe.grpclb.clone(), &config, balancers, rng);
                grpclb.resolved(endpoints, None, pool);
                self.replace(Decider::Grpclb(Box::new(grpclb)));
            }
            // A balancer may still be found, and needs no addresses beside it.
            (_, Some(_), Balancers::Unknown) if endpoints.is_empty() => {}
            _ if endpoints.is_empty() => {
                let reason = format!("{} has no addresses", recipe.target);
                self.before = None;
                let cause = ConnectError::new(ConnectErrorKind::Dns, reason.clone());
                self.current = Decider::Fixed(Output::failed_by(reason, Some(Arc::new(cause))));
            }
            _ => self.plain(kind, endpoints, recipe, pool),
        }
        self.forget_before();
    }

    fn plain(
        &mut self,
        kind: Kind,
        endpoints: Vec<Endpoint>,
        recipe: &mut Recipe,
        pool: &mut Pool,
    ) {
        if let Decider::Plain(policy, known) = &mut self.current
            && *known == kind
        {
            policy.update(endpoints, pool);
            return;
        }
        let rng = recipe.rng.fork();
        let mut policy: Box<dyn Policy> = match kind {
            Kind::Own => match &recipe.make_policy {
                Some(make) => make(rng),
                None => Box::new(PickFirst::with_config(PickFirstConfig::default(), rng)),
            },
            Kind::PickFirst(config) => Box::new(PickFirst::with_config(config, rng)),
            Kind::RoundRobin => Box::new(RoundRobin::new(rng)),
        };
        policy.update(endpoints, pool);
        self.replace(Decider::Plain(policy, kind));
    }

    fn replace(&mut self, decider: Decider) {
        self.lists = self.lists_followed();
        let current = std::mem::replace(&mut self.current, decider);
        if matches!(current, Decider::Plain(..) | Decider::Grpclb(_))
            && (self.before.is_none() || current.output().state == ConnectivityState::Ready)
        {
            self.before = Some(current);
        }
    }

    pub(super) fn refresh(&mut self, pool: &mut Pool) {
        for decider in [Some(&mut self.current), self.before.as_mut()] {
            match decider {
                Some(Decider::Plain(policy, _)) => drop(policy.refresh(pool)),
                Some(Decider::Grpclb(grpclb)) => drop(grpclb.refresh(pool)),
                _ => {}
            }
        }
        self.forget_before();
    }

    /// Waits for something to [`Balancing::handle`]. May be dropped at any time.
    pub(super) async fn event(&mut self) -> Event {
        match &mut self.current {
            Decider::Grpclb(grpclb) => grpclb.event().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn handle(&mut self, event: Event, pool: &mut Pool) {
        if let Decider::Grpclb(grpclb) = &mut self.current {
            grpclb.handle(event, pool);
        }
        self.forget_before();
    }

    /// When a policy wants to be asked again, if no subchannel changes before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let deciders = [Some(&self.current), self.before.as_ref()];
        let due = deciders.into_iter().flatten().map(|decider| match decider {
            Decider::Plain(policy, _) => policy.next_due(),
            Decider::Grpclb(grpclb) => grpclb.next_due(),
            Decider::Nothing | Decider::Fixed(_) => None,
        });
        due.flatten().min()
    }

    fn forget_before(&mut self) {
        if self.current.output().state != ConnectivityState::Connecting {
            self.before = None;
        }
    }

    /// Whether RPCs meet what they will meet for good.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.current, Decider::Nothing) && self.before.is_none()
    }

    /// Whether the resolver's addresses are in use, so that it should know when
    /// one is lost.
    pub(super) fn uses_resolved(&self) -> bool {
        match &self.current {
            Decider::Nothing | Decider::Fixed(_) | Decider::Plain(..) => true,
            Decider::Grpclb(grpclb) => grpclb.in_fallback(),
        }
    }

    /// The service config that is followed; none before anything is known.
    pub(super) fn service_config(&self) -> Option<&ServiceConfig> {
        self.config.as_ref()
    }

    /// Whether addresses or balancers that are new are of use though all is well.
    pub(super) fn wants_news(&self, recipe: &Recipe) -> bool {
        match &self.current {
            Decider::Plain(_, Kind::Own) => recipe.make_policy.is_some(),
            Decider::Plain(_, Kind::RoundRobin) | Decider::Grpclb(_) => true,
            Decider::Plain(_, Kind::PickFirst(_)) | Decider::Nothing | Decider::Fixed(_) => false,
        }
    }

    pub(super) fn lists_followed(&self) -> u64 {
        match &self.current {
            Decider::Grpclb(grpclb) => self.lists + grpclb.lists_followed(),
            _ => self.lists,
        }
    }

    pub(super) fn output(&self) -> Output {
        let before = self.before.as_ref().map(Decider::output);
        // One that does not serve has nothing to bridge the time with.
        let serving = before.filter(|output| output.state == ConnectivityState::Ready);
        serving.unwrap_or_else(|| self.current.output())
    }
}

impl Decider {
    fn output(&self) -> Output {
        match self {
            Self::Nothing => Output::connecting(),
            Self::Fixed(output) => output.clone(),
            Self::Plain(policy, _) => policy.output(),
            Self::Grpclb(grpclb) => grpclb.output(),
        }
    }
}
