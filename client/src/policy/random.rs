//! `random`: a connection to every address, and each RPC to any of those that are
//! ready.
//!
//! Nothing is shared by the threads that pick, not even a counter. In exchange
//! nothing evens out either: of n calls over k backends each gets n/k ± √(n/k).

use super::{BuildPicker, Pick, PickArgs, Picker, Ready, Spread};

/// Picks at random among the endpoints that are ready, all equally likely: an
/// address that stands twice is twice as likely as one that stands once, and
/// weights do not count.
pub type Random = Spread<RandomPickers>;

impl Random {
    /// Without addresses yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(RandomPickers(()))
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds the pickers of [`Random`].
#[derive(Debug)]
pub struct RandomPickers(());

impl BuildPicker for RandomPickers {
    type Picker = RandomPicker;

    fn build(&mut self, ready: Vec<Ready>) -> RandomPicker {
        RandomPicker(ready.into())
    }
}

/// Picks at random, by the thread's own generator.
#[derive(Debug)]
pub struct RandomPicker(Box<[Ready]>);

impl Picker for RandomPicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        Pick::Complete(self.0[fastrand::usize(..self.0.len())].picked())
    }
}
