//! Feeders: where the balancer learns which services and backends there are.
//!
//! Each source writes to the [`catalogue`](crate::catalogue) through its doors and to
//! nothing else. A source that fails says so and leaves what it said before:
//! stale beats empty.

pub mod file;
