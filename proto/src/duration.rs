//! `google.protobuf.Duration` to and from [`std::time::Duration`].

use std::time::Duration;

/// Longest duration protobuf allows, in seconds: about 10 000 years.
const MAX_SECONDS: i64 = 315_576_000_000;

/// As a protobuf message, cut off at protobuf's longest.
#[must_use]
pub fn to_proto(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    if seconds >= MAX_SECONDS {
        return prost_types::Duration {
            seconds: MAX_SECONDS,
            nanos: 0,
        };
    }
    prost_types::Duration {
        seconds,
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// From a protobuf message. `None` if it is negative or malformed: seconds and
/// nanoseconds of different signs, or a second or more of nanoseconds.
#[must_use]
pub fn from_proto(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok()?;
    (nanos < 1_000_000_000 && duration.seconds <= MAX_SECONDS)
        .then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whole_range_survives(seconds in 0..MAX_SECONDS.cast_unsigned(), nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(from_proto(&to_proto(duration)), Some(duration));
        }

        #[test]
        fn nothing_from_the_wire_panics(seconds: i64, nanos: i32) {
            let _ = from_proto(&prost_types::Duration { seconds, nanos });
        }
    }

    #[test]
    fn too_long_is_cut_and_negative_refused() {
        assert_eq!(to_proto(Duration::MAX).seconds, MAX_SECONDS);
        let negative = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert_eq!(from_proto(&negative), None);
    }
}
