//! Programs to copy from, in `src/bin`: a backend, and a client that follows a
//! balancer. Beside them stand a commented `lookaside.toml` and clients in other
//! languages.
