//! DNS cookies (RFC 7873, RFC 9018): who shows one that we made is at the
//! address that it asks from, for there we sent it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use siphasher::sip::SipHasher24;

/// Seconds for which a cookie holds, and how far ahead of our clock it may be
/// (RFC 9018 §4.3).
const OLDEST: u32 = 3600;
const NEWEST: u32 = 300;

/// Seconds after which a new secret makes the cookies. The one before is known
/// for as long again.
const SECRET_LIFETIME: u32 = 24 * 3600;

/// The version of RFC 9018 and three reserved bytes.
const VERSION: [u8; 4] = [1, 0, 0, 0];

type Secret = [u8; 16];

/// What a client chooses; it comes back in the reply.
pub(super) type ClientCookie = [u8; 8];

/// A client's cookie and ours.
pub(super) type WholeCookie = [u8; 24];

/// Makes cookies, and knows its own.
#[derive(Debug)]
pub struct Cookies {
    secrets: Mutex<Secrets>,
}

#[derive(Debug)]
struct Secrets {
    current: Secret,
    previous: Option<Secret>,
    since: u32,
}

/// What a query shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It has no cookie.
    Nothing,
    /// The client does not have one of ours yet.
    ClientOnly(ClientCookie),
    /// One of ours that holds: the client is where it says.
    Valid(ClientCookie),
    /// One that is too old, of another server, or forged.
    Invalid(ClientCookie),
    /// Not a cookie.
    Malformed,
}

impl Cookies {
    /// With a secret of its own. `now` is in seconds since 1970, here as below.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new(now: u32) -> Result<Self, getrandom::Error> {
        Ok(Self::with_secret(random()?, now))
    }

    fn with_secret(current: Secret, since: u32) -> Self {
        let secrets = Secrets {
            current,
            previous: None,
            since,
        };
        Self {
            secrets: Mutex::new(secrets),
        }
    }

    /// Judges what a client at `ip` shows.
    pub(super) fn judge(&self, cookie: Option<&[u8]>, ip: IpAddr, now: u32) -> Shown {
        let Some(cookie) = cookie else {
            return Shown::Nothing;
        };
        let Some((client, server)) = cookie.split_first_chunk::<8>() else {
            return Shown::Malformed;
        };
        match server.len() {
            0 => Shown::ClientOnly(*client),
            8..=32 if self.is_valid(client, server, ip, now) => Shown::Valid(*client),
            8..=32 => Shown::Invalid(*client),
            _ => Shown::Malformed,
        }
    }

    /// The cookie that a client is to show from now on.
    pub(super) fn make(&self, client: &ClientCookie, ip: IpAddr, now: u32) -> WholeCookie {
        let [a, b, c, d] = VERSION;
        let [e, f, g, h] = now.to_be_bytes();
        let head = [a, b, c, d, e, f, g, h];
        let mut cookie = [0; 24];
        cookie[..8].copy_from_slice(client);
        cookie[8..16].copy_from_slice(&head);
        cookie[16..].copy_from_slice(&sign(&self.secrets(now).0, client, &head, ip));
        cookie
    }

    fn is_valid(&self, client: &ClientCookie, server: &[u8], ip: IpAddr, now: u32) -> bool {
        let Some((head, hash)) = server.split_first_chunk::<8>() else {
            return false;
        };
        let [version, _, _, _, made @ ..] = *head;
        // As serials go: the clock of 32 bits wraps around.
        let made = u32::from_be_bytes(made);
        let in_time = now.wrapping_sub(made) <= OLDEST || made.wrapping_sub(now) <= NEWEST;
        let (current, previous) = self.secrets(now);
        let secrets = [Some(current), previous];
        version == VERSION[0]
            && in_time
            && secrets
                .iter()
                .flatten()
                .any(|secret| sign(secret, client, head, ip) == hash)
    }

    /// The secret that makes cookies, and the one before.
    fn secrets(&self, now: u32) -> (Secret, Option<Secret>) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        // Not if the clock was set back.
        let age = now.wrapping_sub(secrets.since);
        if (SECRET_LIFETIME..1 << 31).contains(&age) {
            secrets.since = now;
            // Without randomness the old one goes on for another while.
            if let Ok(fresh) = random() {
                secrets.previous = Some(secrets.current);
                secrets.current = fresh;
            }
        }
        (secrets.current, secrets.previous)
    }
}

fn random() -> Result<Secret, getrandom::Error> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

