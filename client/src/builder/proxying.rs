//! Whether a channel goes through an HTTP proxy.

use std::sync::Arc;

use super::Builder;
use crate::error::Error;
use crate::subchannel::{ConnectOptions, Proxy, Tunnel};
use crate::target::{DEFAULT_PORT, Target};

/// Whether to go through a proxy, and which.
#[derive(Debug, Default)]
pub(super) enum Proxying {
    /// As the environment says.
    #[default]
    Environment,
    Never,
    Through(Proxy),
}

impl Builder {
    /// Goes through `proxy` (HTTP CONNECT) instead of the one that the environment
    /// names; [`None`] goes through none.
    ///
    /// Without this, the environment decides, as in gRPC: the first of `grpc_proxy`,
    /// `https_proxy` and `http_proxy` that is set names the proxy
    /// (`http://user:password@host:port`), and `no_grpc_proxy` or else `no_proxy` the
    /// hosts that are called without it: domains with all below them, IP addresses,
    /// networks such as `10.0.0.0/8`, and `*`. `localhost` and loopback never are
    /// proxied by the environment.
    ///
    /// Only what gRPC proxies goes through it, a `dns:` target of the system's servers, or
    /// a bare name: the proxy is given its host and port, and resolves it. So there is no
    /// look for a balancer (SRV) or a service config (TXT), and all RPCs go where the proxy
    /// connects. gRPC's clients do the same: C++ resolves the proxy's name instead of the
    /// target's, Go takes the target for the address (unless
    /// `WithLocalDNSResolution`), for who has to go through a proxy often has no DNS for
    /// the world outside, nor a way to the addresses of a balancer's list. A service
    /// behind a balancer belongs in `no_proxy`. Other targets,
    /// those with [`Builder::balancer`] or [`Builder::resolver`], and a balancer's
    /// backends are called directly; with [`Builder::connector`], only an explicit proxy
    /// counts.
    pub fn proxy(mut self, proxy: impl Into<Option<Proxy>>) -> Self {
        self.proxying = match proxy.into() {
            Some(proxy) => Proxying::Through(proxy),
            None => Proxying::Never,
        };
        self
    }
}

impl Proxying {
    /// Where the proxy for `target` is found, if there is one: `options` then lead through
    /// it. `own` says whether they have a connector of the application's.
    pub(super) fn apply(
        self,
        target: &Target,
        own: bool,
        options: &mut ConnectOptions,
    ) -> Result<Option<Target>, Error> {
        let Target::Dns {
            server: None,
            host,
            port,
            ..
        } = target
        else {
            return Ok(None);
        };
        let port = port.unwrap_or(DEFAULT_PORT);
        let proxy = match self {
            Self::Through(proxy) => Some(proxy),
            Self::Environment if !own => {
                Proxy::from_environment(host, port, |name| std::env::var(name).ok())?
            }
            Self::Environment | Self::Never => None,
        };
        let Some(proxy) = proxy else {
            return Ok(None);
        };
        tracing::info!(?proxy, host, port, "the channel goes through a proxy");
        let place = proxy.target();
        let inner = Arc::clone(&options.connector);
        options.connector = Arc::new(Tunnel::new(inner, proxy, host, port));
        Ok(Some(place))
    }
}
