//! All subchannels of a channel, owned by the channel's one control task: no
//! locks, and every state change is a return of [`Pool::changed`].

mod attempts;
mod more;
mod slot;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::attempts::{Attempts, Step};
use self::slot::{Outcome, Slot, gauge, own};
use super::connect::{ConnectOptions, connect};
use super::{Hold, Subchannel, SubchannelState};
use crate::endpoint::Address;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::metrics::Metrics;
use crate::until::until;

/// How long a subchannel that nobody holds keeps its connection, as in gRPC: a
/// backend that leaves a list often comes back with the next one.
const RETENTION: Duration = Duration::from_secs(10);
/// A policy may look at all its subchannels after each change, which takes time
/// when there are 100 000 of them. This much of it is nothing to care about; for so
/// many times as long as it took more, changes are gathered before the next are
/// told, so that there is time for other things.
const SHORT_LOOK: Duration = Duration::from_millis(2);
const REST: u32 = 3;
/// Longest that changes are gathered.
const MAX_REST: Duration = Duration::from_millis(200);

/// The subchannels of a channel. Policies hold the ones they use.
#[derive(Debug)]
pub struct Pool {
    options: ConnectOptions,
    places: HashMap<Address, usize>,
    /// By place. A subchannel that somebody holds stays in its place.
    slots: Vec<Option<Slot>>,
    /// Places without a slot.
    free: Vec<usize>,
    /// Attempts and live connections, by place.
    jobs: JoinSet<(usize, Outcome)>,
    attempts: Attempts,
    /// When to look at which place. Some entries are out of date.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Places whose last hold was dropped.
    released: mpsc::UnboundedReceiver<usize>,
    release: mpsc::UnboundedSender<usize>,
    /// What runs live connections; it ends with them.
    tasks: TaskTracker,
    rng: fastrand::Rng,
    /// Whether a state changed since [`Pool::changed`] last said so.
    news: bool,
    /// When it did, until it is called again.
    told: Option<Instant>,
    /// When it may say so again.
    quiet_until: Option<Instant>,
    /// Whether a connection was lost or not to be had since the last
    /// [`Pool::take_losses`].
    losses: bool,
    metrics: Arc<Metrics>,
}

impl Pool {
    pub(crate) fn new(options: ConnectOptions, rng: fastrand::Rng, metrics: Arc<Metrics>) -> Self {
        let (release, released) = mpsc::unbounded_channel();
        Self {
            options,
            places: HashMap::new(),
            slots: vec![],
            free: vec![],
            jobs: JoinSet::new(),
            attempts: Attempts::default(),
            timers: BinaryHeap::new(),
            released,
            release,
            tasks: TaskTracker::new(),
            rng,
            news: false,
            told: None,
            quiet_until: None,
            losses: false,
            metrics,
        }
    }

    /// Whether a connection was lost or not to be had since the last call: a
    /// reason to resolve again.
    pub(crate) fn take_losses(&mut self) -> bool {
        std::mem::take(&mut self.losses)
    }

    /// The subchannel to `address`: the one there is, or a new, idle one.
    pub fn acquire(&mut self, address: &Address) -> Subchannel {
        let place = match self.places.get(address) {
            Some(place) => *place,
            None => self.add(address.clone()),
        };
        let backoff = self.options.backoff;
        let slot = self.slots[place].get_or_insert_with(|| Slot::new(address.clone(), backoff));
        slot.released = None;
        let hold = slot.hold.upgrade().unwrap_or_else(|| {
            let hold = Arc::new(Hold {
                address: address.clone(),
                place,
                release: self.release.clone(),
            });
            slot.hold = Arc::downgrade(&hold);
            if matches!(slot.state, SubchannelState::Idle) {
                // Its backoff is over: who takes it up starts afresh.
                slot.last_error = None;
            }
            hold
        });
        Subchannel(hold)
    }

    fn add(&mut self, address: Address) -> usize {
        gauge(&self.metrics, &SubchannelState::Idle).fetch_add(1, Relaxed);
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.places.insert(address.clone(), place);
        self.slots[place] = Some(Slot::new(address, self.options.backoff));
        place
    }

