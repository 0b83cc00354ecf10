//! Opening a socket to a backend, and what it means if it does not open.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::own_fault::{OwnFault, OwnFaults};
use crate::wait::{NoAnswer, within};

/// Attempts at one time that are young.
const AT_ONCE: usize = 256;

/// How long an attempt counts among them: those to hosts that swallow packets
/// must not hold up the others.
const YOUNG: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// Nobody listens there: the system said so.
    Refused,
    /// No answer, or none that could be understood; the text says which. It may
    /// be us who cannot be heard.
    Failed(Arc<str>),
    /// We were too slow ourselves to say.
    Late,
    /// We lack what it takes to ask.
    OwnFault(OwnFault),
}

impl From<io::Error> for NotOpened {
    fn from(error: io::Error) -> Self {
        if let Some(fault) = OwnFault::of(&error) {
            return Self::OwnFault(fault);
        }
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Self::Refused,
            _ => Self::Failed(error.to_string().into()),
        }
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused: nobody listens there"),
            Self::Failed(reason) => f.write_str(reason),
            Self::Late => f.write_str("the balancer is too busy to say"),
            Self::OwnFault(fault) => fault.fmt(f),
        }
    }
}

/// Bounds how many sockets are being opened at a time. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Permits {
    free: Arc<Semaphore>,
    own_faults: OwnFaults,
}

impl Default for Permits {
    fn default() -> Self {
        Self::new(AT_ONCE)
    }
}

impl Permits {
    /// So many.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            own_faults: OwnFaults::default(),
        }
    }

    /// The usual number; what the balancer lacks is told to `own_faults`.
    pub(crate) fn telling(own_faults: OwnFaults) -> Self {
        Self {
            own_faults,
            ..Self::default()
        }
    }

    /// Waits for a permit.
    pub(crate) async fn take(&self) -> Permit<'_> {
        Permit {
            // The semaphore is never closed.
            permit: self.free.acquire().await.ok(),
            own_faults: &self.own_faults,
        }
    }
}

/// The right to begin something; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    permit: Option<SemaphorePermit<'a>>,
    own_faults: &'a OwnFaults,
}

impl Permit<'_> {
    /// Does it, and gives up the permit when it takes longer than `young`.
    pub(crate) async fn hold<F: Future>(mut self, young: Duration, doing: F) -> F::Output {
        let mut doing = std::pin::pin!(doing);
        match timeout(young, doing.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                self.permit.take();
                doing.await
            }
        }
    }
}

/// Opens a socket, once there is a permit, within `patience` from then on.
///
/// # Errors
/// [`NotOpened`].
pub async fn open(
    target: SocketAddr,
    patience: Duration,
    permits: &Permits,
) -> Result<TcpStream, NotOpened> {
    let permit = permits.take().await;
    open_on(permit, target, patience).await
}

/// The same by who has a permit.
pub(super) async fn open_on(
    permit: Permit<'_>,
    target: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, NotOpened> {
    let own_faults = permit.own_faults;
    let connecting = within(patience, TcpStream::connect(target));
    match permit.hold(YOUNG, connecting).await {
        Ok(opened) => opened.map_err(|error| {
            let not_opened = NotOpened::from(error);
            if let NotOpened::OwnFault(fault) = not_opened {
                own_faults.count(fault);
            }
            not_opened
        }),
        Err(NoAnswer::Timeout) => {
            let reason = format!("no connection within {patience:?}");
            Err(NotOpened::Failed(reason.into()))
        }
        Err(NoAnswer::Late) => Err(NotOpened::Late),
    }
}

/// Whether what was opened is there `moment` later. What a process that is being
/// killed had open is closed piece by piece, and its listener may be last. Who lives
/// waits for what we have to say, or speaks.
pub async fn is_kept(socket: &TcpStream, moment: Duration) -> bool {
    if timeout(moment, socket.readable()).await.is_err() {
        return true;
    }
    match socket.try_read(&mut [0]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
