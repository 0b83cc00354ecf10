//! What certificates say of themselves: whose they are, and until when. It is logged
//! when they are loaded, it is a metric, and what ends soon is warned of.

mod facts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use tracing::{info, warn};

pub use facts::{Facts, names};

/// So long before a certificate expires it is warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// And then again, each time so long after the last time.
const REMIND: Duration = Duration::from_secs(86_400);

/// What a file of certificates is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// What the balancer's port shows.
    Server,
    /// Who may have signed its clients' certificates.
    ClientCa,
    /// Who may have signed backends' certificates.
    BackendCa,
    /// What the balancer shows to backends.
    BackendClient,
}

/// The certificates that are in use. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    expiry: Family<Labels, Gauge<i64, AtomicI64>>,
    /// How often each file is in use in each role.
    used: Arc<Mutex<BTreeMap<(Role, PathBuf), usize>>>,
}

/// A file of certificates that is in use, until this is dropped.
#[derive(Debug)]
pub struct Used {
    role: Role,
    file: PathBuf,
    /// Of the one that expires first.
    facts: Option<Facts>,
    reminded: Option<SystemTime>,
    all: Certificates,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    role: &'static str,
    /// As the configuration names it.
    file: String,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ClientCa => "client_ca",
            Self::BackendCa => "backend_ca",
            Self::BackendClient => "backend_client",
        }
    }
}

impl Certificates {
    /// Registers the metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let certificates = Self::default();
        registry.register(
            "tls_certificate_expiry_seconds",
            "When the first of a file's certificates expires, in seconds since 1970",
            certificates.expiry.clone(),
        );
        certificates
    }

    /// From now on these certificates of `file` are in use; leaf first, if there is
    /// one.
    #[must_use]
    pub fn used(&self, role: Role, file: &Path, chain: &[CertificateDer<'_>]) -> Used {
        let all: Vec<Facts> = chain.iter().filter_map(|der| Facts::read(der)).collect();
        let first = all.iter().min_by_key(|facts| facts.not_after);
        if let (Some(leaf), Some(first)) = (all.first(), first) {
            info!(
                role = role.as_str(),
                file = %file.display(),
                count = chain.len(),
                subject = leaf.subject,
                names = %leaf.names.join(", "),
                expires = %humantime::format_rfc3339_seconds(first.not_after),
                "certificate loaded"
            );
        }
        let mut counts = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((role, file.to_owned())).or_default() += 1;
        let mut used = Used {
            role,
            file: file.to_owned(),
            facts: first.cloned(),
            reminded: None,
            all: self.clone(),
        };
        if let Some(first) = first {
            let since = first.not_after.duration_since(UNIX_EPOCH);
            let seconds = since.map_or(0, |since| since.as_secs());
            let gauge = self.expiry.get_or_create(&used.labels());
            gauge.set(seconds.try_into().unwrap_or(i64::MAX));
        }
        drop(counts);
        used.remind(SystemTime::now());
        used
    }
}

impl Used {
    /// Warns if the time has come, once a day at most.
    pub fn remind(&mut self, now: SystemTime) {
        let Some(facts) = &self.facts else {
            return;
        };
        let left = facts.not_after.duration_since(now);
        if left.as_ref().is_ok_and(|left| *left > SOON) {
            return;
        }
        let since = self.reminded.map(|last| now.duration_since(last));
        if since.is_some_and(|since| since.is_ok_and(|since| since < REMIND)) {
            return;
        }
        self.reminded = Some(now);
        let (role, file) = (self.role.as_str(), self.file.display());
        let expires = humantime::format_rfc3339_seconds(facts.not_after);
        let subject = &facts.subject;
        match left {
            Ok(left) => {
                let days = left.as_secs() / 86_400;
                warn!(
                    role, %file, subject, %expires,
                    "certificate expires in {days} days; replace the file, which is read again by \
                     itself"
                );
            }
            Err(_) => warn!(
                role, %file, subject, %expires,
                "certificate has expired: connections that need it fail; replace the file, which \
                 is read again by itself"
            ),
        }
    }

    fn labels(&self) -> Labels {
        Labels {
            role: self.role.as_str(),
            file: self.file.display().to_string(),
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut counts = self.all.used.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.role, self.file.clone());
        let Some(count) = counts.get_mut(&key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
            self.all.expiry.remove(&self.labels());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Lines;

    fn certificate(year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "greeter\n");
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn at(year: i32, month: u8, day: u8) -> SystemTime {
        rcgen::date_time_ymd(year, month, day).into()
    }

    #[test]
    fn a_certificate_that_is_loaded_is_logged_with_its_subject_and_expiry() {
        let lines = Lines::of(|| {
            let all = Certificates::default();
            drop(all.used(Role::Server, Path::new("a.pem"), &[certificate(4000)]));
        });
        for wanted in [
            "certificate loaded",
            "CN=greeter",
            "a.test",
            "4000-01-01T00:00:00Z",
        ] {
            assert!(lines[0].contains(wanted), "{wanted}: {lines:?}");
        }
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn what_expires_within_two_weeks_is_warned_of_once_a_day() {
        let file = Path::new("a.pem");
        let warned = |days: &[(i32, u8, u8)]| {
            let mut used = Certificates::default().used(Role::Server, file, &[certificate(4000)]);
            Lines::of(|| {
                for (year, month, day) in days {
                    used.remind(at(*year, *month, *day));
                    used.remind(at(*year, *month, *day) + REMIND / 2);
                }
            })
        };
        assert!(warned(&[(3999, 12, 17)]).is_empty());
        let lines = warned(&[(3999, 12, 19), (3999, 12, 20)]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("expires in 13 days"), "{lines:?}");
        let lines = warned(&[(4000, 1, 2)]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("has expired"), "{lines:?}");
    }

    #[test]
    fn the_metric_is_of_the_first_to_expire_and_goes_with_the_last_use() {
        let mut registry = Registry::default();
        let all = Certificates::register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let chain = [certificate(4000), certificate(3000)];
        let one = all.used(Role::BackendCa, Path::new("ca.pem"), &chain);
        let other = all.used(Role::BackendCa, Path::new("ca.pem"), &chain);
        let line =
            "tls_certificate_expiry_seconds{role=\"backend_ca\",file=\"ca.pem\"} 32503680000";
        assert!(text().contains(line), "{}", text());
        drop(one);
        assert!(text().contains(line));
        drop(other);
        assert!(!text().contains("ca.pem"));
    }
}
