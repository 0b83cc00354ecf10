//! In which order entries stand.
