//! What may happen to a channel, at random.

use proptest::prelude::*;

use super::{LISTED, SPARES};

/// What may happen.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// The balancer answers the stream that waits for it, if one does.
    Greet,
    /// It refuses it.
    Refuse,
    List(Vec<Entry>),
    /// The last list once more.
    SameList,
    FallbackResponse,
    EndStream,
    KillBalancer,
    StartBalancer,
    Kill(usize),
    Start(usize),
    /// The resolver names these of the fallback addresses.
    Fallback([bool; SPARES]),
    Pass(f64),
}

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Backend(usize, &'static str),
    Drop(&'static str),
    /// No address.
    BadIp,
    BadPort(i32),
    /// A backend whose token cannot be sent.
    BadToken(usize),
}

fn an_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        6 => (0..LISTED, prop::sample::select(vec!["", "one", "two"]))
            .prop_map(|(backend, token)| Entry::Backend(backend, token)),
        2 => prop::sample::select(vec!["rate", "load"]).prop_map(Entry::Drop),
        1 => Just(Entry::BadIp),
        1 => prop::sample::select(vec![0, -1, 65_536]).prop_map(Entry::BadPort),
        1 => (0..LISTED).prop_map(Entry::BadToken),
    ]
}

pub(super) fn a_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => Just(Happening::Greet),
        1 => Just(Happening::Refuse),
        6 => prop::collection::vec(an_entry(), 0..6).prop_map(Happening::List),
        2 => Just(Happening::SameList),
        1 => Just(Happening::FallbackResponse),
        2 => Just(Happening::EndStream),
        1 => Just(Happening::KillBalancer),
        2 => Just(Happening::StartBalancer),
        3 => (0..LISTED + SPARES).prop_map(Happening::Kill),
        3 => (0..LISTED + SPARES).prop_map(Happening::Start),
        1 => any::<[bool; SPARES]>().prop_map(Happening::Fallback),
        2 => prop::sample::select(vec![0.3, 4.0, 11.0, 150.0]).prop_map(Happening::Pass),
    ]
}
