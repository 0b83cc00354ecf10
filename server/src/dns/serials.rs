//! The serials of the zones: when what is answered changed last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::rr::Name;

/// The serial of each zone.
///
/// It is a time, so that it does not fall at a restart, and one of tenths of a
/// second, because a service is published at most so often: a serial that had
/// to run ahead of the clock would be a lower one after a restart.
#[derive(Debug, Default)]
pub(super) struct Serials {
    /// By the name of the apex in lower case.
    zones: Mutex<HashMap<Name, Edition>>,
}

/// What a zone's content was made from. Two that are equal have one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Of the names and settings.
    pub(super) names: u64,
    /// Of the backends.
    pub(super) backends: u64,
}

#[derive(Debug)]
struct Edition {
    origin: Origin,
    content: u64,
    serial: u32,
}

impl Serials {
    /// The serial of the zone that begins at `apex`. `content` is a hash of what
    /// is answered there, asked for if the origin is not what it was.
    pub(super) fn of(
        &self,
        apex: &Name,
        origin: Origin,
        now: u32,
        content: impl FnOnce() -> u64,
    ) -> u32 {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let key = apex.to_lowercase();
        let Some(edition) = zones.get_mut(&key) else {
            let content = content();
            let edition = Edition {
                origin,
                content,
                serial: now,
            };
            zones.insert(key, edition);
            return now;
        };
        if edition.origin != origin {
            edition.origin = origin;
            let content = content();
            if edition.content != content {
                edition.content = content;
                edition.serial = after(edition.serial, now);
            }
        }
        edition.serial
    }

    /// Forgets the zones that are no more.
    pub(super) fn retain(&self, is_zone: impl Fn(&Name) -> bool) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.retain(|apex, _| is_zone(apex));
    }
}

/// Tenths of a second since 1970, cut to what a serial holds.
pub(super) fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| (since.as_millis() / 100) as u32)
}

/// `now`, or the next serial if that is not after the last one, as serials go
/// (RFC 1982): they wrap around.
fn after(last: u32, now: u32) -> u32 {
    if is_after(now, last) {
        now
    } else {
        last.wrapping_add(1)
    }
}

/// Whether the serial `a` is after `b`.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apex() -> Name {
        Name::from_ascii("greeter.test.").unwrap()
    }

    proptest! {
        #[test]
        fn a_serial_moves_with_the_content_only_and_never_back(
            start: u32,
            steps in proptest::collection::vec((0u64..4, -20i32..20), 1..40),
        ) {
            let serials = Serials::default();
            let (mut now, mut last) = (start, None);
            for (step, (content, passed)) in (0u64..).zip(steps) {
                // Of a clock that is set, too.
                now = now.wrapping_add_signed(passed);
                let origin = Origin { names: step, backends: 0 };
                let serial = serials.of(&apex(), origin, now, || content);
                if let Some((before, known)) = last {
                    prop_assert_eq!(serial == before, content == known);
                    prop_assert!(serial == before || is_after(serial, before));
                }
                last = Some((serial, content));
            }
        }
    }

    #[test]
    fn a_serial_is_the_time_of_the_change() {
        let serials = Serials::default();
        let origin = |backends| Origin { names: 0, backends };
        assert_eq!(serials.of(&apex(), origin(1), 1000, || 7), 1000);
        let again = serials.of(&apex(), origin(1), 2000, || unreachable!("same origin"));
        assert_eq!(again, 1000);
        assert_eq!(serials.of(&apex(), origin(2), 2000, || 8), 2000);
        let upper = Name::from_ascii("GREETER.test.").unwrap();
        assert_eq!(serials.of(&upper, origin(2), 3000, || 8), 2000);
        // After the zone was away it is newer, not older.
        serials.retain(|_| false);
        assert_eq!(serials.of(&apex(), origin(2), 4000, || 8), 4000);
    }
}