    /// Starts to connect, if the subchannel is idle: at once, or, while many
    /// others connect, when it is its turn.
    pub fn connect(&mut self, subchannel: &Subchannel) {
        let place = subchannel.0.place;
        let Some(slot) = own(&mut self.slots, subchannel) else {
            return;
        };
        if !matches!(slot.state, SubchannelState::Idle) {
            return;
        }
        let now = Instant::now();
        slot.set(SubchannelState::Connecting, &self.metrics);
        let earliest = slot.earliest(&mut self.rng);
        match earliest.filter(|earliest| *earliest > now) {
            Some(earliest) => {
                slot.wake_at = Some(earliest);
                self.timers.push(Reverse((earliest, place)));
            }
            None => {
                self.attempts.enqueue(place);
                if self.attempts.waiting() == 1 {
                    self.proceed(now);
                }
            }
        }
    }

    /// Lets go of a subchannel and, unless somebody else holds it, ends at once
    /// what it does. It keeps its backoff for a while, as any other that is let
    /// go.
    pub fn discard(&mut self, subchannel: Subchannel) {
        let place = subchannel.0.place;
        let Some(slot) = own(&mut self.slots, &subchannel) else {
            return;
        };
        drop(subchannel);
        let busy = matches!(
            slot.state,
            SubchannelState::Connecting | SubchannelState::Ready(_)
        );
        if slot.hold.strong_count() == 0 && busy {
            slot.wake_at = None;
            slot.stop(place, &mut self.attempts);
            slot.set(SubchannelState::Idle, &self.metrics);
        }
    }

    /// What the subchannel is doing.
    #[must_use]
    pub fn state(&self, subchannel: &Subchannel) -> SubchannelState {
        self.slot(subchannel)
            .map_or(SubchannelState::Idle, |slot| slot.state.clone())
    }

    /// Why the last attempt failed; `None` once one has succeeded. A subchannel
    /// that tries again after a failure has it still.
    #[must_use]
    pub fn last_error(&self, subchannel: &Subchannel) -> Option<Arc<ConnectError>> {
        self.slot(subchannel)?.last_error.clone()
    }

    fn slot(&self, subchannel: &Subchannel) -> Option<&Slot> {
        let slot = self.slots.get(subchannel.0.place)?.as_ref()?;
        slot.is_of(subchannel).then_some(slot)
    }

