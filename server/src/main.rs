//! The balancer.
fn main() {}
