//! Runs a subchannel's connection, and opens more beside it where RPCs find no room.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::subchannel::connect::{ConnectOptions, connect};
use crate::subchannel::{Connection, Driver, Ending};

/// How long no more connections are opened after an attempt failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A connection beside the first that nobody used for this long closes: after once to
/// twice this time.
pub(super) const UNUSED: Duration = Duration::from_secs(10);

/// Ends when `connection` takes no more RPCs. Those beside it then do not either.
pub(super) fn run(
    connection: &Connection,
    driver: Driver,
    options: &ConnectOptions,
    tasks: &TaskTracker,
) -> BoxFuture<'static, Ending> {
    match options.max_connections {
        // Of a hundred thousand, each is small.
        ..=1 => driver.boxed(),
        _ => grow(connection.clone(), driver, options.clone(), tasks.clone()).boxed(),
    }
}

async fn grow(
    connection: Connection,
    mut driver: Driver,
    options: ConnectOptions,
    tasks: TaskTracker,
) -> Ending {
    let address = std::sync::Arc::clone(connection.peer());
    let most = usize::try_from(options.max_connections).unwrap_or(usize::MAX);
    let mut others = FuturesUnordered::new();
    loop {
        let opened = async {
            connection.wanted().await;
            // What was wanted before may be there by now.
            while !connection.is_full() {
                connection.wanted().await;
            }
            let opened = connect(&address, &options, &tasks).await;
            if let Err(reason) = &opened {
                tracing::debug!(%address, %reason, "no further connection");
                sleep(PAUSE).await;
            }
            opened
        };
        tokio::select! {
            ending = &mut driver => return ending,
            Some(other) = others.next() => connection.remove(&other),
            opened = opened, if others.len() + 1 < most => {
                if let Ok((other, driver)) = opened {
                    tracing::debug!(%address, count = others.len() + 2, "a further connection");
                    connection.add(other.clone());
                    others.push(until_unused(other, driver));
                }
            }
        }
    }
}

/// Ends when `connection` takes no more RPCs, or is not needed any more. RPCs that are on
/// it go on.
async fn until_unused(connection: Connection, mut driver: Driver) -> Connection {
    loop {
        tokio::select! {
            _ = &mut driver => return connection,
            () = sleep(UNUSED) => {
                if !connection.take_used() {
                    let address = connection.peer();
                    tracing::debug!(%address, "a further connection is not needed any more");
                    return connection;
                }
            }
        }
    }
}
