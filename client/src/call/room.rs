//! Room for an RPC: on the connection that was picked, or else at another backend.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderValue;

use super::attempt::Attempt;
use super::waiting::Waits;
use crate::control::Published;
use crate::policy::{CallTracker, Pick, PickArgs, Picked};
use crate::subchannel::{Connection, NoStream, StreamPermit, first_stream};

/// Most picks that look for a backend that has room.
const MOST_PICKS: usize = 128;
/// How many in a row may name backends that are known to be full before a policy has no
/// others.
const MOST_REPEATS: usize = 16;

/// Where an RPC goes.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) connection: Connection,
    pub(super) lb_token: Option<HeaderValue>,
    pub(super) attempt: Attempt,
}

/// Where else it may go.
struct Other {
    connection: Connection,
    lb_token: Option<HeaderValue>,
    tracker: Option<Arc<dyn CallTracker>>,
}

impl From<Picked<'_>> for Other {
    fn from(picked: Picked<'_>) -> Self {
        Self {
            connection: picked.connection.clone(),
            lb_token: picked.lb_token.cloned(),
            tracker: picked.tracker.cloned(),
        }
    }
}

impl Choice {
    /// The RPC, which has not left, goes to `other` instead.
    fn move_to(&mut self, other: Other) {
        self.attempt.move_to(other.tracker.as_ref());
        self.connection = other.connection;
        self.lb_token = other.lb_token;
    }
}

/// A stream on the connection of `choice`, at once or when there is one. An RPC that
/// finds none goes to the first backend of the picker's that has room, which `choice` is
/// then. `None` if the connection takes no more RPCs.
pub(super) async fn find_room(
    published: &Published,
    args: PickArgs<'_>,
    choice: &mut Choice,
    waits: &Waits,
) -> Option<StreamPermit> {
    match choice.connection.reserve() {
        Ok(permit) => return Some(permit),
        Err(NoStream::Closed) => return None,
        Err(NoStream::Full) => {}
    }
    let args = args.past_drops();
    let mut progress = published.subscribe();
    let mut waiting = false;
    let permit = loop {
        progress.mark_unchanged();
        let (mut others, permit) = others(published, &args, choice);
        if let Some((other, permit)) = permit {
            choice.move_to(other);
            break Some(permit);
        }
        waits.for_room(&choice.connection, others.len());
        if !std::mem::replace(&mut waiting, true) {
            published.metrics().stream_waits.fetch_add(1, Relaxed);
            tracing::debug!(
                peer = %choice.connection.peer(),
                limit = choice.connection.limit(),
                others = others.len(),
                "the call waits until a server allows one more on its connection"
            );
        }
        let connections = others.iter().map(|other| &other.connection);
        let connections: Vec<_> = [&choice.connection]
            .into_iter()
            .chain(connections)
            .collect();
        let first = tokio::select! {
            first = first_stream(&connections) => first,
            // There may be other backends. The sender lives in `published`.
            _ = progress.changed() => continue,
        };
        match first {
            Ok((0, permit)) => break Some(permit),
            Ok((index, permit)) => {
                choice.move_to(others.swap_remove(index - 1));
                break Some(permit);
            }
            Err(0) => break None,
            // The next look leaves it out.
            Err(_) => {}
        }
    };
    waits.for_answer();
    permit
}

/// The other backends that the picker has for the RPC, all of which are full, up to the
/// first that is not.
fn others(
    published: &Published,
    args: &PickArgs<'_>,
    choice: &Choice,
) -> (Vec<Other>, Option<(Other, StreamPermit)>) {
    let output = published.output();
    let mut others: Vec<Other> = vec![];
    let mut repeats = 0;
    for _ in 0..MOST_PICKS {
        let Pick::Complete(picked) = output.picker.pick(args) else {
            break;
        };
        let mut known = others.iter().map(|other| &other.connection);
        if choice.connection == *picked.connection || known.any(|one| one == picked.connection) {
            repeats += 1;
            if repeats == MOST_REPEATS {
                break;
            }
            continue;
        }
        repeats = 0;
        match picked.connection.reserve() {
            Ok(permit) => return (others, Some((picked.into(), permit))),
            Err(NoStream::Full) => others.push(picked.into()),
            Err(NoStream::Closed) => {}
        }
    }
    (others, None)
}
