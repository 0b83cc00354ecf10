//! What a channel with a balancer promises, at rest.

use std::collections::BTreeMap;

/// An entry of a list, as far as RPCs are concerned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Backend(usize, &'static str),
    Drop(&'static str),
    Bad(i32),
}

/// What RPCs meet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Serving {
    Nothing,
    List(Vec<Entry>),
    Fallback(Vec<usize>),
}

/// What became of an RPC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    /// To this backend with this token.
    To(usize, String),
    Dropped,
}

/// What a stream is to be told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) started: i64,
    pub(super) finished: i64,
    pub(super) received: i64,
    pub(super) dropped: i64,
}

#[derive(Debug)]
pub(super) struct Model {
    serving: Serving,
    /// What served when the last list came.
    before: Serving,
    spares: Vec<usize>,
    /// Whether the stream that is open has delivered a list.
    stream_has_list: bool,
    /// Until the first list, or the first reason to do without.
    startup: bool,
    connected: Vec<bool>,
    /// Of the stream that is open; what was counted for one that has ended is
    /// nobody's business.
    counts: Counts,
    /// Whether calls count for the stream that is open.
    counting: bool,
}

impl Model {
    pub(super) fn new(spares: Vec<usize>) -> Self {
        Self {
            serving: Serving::Nothing,
            before: Serving::Nothing,
            spares,
            stream_has_list: false,
            startup: true,
            connected: vec![],
            counts: Counts::default(),
            counting: false,
        }
    }

    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn greeted(&mut self) {
        self.counts = Counts::default();
        self.counting = false;
    }

    /// Says whether calls counted for this stream before as they do now, or not at
    /// all: those of the meantime are known to be its.
    pub(super) fn list(&mut self, entries: Vec<Entry>) -> bool {
        self.stream_has_list = true;
        self.startup = false;
        self.before = self.serving.clone();
        let known = self.counting || !matches!(self.serving, Serving::List(_));
        if entries.is_empty() && matches!(self.serving, Serving::Fallback(_)) {
            return false;
        }
        self.counting = true;
        self.serving = Serving::List(entries);
        known
    }

    pub(super) fn fallback_response(&mut self) {
        self.startup = false;
        self.fall_back();
    }

    pub(super) fn lost(&mut self) {
        self.stream_has_list = false;
        self.counting = false;
        if std::mem::take(&mut self.startup) {
            self.fall_back();
        }
    }

    pub(super) fn resolved(&mut self, spares: Vec<usize>) {
        self.spares = spares;
        if matches!(self.serving, Serving::Fallback(_)) {
            self.fall_back();
        }
    }

    /// All is at rest, `now` seconds after the start.
    pub(super) fn settled(&mut self, connected: Vec<bool>, now: f64) {
        self.connected = connected;
        if self.startup && now > 10.0 {
            self.startup = false;
            self.fall_back();
        }
        let Serving::List(entries) = &self.serving else {
            return;
        };
        let works = drops_all(entries) || !self.turns(&self.serving).is_empty();
        if !works && !self.stream_has_list && !self.spares.is_empty() {
            self.fall_back();
        }
    }

    fn fall_back(&mut self) {
        self.counting = false;
        self.serving = Serving::Fallback(self.spares.clone());
    }

    /// Whether an RPC that was made while one list followed another may have gone
    /// there.
    pub(super) fn may_send(&self, sent: &Sent) -> bool {
        [&self.before, &self.serving]
            .into_iter()
            .any(|serving| match (serving, sent) {
                (Serving::List(entries), Sent::To(backend, token)) => entries.iter().any(
                    |entry| matches!(entry, Entry::Backend(b, t) if b == backend && t == token),
                ),
                (Serving::List(entries), Sent::Dropped) => {
                    entries.iter().any(|entry| matches!(entry, Entry::Drop(_)))
                }
                (Serving::Fallback(spares), Sent::To(backend, token)) => {
                    spares.contains(backend) && token.is_empty()
                }
                _ => false,
            })
    }

    /// How often each thing happens in so many RPCs that all rounds are whole.
    pub(super) fn round(&self, serving: &Serving) -> BTreeMap<Option<Sent>, usize> {
        let turns = self.turns(serving);
        let mut round = BTreeMap::new();
        let (entries, drops) = match serving {
            Serving::List(entries) => {
                let drops = entries.iter().filter(|e| matches!(e, Entry::Drop(_)));
                (entries.len(), drops.count())
            }
            _ => (1, 0),
        };
        if drops > 0 && drops == entries {
            round.insert(Some(Sent::Dropped), drops * 2);
        } else if turns.is_empty() {
            // Nothing to send to, so nothing is dropped either.
            round.insert(None, 3);
        } else {
            // So many rounds of the list that those that are ready have whole ones.
            if drops > 0 {
                round.insert(Some(Sent::Dropped), drops * turns.len());
            }
            for turn in turns {
                *round.entry(Some(turn)).or_default() += entries - drops;
            }
        }
        round
    }

    /// The connected entries, in order.
    fn turns(&self, serving: &Serving) -> Vec<Sent> {
        let all: Vec<_> = match serving {
            Serving::Nothing => vec![],
            Serving::List(entries) => entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Backend(backend, token) => Some((*backend, *token)),
                    _ => None,
                })
                .collect(),
            Serving::Fallback(spares) => spares.iter().map(|spare| (*spare, "")).collect(),
        };
        all.into_iter()
            .filter(|(backend, _)| self.connected[*backend])
            .map(|(backend, token)| Sent::To(backend, token.to_owned()))
            .collect()
    }

    /// An RPC that a list sent or dropped.
    pub(super) fn count(&mut self, sent: &Sent) {
        if self.counting {
            self.counts.started += 1;
            self.counts.finished += 1;
            match sent {
                Sent::Dropped => self.counts.dropped += 1,
                Sent::To(..) => self.counts.received += 1,
            }
        }
    }
}

fn drops_all(entries: &[Entry]) -> bool {
    !entries.is_empty() && entries.iter().all(|entry| matches!(entry, Entry::Drop(_)))
}
