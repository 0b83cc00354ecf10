//! What h2 does not tell of a connection, read from the frames that pass by: that
//! the first one has come, and that the server said goodbye.
//!
//! h2 ends a connection's future after GOAWAY when the last stream is over, which
//! may take hours. Until then RPCs would be sent to a server that is leaving.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::connection::Shared;
use super::transport::Transport;

/// HTTP/2's frame header: three bytes of length, type, flags, four of stream.
const HEADER: usize = 9;
/// Frame type of SETTINGS, which every server sends first.
const SETTINGS: u8 = 4;
/// Frame type of GOAWAY.
const GOAWAY: u8 = 7;
/// In a GOAWAY, bytes before its debug data: last stream and error code.
const GOAWAY_FIXED: usize = 8;
/// Most debug data of a GOAWAY that is repeated in a log, in bytes.
const DEBUG_DATA: usize = 64;

/// Whether a server began as one of HTTP/2 does, or else what it seems to be.
pub(super) type Opening = Result<(), String>;

/// Reads along. Beyond a frame's length it costs nothing per byte.
pub(super) struct Frames {
    /// The header of the frame that arrives, and the beginning of a GOAWAY.
    buffer: Vec<u8>,
    /// How many bytes `buffer` is to have before it is looked at.
    want: usize,
    /// Bytes that belong to a frame that is of no interest.
    skip: usize,
    opening: Option<oneshot::Sender<Opening>>,
    goodbye: Option<oneshot::Sender<String>>,
    /// The payloads of GOAWAYs, until they are taken.
    goaways: Vec<Vec<u8>>,
}

impl Frames {
    /// Type and length of a frame are in its first four bytes.
    const OPENING: usize = 4;

    pub(super) fn new() -> (Self, oneshot::Receiver<Opening>, oneshot::Receiver<String>) {
        let (opening, opened) = oneshot::channel();
        let (goodbye, goes) = oneshot::channel();
        let frames = Self {
            buffer: Vec::with_capacity(HEADER),
            want: Self::OPENING,
            skip: 0,
            opening: Some(opening),
            goodbye: Some(goodbye),
            goaways: vec![],
        };
        (frames, opened, goes)
    }

    /// Looks at `bytes`, which follow on those before.
    fn see(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.want - self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.buffer.len() == self.want {
                self.complete();
            }
        }
    }

    /// `buffer` has what was wanted.
    fn complete(&mut self) {
        let length = match self.buffer[..] {
            [a, b, c, ..] => u32::from_be_bytes([0, a, b, c]) as usize,
            _ => 0,
        };
        let kept = length.min(GOAWAY_FIXED + DEBUG_DATA);
        if self.want < HEADER {
            self.open();
            self.want = HEADER;
        } else if self.want == HEADER && self.buffer[3] == GOAWAY && kept > 0 {
            self.want = HEADER + kept;
        } else if self.want > HEADER {
            let payload = self.buffer.split_off(HEADER);
            if let Some(goodbye) = self.goodbye.take() {
                // Nobody listens to a connection that was let go.
                let _ = goodbye.send(reason(&payload));
            }
            // A server may say first that it leaves, and later why.
            self.goaways.push(payload);
            self.buffer.clear();
            self.want = HEADER;
            self.skip = length - kept;
        } else {
            self.buffer.clear();
            self.skip = length;
        }
    }

    /// The connection cannot be read. With TLS it may be now that a server says
    /// why it does not like the client; h2 would keep it to itself.
    #[cold]
    fn failed(&mut self, error: &io::Error) {
        if let Some(opening) = self.opening.take() {
            let _ = opening.send(Err(error.to_string()));
        }
    }

    #[cold]
    fn open(&mut self) {
        let opening = match self.buffer[..] {
            [_, _, _, SETTINGS] => Ok(()),
            // A TLS record: alert or handshake, version 3.
            [0x15 | 0x16, 3, ..] => Err("the server speaks TLS, and this connection \
                                         is to be without; what turns it on is \
                                         Builder::tls for backends and \
                                         Builder::balancer_tls for balancers \
                                         (feature `tls`)"
                .to_owned()),
            [b'H', b'T', b'T', b'P'] => {
                Err("the server speaks HTTP/1; gRPC needs HTTP/2".to_owned())
            }
            _ => Err(format!(
                "the server does not speak HTTP/2: it begins with {:?}",
                String::from_utf8_lossy(&self.buffer)
            )),
        };
        if let Some(sender) = self.opening.take() {
            // Nobody waits once the attempt has timed out.
            let _ = sender.send(opening);
        }
    }
}

/// A GOAWAY's payload in words.
fn reason(payload: &[u8]) -> String {
    let (code, data) = match payload {
        [_, _, _, _, a, b, c, d, data @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), data),
        _ => (0, &[][..]),
    };
    let mut text = "the server takes no more RPCs on this connection (GOAWAY".to_owned();
    if code != 0 {
        text = format!("{text}, {}", Reason::from(code).description());
    }
    if !data.is_empty() {
        text = format!("{text}, {:?}", String::from_utf8_lossy(data));
    }
    text + ")"
}

