//! Why there is no connection, in words and as a kind that a program can match.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Error, ResolveError};

/// Why no connection came about, or no address to connect to. It is a source of the
/// [`tonic::Status`] of RPCs that fail by it; [`ConnectError::of`] finds it there:
///
/// ```
/// use lookaside_client::{ConnectError, ConnectErrorKind};
///
/// fn is_refused(status: &tonic::Status) -> bool {
///     ConnectError::of(status).is_some_and(|error| error.kind() == ConnectErrorKind::Refused)
/// }
/// # assert!(!is_refused(&tonic::Status::unavailable("x")));
/// ```
#[derive(Debug, Clone)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    text: String,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What stands in the way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The name was not resolved, or has no addresses.
    Dns,
    /// Nothing listens at the address.
    Refused,
    /// There is no way to the host or its network.
    Unreachable,
    /// There was no answer in time.
    Timeout,
    /// The TLS handshake failed; the cause is a `tls::HandshakeError`.
    Tls,
    /// The balancer was reached and sent no list, or its stream ended. The cause is the
    /// [`tonic::Status`] that it ended with, if it did with one.
    Balancer,
    /// Anything else.
    Other,
}

impl ConnectError {
    pub(crate) fn new(kind: ConnectErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            cause: None,
        }
    }

    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::new(ConnectErrorKind::Other, text)
    }

    /// The same by this cause, which [`StdError::source`] shows.
    pub(crate) fn by(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// The same, told with `text`.
    pub(crate) fn told(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// What stood in the way. Where many addresses were tried, of the last one.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// The one in an error's chain of sources: of a [`tonic::Status`] or an [`Error`].
    /// `None` if the error is about something else.
    #[must_use]
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(Error::Connect(found)) = error.downcast_ref() {
                return Some(found);
            }
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectErrorKind::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ConnectErrorKind::Unreachable
            }
            io::ErrorKind::TimedOut => ConnectErrorKind::Timeout,
            _ => ConnectErrorKind::Other,
        };
        Self::new(kind, error.to_string()).by(error)
    }
}

impl From<ResolveError> for ConnectError {
    fn from(error: ResolveError) -> Self {
        Self::new(ConnectErrorKind::Dns, error.to_string()).by(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.cause.as_deref()?)
    }
}

impl PartialEq for ConnectError {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.text) == (other.kind, &other.text)
    }
}

impl Eq for ConnectError {}
