//! What is about time, and what has to be exact: the whole channel in memory,
//! with the clock paused. Ten seconds are ten seconds here, and take none.

mod backends;
mod balancers;
mod config;
mod drops;
mod fallback;
mod methods;
mod names;
mod reports;
mod streams;
