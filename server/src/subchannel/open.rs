//! Opening a socket to a backend, and what it means if it does not open.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

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
}

impl From<io::Error> for NotOpened {
    fn from(error: io::Error) -> Self {
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
        }
    }
}

/// Bounds how many sockets are being opened at a time. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Opens a socket, once there is a seat, within `patience` from then on.
///
/// # Errors
/// [`NotOpened`].
pub async fn open(
    target: SocketAddr,
    patience: Duration,
    seats: &Seats,
) -> Result<TcpStream, NotOpened> {
    let connecting = TcpStream::connect(target);
    tokio::pin!(connecting);
    // The semaphore is never closed.
    let seat = seats.0.acquire().await;
    let young = timeout(patience.min(YOUNG), &mut connecting).await;
    drop(seat);
    let opened = match young {
        Ok(opened) => opened,
        Err(_) => match timeout(patience.saturating_sub(YOUNG), connecting).await {
            Ok(opened) => opened,
            Err(_) => {
                let reason = format!("no connection within {patience:?}");
                return Err(NotOpened::Failed(reason.into()));
            }
        },
    };
    opened.map_err(NotOpened::from)
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
