//! Functions that are the same to the last digit on every machine. The
//! platform's own differ.

pub(super) fn exp(x: f64) -> f64 {
    libm::exp(x)
}

pub(super) fn ln(x: f64) -> f64 {
    libm::log(x)
}

pub(super) fn sin(x: f64) -> f64 {
    libm::sin(x)
}

/// IEEE 754 says what a square root is, so the machine's own is exact.
pub(super) fn sqrt(x: f64) -> f64 {
    x.sqrt()
}