/// RFC 9018 §4.4.
fn sign(secret: &Secret, client: &ClientCookie, head: &[u8; 8], ip: IpAddr) -> [u8; 8] {
    let mut input = Vec::with_capacity(32);
    input.extend_from_slice(client);
    input.extend_from_slice(head);
    match ip.to_canonical() {
        IpAddr::V4(ip) => input.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => input.extend_from_slice(&ip.octets()),
    }
    SipHasher24::new_with_key(secret).hash(&input).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_700_000_000;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn cookies_are_those_of_the_rfc() {
        // RFC 9018 appendix A.1, A.3 and A.4.
        let secret = bytes("e5e973e5a6b2a43f48e7dc849e37bfcf");
        let cookies = Cookies::with_secret(secret, 1_559_731_985);
        let made = cookies.make(
            &bytes("2464c4abcf10c957"),
            ip("198.51.100.100"),
            1_559_731_985,
        );
        let wanted = bytes("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(made, wanted);

        let shown = bytes::<24>("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let judged = cookies.judge(Some(&shown), ip("203.0.113.203"), 1_559_727_985 + 60);
        assert_eq!(judged, Shown::Valid(bytes("fc93fc62807ddb86")));

        let secret = bytes("dd3bdf9344b678b185a6f5cb60fca715");
        let cookies = Cookies::with_secret(secret, 1_559_741_817);
        let shown = bytes::<24>("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        let there = ip("2001:db8:220:1:59de:d0f4:8769:82b8");
        let judged = cookies.judge(Some(&shown), there, 1_559_741_961);
        assert_eq!(judged, Shown::Valid(bytes("22681ab97d52c298")));
    }

    #[test]
    fn a_cookie_holds_for_its_client_its_address_and_an_hour() {
        let cookies = Cookies::new(NOW).unwrap();
        let (client, here) = ([7; 8], ip("192.0.2.1"));
        let cookie = cookies.make(&client, here, NOW);
        let judge = |cookie: &[u8], ip, now| cookies.judge(Some(cookie), ip, now);
        let (valid, invalid) = (Shown::Valid(client), Shown::Invalid(client));
        for (now, wanted) in [
            (NOW, valid),
            (NOW + OLDEST, valid),
            (NOW + OLDEST + 1, invalid),
            (NOW - NEWEST, valid),
            (NOW - NEWEST - 1, invalid),
        ] {
            assert_eq!(judge(&cookie, here, now), wanted, "{now}");
        }
        assert_eq!(judge(&cookie, ip("::ffff:192.0.2.1"), NOW), valid);
        assert_eq!(judge(&cookie, ip("192.0.2.2"), NOW), invalid);
        for at in 8..24 {
            let mut forged = cookie;
            forged[at] ^= 1;
            assert_eq!(judge(&forged, here, NOW), invalid, "byte {at}");
        }
        let mut others = cookie;
        others[0] ^= 1;
        assert_eq!(
            judge(&others, here, NOW),
            Shown::Invalid([6, 7, 7, 7, 7, 7, 7, 7])
        );
        let other = Cookies::new(NOW).unwrap();
        assert_eq!(other.judge(Some(&cookie), here, NOW), invalid);
    }

    #[test]
    fn lengths_are_those_of_the_rfc() {
        let cookies = Cookies::new(NOW).unwrap();
        let judge = |len| cookies.judge(Some(&[1; 64][..len]), ip("192.0.2.1"), NOW);
        assert_eq!(cookies.judge(None, ip("192.0.2.1"), NOW), Shown::Nothing);
        for len in (0..8).chain(9..16).chain(41..64) {
            assert_eq!(judge(len), Shown::Malformed, "{len} bytes");
        }
        assert_eq!(judge(8), Shown::ClientOnly([1; 8]));
        for len in 16..=40 {
            assert_eq!(judge(len), Shown::Invalid([1; 8]), "{len} bytes");
        }
    }

    #[test]
    fn a_secret_is_replaced_and_its_cookies_hold_meanwhile() {
        let cookies = Cookies::new(NOW).unwrap();
        let (client, here) = ([7; 8], ip("192.0.2.1"));
        let before = cookies.secrets(NOW).0;
        let late = NOW + SECRET_LIFETIME - 1;
        let cookie = cookies.make(&client, here, late);
        let judged = cookies.judge(Some(&cookie), here, late + 1);
        assert_eq!(judged, Shown::Valid(client));
        let (current, previous) = cookies.secrets(late + 1);
        assert_ne!(current, before);
        assert_eq!(previous, Some(before));
    }
}
