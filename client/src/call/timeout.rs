//! `grpc-timeout`: how long an RPC may take.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The header's name.
const KEY: &str = "grpc-timeout";
/// The most digits that a value may have.
const DIGITS: u128 = 99_999_999;

/// The value of `grpc-timeout`: up to eight digits and a unit. Nonsense is no
/// timeout; the server will say so.
pub(super) fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEY)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Says in `headers` that the RPC may take this long: in the smallest unit that has
/// digits enough, rounded up.
pub(super) fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = timeout.as_nanos();
    let fits = UNITS.iter().find_map(|(unit, name)| {
        let count = nanos.div_ceil(*unit);
        (count <= DIGITS).then(|| format!("{count}{name}"))
    });
    // More than ten thousand years are for ever.
    match fits.and_then(|text| HeaderValue::from_str(&text).ok()) {
        Some(value) => headers.insert(KEY, value),
        None => headers.remove(KEY),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(KEY, text.parse().unwrap());
        timeout_of(&headers)
    }

    #[test]
    fn timeouts_of_every_unit() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("5m"), Some(Duration::from_millis(5)));
        assert_eq!(timeout("6u"), Some(Duration::from_micros(6)));
        assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1.5S"] {
            assert_eq!(timeout(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn for_ever_is_no_timeout() {
        let mut headers = HeaderMap::new();
        set_timeout(&mut headers, Duration::from_secs(1));
        set_timeout(&mut headers, Duration::MAX);
        assert!(headers.is_empty());
    }

    proptest! {
        #[test]
        fn no_timeout_panics(text in "[ -~]{0,12}") {
            let _ = timeout(&text);
        }

        #[test]
        fn what_is_set_is_read_and_is_never_shorter(seconds in 0u64..400_000_000, nanos in 0u32..1_000_000_000) {
            let timeout = Duration::new(seconds, nanos);
            let mut headers = HeaderMap::new();
            set_timeout(&mut headers, timeout);
            let read = timeout_of(&headers).unwrap();
            prop_assert!(read >= timeout);
            prop_assert!(read.as_secs_f64() <= timeout.as_secs_f64() * 1.001 + 1e-6);
        }
    }
}
