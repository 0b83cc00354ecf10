//! What a backend links.
