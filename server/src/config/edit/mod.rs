//! Edits of the text that keep its comments and its layout.
//!
//! The parser says at which bytes a value stands, and only those are replaced:
//! whatever else is in the file, it stays as it is, to the byte. The result is
//! not judged here; [`parse`](super::parse) does that.

mod document;
mod registered;

use toml::de::DeValue;

use self::document::{Document, number, splice};
use lookaside_core::model::{BackendAddr, ServiceName, Weight};

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is no TOML.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// No service has this name or alias.
    #[error("there is no service `{name}`; {known}")]
    UnknownService {
        /// What was asked for.
        name: ServiceName,
        /// What may have been meant, and what there is.
        known: String,
    },
    /// The service has no such backend.
    #[error("service `{service}` has no backend {backend}; {known}")]
    UnknownBackend {
        /// The service's name in the text.
        service: String,
        /// What was asked for.
        backend: BackendAddr,
        /// What there is.
        known: String,
    },
}

/// The text with another weight for one backend of one service, which may be
/// named by an alias. A weight that is the same already stays as it is written.
///
/// # Errors
/// If the text is no TOML or has no such service or backend.
pub fn set_weight(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    weight: Weight,
) -> Result<String, EditError> {
    let document = Document::read(text)?;
    let found = document.service(service)?.backend(backend)?;
    let Some(old) = found.value("weight") else {
        return Ok(found.insert("weight", &weight.to_string()));
    };
    if number(old.get_ref()) == Some(weight.value()) {
        return Ok(text.to_owned());
    }
    Ok(splice(text, old.span(), &weight.to_string()))
}

/// The text with one backend of one service drained, or no longer.
///
/// Undraining removes `drain`, so that it undoes draining to the byte; if a
/// comment would go with it, it writes `drain = false`. A weight of 0, which drains
/// as well, becomes 1.
///
/// A backend that is not listed can still be drained where the service has
/// `register`: an entry is added that says so in a comment, and the entry is what
/// undraining removes. There is nothing to undrain about one that has none.
///
/// # Errors
/// If the text is no TOML or has no such service or backend.
pub fn set_drain(
    text: &str,
    service: &ServiceName,
    backend: BackendAddr,
    drain: bool,
) -> Result<String, EditError> {
    let document = Document::read(text)?;
    let service_table = document.service(service)?;
    let found = match service_table.backend(backend) {
        Ok(found) => found,
        Err(_) if service_table.registers() => {
            return Ok(if drain {
                registered::add(&service_table, backend)
            } else {
                text.to_owned()
            });
        }
        Err(error) => return Err(error),
    };
    if !drain {
        if let Some(removed) = registered::remove(&service_table, &found) {
            return Ok(removed);
        }
        if let Some(weight) = found.value("weight")
            && number(weight.get_ref()) == Some(0.0)
        {
            let weighted = splice(text, weight.span(), "1");
            return set_drain(&weighted, service, backend, false);
        }
    }
    let old = found.value("drain");
    let drained = old.is_some_and(|old| matches!(old.get_ref(), DeValue::Boolean(true)));
    Ok(match (old, drain) {
        _ if drained == drain => text.to_owned(),
        (None, _) => found.insert("drain", "true"),
        (Some(old), true) => splice(text, old.span(), "true"),
        (Some(old), false) => match found.alone("drain") {
            Some(range) => splice(text, range, ""),
            None => splice(text, old.span(), "false"),
        },
    })
}

#[cfg(test)]
mod tests;
