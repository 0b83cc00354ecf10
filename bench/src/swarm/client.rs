//! One client: a socket, and how far its conversation has come.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::SwarmArgs;
use super::opening;
use super::wire::{self, Wire};

/// A quarter of the ports that one address has for clients on Linux.
const CLIENTS_PER_ADDRESS: usize = 7000;

#[derive(Debug, Default)]
pub(super) struct Client {
    stream: Option<TcpStream>,
    connected: bool,
    wire: Wire,
    messages: usize,
    /// Lists that came on the connection it has now.
    pub(super) lists: usize,
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It is open, or opening.
    Open,
    /// Nobody listens.
    Refused,
    /// It broke.
    Lost,
    /// The server ended the stream.
    Ended,
}

impl Client {
    /// Starts a connection; client 0 keeps the lists it gets.
    pub(super) fn connect(
        &mut self,
        args: &SwarmArgs,
        index: usize,
        registry: &Registry,
    ) -> Result<()> {
        let mut stream = open(args, index).context("cannot open a socket")?;
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(index), both)?;
        *self = Self {
            stream: Some(stream),
            wire: if index == 0 {
                Wire::sampling()
            } else {
                Wire::default()
            },
            ..Self::default()
        };
        Ok(())
    }

    /// The list that came last, for client 0.
    pub(super) fn sample(&self) -> Option<&[u8]> {
        self.wire.sample().filter(|_| self.lists > 0)
    }

    /// Does what the socket is ready for; `list` gets each list's length.
    pub(super) fn event(
        &mut self,
        event: &Event,
        args: &SwarmArgs,
        buffer: &mut [u8],
        list: impl FnMut(usize),
    ) -> Result<News> {
        let was_connected = self.connected;
        let result = self.converse(event, args, buffer, list);
        let news = match result {
            Ok(news) => news,
            Err(error) if lost_for_good(&error) => {
                return Err(error).context("the clients' machine is at its end");
            }
            Err(_) if was_connected => News::Lost,
            Err(_) => News::Refused,
        };
        if news != News::Open {
            self.stream = None;
        }
        Ok(news)
    }

    fn converse(
        &mut self,
        event: &Event,
        args: &SwarmArgs,
        buffer: &mut [u8],
        mut list: impl FnMut(usize),
    ) -> io::Result<News> {
        let Some(stream) = &mut self.stream else {
            // Closed since epoll noticed this.
            return Ok(News::Open);
        };
        if !self.connected {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            if !event.is_writable() {
                return Ok(News::Open);
            }
            self.connected = true;
            stream.set_nodelay(true)?;
            write(stream, &opening::preface(args.profile))?;
        }
        if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
            return Ok(News::Open);
        }
        loop {
            let len = match stream.read(buffer) {
                Ok(0) => return Ok(News::Lost),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(News::Open),
                Err(error) => return Err(error),
            };
            let mut answer = Vec::new();
            let mut ended = false;
            self.wire.feed(&buffer[..len], |event| match event {
                wire::Event::Settings { header_table } => {
                    let authority = args.addr.to_string();
                    answer = opening::call(&args.service, &authority, header_table);
                }
                wire::Event::Ping(echo) => answer.extend(opening::pong(echo)),
                wire::Event::Message { len } => {
                    self.messages += 1;
                    // The first message is the handshake's.
                    if self.messages > 1 {
                        self.lists += 1;
                        list(len);
                    }
                }
                wire::Event::Ended => ended = true,
            });
            if let Some(credit) = self.wire.take_credit(args.profile.window() / 4) {
                answer.extend(opening::credit(credit));
            }
            if !answer.is_empty() {
                write(stream, &answer)?;
            }
            if ended {
                return Ok(News::Ended);
            }
            if len < buffer.len() {
                // The socket is empty; epoll tells when it no longer is.
                return Ok(News::Open);
            }
        }
    }
}

/// A connection on its way. Clients of a loopback server take the addresses of
/// 127.0.0.0/8 in turn: the kernel looks for a free port the longer, the fewer
/// are free.
fn open(args: &SwarmArgs, index: usize) -> io::Result<TcpStream> {
    let address = u8::try_from(index / CLIENTS_PER_ADDRESS).unwrap_or(u8::MAX);
    if address == 0 || !args.addr.ip().is_loopback() || !args.addr.is_ipv4() {
        return TcpStream::connect(args.addr);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let ip = Ipv4Addr::new(127, 0, 0, 1 + address);
    socket.bind(&SocketAddr::from((ip, 0)).into())?;
    match socket.connect(&args.addr.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Writes a few hundred bytes, for which a socket always has room.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let written = stream.write(bytes)?;
    if written < bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Whether an error is this machine's, not the connection's.
fn lost_for_good(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
    )
}
