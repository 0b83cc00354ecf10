//! What checks promise.
