//! How the sources of a service's backends are.

/// How far a source of a service's backends is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It has not answered yet.
    Syncing,
    /// What it said last is what it says now.
    Synced,
    /// It does not answer; what it said last stands.
    Stale,
}