    /// Waits until at least one subchannel has changed its state. May be dropped
    /// at any time.
    pub(crate) async fn changed(&mut self) {
        if let Some(told) = self.told.take() {
            let now = Instant::now();
            let look = (now - told).saturating_sub(SHORT_LOOK);
            self.quiet_until = Some(now + (look * REST).min(MAX_REST));
        }
        loop {
            let now = Instant::now();
            self.settle(now);
            let quiet = self.quiet_until.filter(|until| *until > now);
            if self.news && quiet.is_none() {
                self.news = false;
                self.told = Some(now);
                return;
            }
            let due = [
                self.timers.peek().map(|Reverse((at, _))| *at),
                self.attempts.next_due(now),
                quiet.filter(|_| self.news),
            ];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                Some(job) = self.jobs.join_next_with_id() => {
                    self.finished(job);
                    // All that is there at once.
                    while let Some(job) = self.jobs.try_join_next_with_id() {
                        self.finished(job);
                    }
                }
                Some(place) = self.released.recv() => self.let_go(place),
                () = until(due) => {}
            }
        }
    }

    /// Does all that can be done without waiting.
    fn settle(&mut self, now: Instant) {
        while let Ok(place) = self.released.try_recv() {
            self.let_go(place);
        }
        while let Some(Reverse((at, place))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            self.wake(place, now);
        }
        self.proceed(now);
    }

    /// Starts the attempts whose turn it is.
    fn proceed(&mut self, now: Instant) {
        while let Some(step) = self.attempts.step(now) {
            match step {
                Step::Start(place) => self.start(place, now),
                Step::End(place) => {
                    let Some(slot) = &mut self.slots[place] else {
                        continue;
                    };
                    let time = slot.started.map(|start| now - start).unwrap_or_default();
                    let time = Duration::from_millis(time.as_millis() as u64);
                    let reason = format!(
                        "{}: no HTTP/2 connection within {time:?}, and {} others wait for \
                         their turn",
                        slot.address,
                        self.attempts.waiting()
                    );
                    slot.stop(place, &mut self.attempts);
                    let timeout = ConnectErrorKind::Timeout;
                    self.fail(place, ConnectError::new(timeout, reason));
                }
            }
        }
    }

    fn start(&mut self, place: usize, now: Instant) {
        let Some(slot) = &mut self.slots[place] else {
            return;
        };
        // It may have been let go, started and put into the queue again.
        let waits = matches!(slot.state, SubchannelState::Connecting) && slot.job.is_none();
        if !waits || slot.wake_at.is_some() {
            return;
        }
        slot.started = Some(now);
        self.attempts.started(place, now, slot.backoff.current());
        let address = slot.address.clone();
        let options = self.options.clone();
        let tasks = self.tasks.clone();
        slot.job = Some(self.jobs.spawn(async move {
            let opened = connect(&address, &options, &tasks).await;
            (place, Outcome::Opened(opened))
        }));
    }

    fn finished(&mut self, job: Result<(Id, (usize, Outcome)), JoinError>) {
        let (id, (place, outcome)) = match job {
            Ok(done) => done,
            // Of a subchannel that was let go.
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                let is_it = |slot: &Slot| slot.is_doing(error.id());
                let mut slots = self.slots.iter();
                let Some(place) = slots.position(|slot| slot.as_ref().is_some_and(is_it)) else {
                    return;
                };
                let reason = Err(ConnectError::other("the connector panicked"));
                (error.id(), (place, Outcome::Opened(reason)))
            }
        };
        // Or it had ended before it could be cancelled.
        let Some(slot) = self.slots[place].as_mut().filter(|slot| slot.is_doing(id)) else {
            return;
        };
        slot.job = None;
        if let Some(started) = slot.started {
            self.attempts.ended(place, started);
        }
        let address = &slot.address;
        match outcome {
            Outcome::Opened(Ok((connection, driver))) => {
                tracing::debug!(%address, "connected");
                slot.backoff.reset();
                slot.last_error = None;
                let run = more::run(&connection, driver, &self.options, &self.tasks);
                slot.set(SubchannelState::Ready(connection), &self.metrics);
                self.metrics.connects.fetch_add(1, Relaxed);
                let job = async move { (place, Outcome::Ended(run.await)) };
                slot.job = Some(self.jobs.spawn(job));
                self.news = true;
            }
            Outcome::Opened(Err(reason)) => self.fail(place, reason),
            Outcome::Ended(reason) => {
                tracing::debug!(%address, %reason, "connection ended");
                slot.note_end();
                slot.set(SubchannelState::Idle, &self.metrics);
                self.losses = true;
                self.news = true;
            }
        }
    }

    /// The attempt of `place` failed.
    fn fail(&mut self, place: usize, reason: ConnectError) {
        let Some(slot) = &mut self.slots[place] else {
            return;
        };
        tracing::debug!(address = %slot.address, %reason, "no connection");
        let reason = Arc::new(reason);
        // As in gRPC the delay counts from the start of the attempt.
        let start = slot.started.unwrap_or_else(Instant::now);
        let retry = start + slot.backoff.next_delay(&mut self.rng);
        slot.wake_at = Some(retry);
        self.timers.push(Reverse((retry, place)));
        slot.last_error = Some(Arc::clone(&reason));
        slot.set(SubchannelState::TransientFailure(reason), &self.metrics);
        self.metrics.failed_connects.fetch_add(1, Relaxed);
        self.losses = true;
        self.news = true;
    }

    /// Nobody holds the subchannel in `place`, or nobody did for a moment.
    fn let_go(&mut self, place: usize) {
        if let Some(slot) = &mut self.slots[place]
            && slot.hold.strong_count() == 0
        {
            let now = Instant::now();
            slot.released = Some(now);
            self.timers.push(Reverse((now + RETENTION, place)));
        }
    }

    /// Something of `place` may be due.
    fn wake(&mut self, place: usize, now: Instant) {
        let Some(slot) = &mut self.slots[place] else {
            return;
        };
        if slot.released.is_some_and(|at| at + RETENTION <= now) {
            // RPCs under way finish.
            slot.stop(place, &mut self.attempts);
            gauge(&self.metrics, &slot.state).fetch_sub(1, Relaxed);
            self.places.remove(&slot.address);
            self.slots[place] = None;
            self.free.push(place);
        } else if slot.wake_at.is_some_and(|at| at <= now) {
            slot.wake_at = None;
            if matches!(slot.state, SubchannelState::Connecting) {
                self.attempts.enqueue(place);
            } else {
                slot.set(SubchannelState::Idle, &self.metrics);
                self.news = true;
            }
        }
    }
}
