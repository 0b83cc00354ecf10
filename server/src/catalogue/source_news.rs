//! What an operator must know of a service's sources: told when it begins and when it is
//! over.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::hold::HOLD;
use super::source::SourceState;
use lookaside_core::model::ServiceName;
use lookaside_core::plan::SourceId;

type Sources = BTreeMap<SourceId, SourceState>;

/// Says what is new about sources that were there before.
pub(super) fn tell(service: &ServiceName, before: &Sources, now: &Sources) {
    for (source, now) in now {
        if let Some(before) = before.get(source) {
            tell_one(service, source, *before, *now);
        }
    }
}

fn tell_one(service: &ServiceName, source: &SourceId, before: SourceState, now: SourceState) {
    match (before, now) {
        (SourceState::Stale | SourceState::Syncing, SourceState::Stale) => {}
        (_, SourceState::Stale) => warn!(
            %service,
            %source,
            "the source does not answer: the backends that it listed last stay"
        ),
        (SourceState::Holding { .. }, SourceState::Holding { .. }) => {}
        (_, SourceState::Holding { backends }) => warn!(
            %service,
            %source,
            backends,
            "most backends of the source vanished at once: they stay listed for {HOLD:?}"
        ),
        (SourceState::Stale, SourceState::Synced) => {
            info!(%service, %source, "the source answers again");
        }
        (SourceState::Holding { .. }, SourceState::Synced) => info!(
            %service,
            %source,
            "the backends that vanished at once are back, or removed"
        ),
        (SourceState::Syncing | SourceState::Synced, SourceState::Synced)
        | (_, SourceState::Syncing) => {}
    }
}

#[cfg(test)]
mod tests {
    use lookaside_core::plan::SourceKind;

    use super::*;
    use crate::telemetry::Lines;

    #[test]
    fn the_beginning_and_the_end_of_a_hold_and_of_silence_are_a_line_each() {
        let service = ServiceName::parse("greeter.test").unwrap();
        let etcd = SourceId {
            kind: SourceKind::Etcd,
            name: Some("/a/".into()),
        };
        let sources = |state| Sources::from([(etcd.clone(), state)]);
        let told = |before, now| Lines::of(|| tell(&service, &sources(before), &sources(now)));
        let (three, two) = (
            SourceState::Holding { backends: 3 },
            SourceState::Holding { backends: 2 },
        );
        for (before, now, level, text) in [
            (
                SourceState::Synced,
                SourceState::Stale,
                "WARN",
                "does not answer",
            ),
            (
                SourceState::Stale,
                SourceState::Synced,
                "INFO",
                "answers again",
            ),
            (SourceState::Synced, three, "WARN", "most backends"),
            (two, SourceState::Synced, "INFO", "back, or removed"),
        ] {
            let lines = told(before, now);
            assert_eq!(lines.len(), 1, "{lines:?}");
            for wanted in [level, text, "service=greeter.test", "source=etcd:/a/"] {
                assert!(lines[0].contains(wanted), "{lines:?}");
            }
        }
        for (before, now) in [
            (SourceState::Syncing, SourceState::Synced),
            (SourceState::Synced, SourceState::Synced),
            (three, two),
            (SourceState::Stale, SourceState::Stale),
        ] {
            assert!(told(before, now).is_empty());
        }
    }
}
