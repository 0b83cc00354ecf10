//! Edits of the text that keep its comments and its layout.

use crate::model::{BackendAddr, ServiceName, Weight};

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {}

/// The text with another weight for one backend of one service.
///
/// # Errors
/// If the text is no TOML or has no such service or backend.
pub fn set_weight(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    weight: Weight,
) -> Result<String, EditError> {
    let _ = (text, service, backend, weight);
    todo!("the config helper writes this")
}

/// The text with one backend of one service drained, or no longer.
///
/// # Errors
/// If the text is no TOML or has no such service or backend.
pub fn set_drain(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    drain: bool,
) -> Result<String, EditError> {
    let _ = (text, service, backend, drain);
    todo!("the config helper writes this")
}
