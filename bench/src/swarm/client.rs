//! One client: a socket, and how far its conversation has come.

use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, Result};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::SwarmArgs;
use super::opening;
use super::wire::{self, Wire};

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
        let mut stream = TcpStream::connect(args.addr).context("cannot open a socket")?;
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
