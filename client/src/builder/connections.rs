//! How a channel's connections are opened and kept.

use std::sync::Arc;
use std::time::Duration;

use super::Builder;
use crate::backoff::BackoffConfig;
use crate::subchannel::{Connect, ConnectOptions};

impl Builder {
    /// Longest time an attempt to connect may take; 20 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Pings backends every `interval` while RPCs are under way, and takes a
    /// connection for dead when an answer takes `timeout`. Off by default.
    /// Servers may object to less than five minutes.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.keepalive_interval = Some(interval);
        self.options.keepalive_timeout = timeout;
        self
    }

    /// Opens connections by `connector`, to backends and to the balancer, instead
    /// of by the system's sockets. [`Builder::tcp_keepalive`] and
    /// [`Builder::tcp_user_timeout`] are for those only.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// How much of one response a server may send ahead of the application that reads
    /// it, in bytes: the HTTP/2 window of a stream. 2 MiB by default; from 64 KiB - 1 to
    /// 2 GiB - 1, and other values are the nearest of these.
    ///
    /// What is not read yet is in memory: at most this much for each response.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.options.stream_window = bytes;
        self
    }

    /// How much of all responses of one connection a server may send ahead of the
    /// applications that read them, in bytes: the HTTP/2 window of the connection.
    /// From 64 KiB - 1 to 2 GiB - 1, which is the default: then only
    /// [`Builder::stream_window`] holds a response back, and responses that are not read
    /// do not stop the others. A connection's memory is bounded by that window
    /// times the number of RPCs that the server allows at a time, often 100.
    ///
    /// A lower value bounds a connection's memory by itself, and its price is that
    /// responses that are not read can stop all RPCs of the connection.
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.options.connection_window = bytes;
        self
    }

    /// Most connections to one backend; 1 by default. More are opened, one after the
    /// other, while all RPCs that the server allows at a time on a connection
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`) are under way; they close with the first one.
    /// With 1 the RPCs wait meanwhile, which
    /// [`ChannelMetrics::stream_waits`](crate::ChannelMetrics::stream_waits) counts.
    pub fn max_connections_per_backend(mut self, count: u32) -> Self {
        self.options.max_connections = count;
        self
    }

    /// Longest headers or trailers of a response, in bytes, as HTTP/2 counts them; a
    /// response with longer ones fails. 16 KiB by default; at least 1 KiB.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.options.max_header_list_size = bytes;
        self
    }

    /// Whether [`Builder::keepalive`] also pings while no RPC is under way. Off by
    /// default, because most servers object to it.
    pub fn keepalive_while_idle(mut self, ping: bool) -> Self {
        self.options.keepalive_while_idle = ping;
        self
    }

    /// Has TCP probe connections that were silent for `interval`, and again every
    /// `interval` until there is an answer (`SO_KEEPALIVE`), to backends and to the
    /// balancer. From 1 s to 32 767 s, whole seconds; off by default, and
    /// [`Duration::MAX`] is off. It keeps firewalls and NAT from forgetting connections;
    /// [`Builder::keepalive`] also finds servers that hang.
    pub fn tcp_keepalive(mut self, interval: Duration) -> Self {
        self.system = self.system.keepalive(interval);
        self
    }

    /// Ends TCP connections, to backends and to the balancer, when what was sent is not
    /// acknowledged for `timeout` (`TCP_USER_TIMEOUT`). Linux only. From 1 ms to 49
    /// days. By default it is the timeout of [`Builder::keepalive`] if that is set (gRFC
    /// A18), and else the system's, about 15 minutes; [`Duration::MAX`] leaves the
    /// default.
    pub fn tcp_user_timeout(mut self, timeout: Duration) -> Self {
        self.system = self.system.user_timeout(timeout);
        self
    }

    /// How long to wait after an attempt to connect to a backend failed, from its start
    /// to the start of the next one; gRPC's values by default: 1 s, ×1.6, ±20 %, at most
    /// 120 s. Values out of range count as the nearest in it. How long an attempt may
    /// take is [`Builder::connect_timeout`].
    pub fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.options.backoff = backoff;
        self
    }

    /// What opens connections that are kept by `options`.
    pub(super) fn opens(&self, options: &ConnectOptions) -> Arc<dyn Connect> {
        if let Some(connector) = &self.connector {
            return Arc::clone(connector);
        }
        Arc::new(match options.keepalive_interval {
            Some(interval) if interval != Duration::MAX => {
                self.system.or_user_timeout(options.keepalive_timeout)
            }
            _ => self.system,
        })
    }
}
