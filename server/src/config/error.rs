//! What is wrong with a configuration, where, and what would be right.

use std::fmt;

/// One fault, at its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, as `service[1].backends[0].weight`; empty for the whole file.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything found wrong with one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// Name of the file, as it was given.
    pub file: String,
    /// The faults, in the order of the file.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for ConfigErrors {
    /// One line a fault: `file:line:column: key: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file, error.line, error.column)?;
            if !error.key.is_empty() {
                write!(f, "{}: ", error.key)?;
            }
            write!(f, "{}", error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
