//! Which sessions with backends there should be, and which there are.
//!
//! A session is known by its backend and by what is asked of it, not by who asks: one
//! that goes on is not disturbed by services that come, go or change places.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::LoadConfig;
use lookaside_core::model::{BackendAddr, ServiceName};

/// What a backend is asked, how often, and for whom.
#[derive(Debug)]
pub(super) struct SessionSpec {
    /// In order of preference.
    pub(super) ways: Vec<LoadConfig>,
    pub(super) services: BTreeSet<ServiceName>,
}

/// Whom to ask, and what.
#[derive(Debug, Default)]
pub(super) struct Wanted(BTreeMap<BackendAddr, Vec<SessionSpec>>);

/// The sessions that there are.
#[derive(Debug)]
pub(super) struct Sessions<S>(BTreeMap<BackendAddr, Vec<(Vec<LoadConfig>, S)>>);

impl<S> Default for Sessions<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Wanted {
    /// A service wants a backend to be asked in these ways. Services that ask the same
    /// of the same backend ask once, as often as the most curious of them wants.
    pub(super) fn add(&mut self, backend: BackendAddr, service: &ServiceName, ways: &[LoadConfig]) {
        let all = self.0.entry(backend).or_default();
        let index = all.iter().position(|asked| are_like(&asked.ways, ways));
        let index = index.unwrap_or_else(|| {
            all.push(SessionSpec {
                ways: ways.to_vec(),
                services: BTreeSet::new(),
            });
            all.len() - 1
        });
        let asked = &mut all[index];
        for (way, other) in asked.ways.iter_mut().zip(ways) {
            way.interval = way.interval.min(other.interval);
        }
        asked.services.insert(service.clone());
    }
}

impl<S> Sessions<S> {
    /// Ends sessions that nobody wants, starts those that are new, and says to each for
    /// whom it asks.
    pub(super) fn follow(
        &mut self,
        wanted: Wanted,
        mut start: impl FnMut(BackendAddr, &SessionSpec) -> S,
        serve: impl Fn(&S, BTreeSet<ServiceName>),
        end: impl Fn(S),
    ) {
        let mut before = std::mem::take(&mut self.0);
        for (backend, all) in wanted.0 {
            let mut old = before.remove(&backend).unwrap_or_default();
            let sessions = all.into_iter().map(|asked| {
                let same = old.iter().position(|(ways, _)| *ways == asked.ways);
                let session = match same {
                    Some(index) => old.swap_remove(index).1,
                    None => start(backend, &asked),
                };
                serve(&session, asked.services);
                (asked.ways, session)
            });
            let sessions: Vec<_> = sessions.collect();
            self.0.insert(backend, sessions);
            old.into_iter().for_each(|(_, session)| end(session));
        }
        let ended = before.into_values().flatten();
        ended.for_each(|(_, session)| end(session));
    }
}

fn are_like(one: &[LoadConfig], other: &[LoadConfig]) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|(one, other)| one.is_like(other))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::{Config, parse};

    /// Sessions by number, and who asks each.
    #[derive(Default)]
    struct Collector {
        sessions: Sessions<usize>,
        started: usize,
        ended: RefCell<Vec<usize>>,
        served: RefCell<BTreeMap<usize, Vec<String>>>,
    }

    impl Collector {
        fn follow(&mut self, config: &Config) {
            let mut wanted = Wanted::default();
            for service in &config.services {
                for backend in &service.backends {
                    wanted.add(backend.address, &service.name, &service.load);
                }
            }
            self.served.borrow_mut().clear();
            self.sessions.follow(
                wanted,
                |_, _| {
                    self.started += 1;
                    self.started
                },
                |session, services| {
                    let names = services.iter().map(ToString::to_string).collect();
                    self.served.borrow_mut().insert(*session, names);
                },
                |session| self.ended.borrow_mut().push(session),
            );
        }

        fn served(&self) -> Vec<(usize, String)> {
            let served = self.served.borrow();
            let served = served.iter();
            served
                .map(|(session, names)| (*session, names.join(" ")))
                .collect()
        }
    }

    fn service(name: &str, port: u16, interval: &str) -> String {
        format!(
            "[[service]]\nname = \"{name}\"\n\
             load = {{ kind = \"orca\", port = {port}, interval = \"{interval}\" }}\n\
             backends = [{{ address = \"10.0.0.1:80\" }}]\n"
        )
    }

    fn config(services: &[String]) -> Config {
        parse(&services.concat(), "lookaside.toml").unwrap()
    }

    #[test]
    fn a_session_goes_on_while_other_services_come_and_go() {
        let (b, c) = (service("b.test", 81, "5s"), service("c.test", 82, "5s"));
        let mut collector = Collector::default();
        collector.follow(&config(&[b.clone(), c.clone()]));
        let both = [(1, "b.test".to_owned()), (2, "c.test".to_owned())];
        assert_eq!(collector.served(), both);
        // One comes before them all, then the two change places, then it goes.
        let a = service("a.test", 83, "5s");
        collector.follow(&config(&[a.clone(), b.clone(), c.clone()]));
        assert_eq!(collector.started, 3);
        collector.follow(&config(&[c.clone(), b.clone(), a]));
        assert!(collector.ended.borrow().is_empty());
        collector.follow(&config(&[b, c.clone()]));
        assert_eq!(collector.served(), both);
        assert_eq!(
            (collector.started, &*collector.ended.borrow()),
            (3, &vec![3])
        );
        collector.follow(&config(&[c]));
        assert_eq!(*collector.ended.borrow(), [3, 1]);
    }

    #[test]
    fn who_asks_the_same_shares_a_session_and_the_most_curious_sets_its_pace() {
        let (a, b) = (service("a.test", 81, "5s"), service("b.test", 81, "5s"));
        let mut collector = Collector::default();
        collector.follow(&config(std::slice::from_ref(&a)));
        collector.follow(&config(&[a.clone(), b]));
        assert_eq!(collector.served(), [(1, "a.test b.test".to_owned())]);
        assert_eq!(collector.started, 1);
        let often = service("b.test", 81, "2s");
        collector.follow(&config(&[a, often]));
        assert_eq!(collector.served(), [(2, "a.test b.test".to_owned())]);
        assert_eq!(*collector.ended.borrow(), [1]);
    }
}
