//! What is the same for all names, as the configuration says it now.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::settings::{BadTarget, ZoneSettings};
use crate::config::Config;
use crate::rollout::Part;

/// Keeps [`ZoneSettings`] as the configuration says.
#[derive(Debug)]
pub struct ZoneFollower {
    part: Part,
    /// What is answered for the balancers if the configuration names none.
    listening: SocketAddr,
    settings: watch::Sender<Arc<ZoneSettings>>,
}

impl ZoneFollower {
    /// Begins with what the configuration says now, for a balancer that listens at
    /// `listening`.
    ///
    /// # Errors
    /// If the configured SRV target is not a DNS name.
    pub fn new(part: Part, listening: SocketAddr) -> Result<Self, BadTarget> {
        let settings = settings(&part.config(), listening)?;
        Ok(Self {
            part,
            listening,
            settings: watch::Sender::new(Arc::new(settings)),
        })
    }

    /// The settings, and each that replaces them.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ZoneSettings>> {
        self.settings.subscribe()
    }

    /// Follows the configuration until `end`.
    pub async fn run(mut self, end: CancellationToken) {
        while let Some(revision) = end.run_until_cancelled(self.part.next()).await {
            match settings(&revision.config, self.listening) {
                Ok(settings) => {
                    self.settings.send_if_modified(|known| {
                        let changed = **known != settings;
                        if changed {
                            *known = Arc::new(settings);
                        }
                        changed
                    });
                }
                Err(error) => warn!(%error, "DNS goes on to answer as before"),
            }
            self.part.applied(&revision);
        }
    }
}

fn settings(config: &Config, listening: SocketAddr) -> Result<ZoneSettings, BadTarget> {
    let advertised = &config.balancer.advertise;
    let dns = config.dns.clone().unwrap_or_default();
    if advertised.is_empty() {
        ZoneSettings::new(&dns, &[listening])
    } else {
        ZoneSettings::new(&dns, advertised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn unless_told_otherwise_dns_answers_the_port_that_was_bound() {
        let listening = "127.0.0.1:34567".parse().unwrap();
        let ports = |advertise: &str| {
            let text = format!("[balancer]\nlisten = \"127.0.0.1:0\"\n{advertise}\n");
            let config = parse(&text, "lookaside.toml").unwrap();
            let settings = settings(&config, listening).unwrap();
            let balancers = settings.balancers().iter();
            balancers.map(|b| (b.port, b.ips.len())).collect::<Vec<_>>()
        };
        assert_eq!(ports(""), [(34567, 1)]);
        let configured = "advertise = [\"10.0.0.5:9000\", \"10.0.0.6:9000\"]";
        assert_eq!(ports(configured), [(9000, 2)]);
    }
}
