//! Why a balancer did not start, or ended.

use std::io;

use crate::config::ConfigErrors;
use crate::net::TlsError;

/// Why a balancer did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot be read, or is invalid.
    #[error("the configuration cannot be used\n{0}")]
    Config(ConfigErrors),
    /// A port cannot be bound.
    #[error("{key}: {error}")]
    Bind {
        /// The key that names the address.
        key: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("[balancer.tls]: {0}")]
    Tls(TlsError),
    /// A part that should run as long as the process ended.
    #[error("{part} ended: {reason}")]
    Ended {
        /// Its name.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

// Not `#[from]`: the texts above already hold the cause, and it would be
// printed twice.
impl From<ConfigErrors> for AppError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

impl From<TlsError> for AppError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl AppError {
    /// Whether what the operator gave is wrong, rather than the machine.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Tls(_))
    }
}