/// Whether a GOAWAY's payload says that the client pings too often, in gRPC's way.
fn wants_fewer_pings(payload: &[u8]) -> bool {
    let calm = u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes();
    payload.get(4..GOAWAY_FIXED) == Some(&calm)
        && payload.get(GOAWAY_FIXED..) == Some(b"too_many_pings")
}

/// A transport whose incoming bytes [`Frames`] sees.
pub(super) struct Watched {
    pub(super) socket: Box<dyn Transport>,
    pub(super) frames: Frames,
    /// Told of every read and write.
    pub(super) shared: Arc<Shared>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(cx, buf));
        match &result {
            Ok(()) => {
                self.shared.heard.store(true, Ordering::Relaxed);
                self.frames.see(&buf.filled()[before..]);
                if !self.frames.goaways.is_empty() {
                    for payload in std::mem::take(&mut self.frames.goaways) {
                        self.said_goodbye(&payload);
                    }
                }
            }
            Err(error) => self.frames.failed(error),
        }
        Poll::Ready(result)
    }
}

impl Watched {
    #[cold]
    fn said_goodbye(&self, payload: &[u8]) {
        let has_reason = payload
            .get(4..GOAWAY_FIXED)
            .is_some_and(|code| code != [0; 4]);
        let goodbye = self.shared.goodbye.lock();
        let mut goodbye = goodbye.unwrap_or_else(PoisonError::into_inner);
        if has_reason || goodbye.is_none() {
            *goodbye = Some(reason(payload));
        }
        if wants_fewer_pings(payload) {
            self.shared.too_many_pings.store(true, Ordering::Relaxed);
        }
    }

    /// Passes on what came of writing. If a server hangs up before it has begun,
    /// what it said last stands there to be read, or is about to; the attempt's
    /// timeout bounds the wait for it.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && self.frames.opening.is_some()
        {
            let mut bytes = [0; 64];
            let mut last = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut last) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(why)) => self.frames.failed(&why),
                Poll::Ready(Ok(())) => self.frames.see(last.filled()),
            }
            self.frames.failed(error);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.writes.fetch_add(1, Ordering::Release);
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.writes.fetch_add(1, Ordering::Release);
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_goaway_is_seen_however_the_bytes_are_cut() {
        let mut bytes = frame(SETTINGS, &[0; 12]);
        bytes.extend(frame(0, &[GOAWAY; 1000]));
        bytes.extend(frame(1, &[]));
        let before = bytes.len();
        bytes.extend(frame(GOAWAY, b"\0\0\0\x09\0\0\0\x0btoo_many_pings"));
        let whole = bytes.len();
        bytes.extend([GOAWAY; 100]);
        for step in 1..bytes.len() {
            let (mut frames, mut opening, mut goodbye) = Frames::new();
            let mut seen = 0;
            for part in bytes.chunks(step) {
                frames.see(part);
                seen += part.len();
                assert_eq!(
                    opening.try_recv().is_ok(),
                    seen >= 4 && seen - part.len() < 4
                );
                if seen <= before {
                    assert!(goodbye.try_recv().is_err());
                }
                if seen >= whole {
                    break;
                }
            }
            let reason = goodbye.try_recv().unwrap();
            assert!(reason.contains("too_many_pings"), "{reason}");
            assert!(reason.contains("GOAWAY"), "{reason}");
        }
    }

    #[test]
    fn every_goaway_is_seen_however_the_bytes_are_cut() {
        let payloads = [
            &b"\0\0\0\x09\0\0\0\0"[..],
            b"\0\0\0\x09\0\0\0\x0btoo_many_pings",
        ];
        let long = [&b"\0\0\0\x01\0\0\0\x02"[..], &[GOAWAY; 500]].concat();
        let mut bytes = frame(SETTINGS, &[0; 12]);
        for payload in payloads.into_iter().chain([&long[..]]) {
            bytes.extend(frame(GOAWAY, payload));
            bytes.extend(frame(0, &[GOAWAY; 100]));
        }
        for step in 1..bytes.len() {
            let (mut frames, _opening, _goodbye) = Frames::new();
            bytes.chunks(step).for_each(|part| frames.see(part));
            assert_eq!(frames.goaways[..2], payloads);
            assert_eq!(frames.goaways[2], long[..GOAWAY_FIXED + DEBUG_DATA]);
            assert_eq!(frames.goaways.len(), 3);
        }
    }

    #[test]
    fn what_is_no_http2_is_called_by_its_name() {
        for (bytes, wanted) in [
            (&b"\x15\x03\x03\0\x02\x02\x46"[..], "Builder::balancer_tls"),
            (b"HTTP/1.1 400 Bad Request", "HTTP/1"),
            (b"SSH-2.0", "SSH-"),
        ] {
            let (mut frames, mut opening, _goodbye) = Frames::new();
            frames.see(bytes);
            let reason = opening.try_recv().unwrap().unwrap_err();
            assert!(reason.contains(wanted), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(parts: Vec<Vec<u8>>) {
            let (mut frames, _opening, _goodbye) = Frames::new();
            for part in parts {
                frames.see(&part);
            }
        }
    }
}
