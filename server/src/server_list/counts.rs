//! How often each backend and each drop stands in a list.
