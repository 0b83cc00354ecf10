//! A byte stream through an HTTP proxy.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Proxy;
use crate::endpoint::Address;
use crate::subchannel::{Connect, Transport};

/// Longest answer of a proxy that is read, in bytes.
const LONGEST: usize = 8 << 10;

/// Opens byte streams to one place through a proxy, whose addresses it is given.
#[derive(Debug)]
pub(crate) struct Tunnel {
    inner: Arc<dyn Connect>,
    /// `host:port`.
    to: Arc<str>,
    proxy: Proxy,
}

impl Tunnel {
    /// Through `proxy`, to which `inner` connects.
    pub(crate) fn new(inner: Arc<dyn Connect>, proxy: Proxy, host: &str, port: u16) -> Self {
        let to = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        Self {
            inner,
            to: to.into(),
            proxy,
        }
    }
}

impl Connect for Tunnel {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let opened = self.inner.connect(address);
        let to = Arc::clone(&self.to);
        let credentials = self.proxy.credentials.clone();
        Box::pin(async move {
            let mut socket = opened.await?;
            let asked = ask(&mut socket, &to, credentials.as_deref()).await;
            asked.map_err(|error| {
                let kind = error.kind();
                io::Error::new(kind, format!("the proxy did not connect to {to}: {error}"))
            })?;
            Ok(socket)
        })
    }
}

async fn ask(
    socket: &mut Box<dyn Transport>,
    to: &str,
    credentials: Option<&str>,
) -> io::Result<()> {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = credentials {
        request += &format!("Proxy-Authorization: Basic {credentials}\r\n");
    }
    request += "\r\n";
    socket.write_all(request.as_bytes()).await?;
    socket.flush().await?;
    // Byte by byte: what follows the answer is the server's.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == LONGEST {
            let text = format!("its answer is longer than {LONGEST} bytes");
            return Err(io::Error::other(text));
        }
        match socket.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::other(
                    "it closed the connection without an answer",
                ));
            }
            Err(error) => return Err(error),
        }
    }
    judge(&answer)
}

fn judge(answer: &[u8]) -> io::Result<()> {
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let line: String = String::from_utf8_lossy(line).chars().take(128).collect();
    let code = line
        .split(' ')
        .nth(1)
        .filter(|_| line.starts_with("HTTP/1."));
    match code {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        Some("407") => Err(io::Error::other(format!(
            "it answered {line:?}; give it a user and a password \
             (http://user:password@host:port)"
        ))),
        _ => Err(io::Error::other(format!("it answered {line:?}"))),
    }
}
