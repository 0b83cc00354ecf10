//! Under construction.

pub mod check;
pub mod edit;
