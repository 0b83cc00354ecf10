//! The body of a streaming request, on its way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use super::request::Replayable;

/// A task that sends a body. Dropped, it stops, and the RPC is cancelled if the
/// body was not at its end.
#[derive(Debug)]
pub(super) struct Upload(AbortHandle);

impl Upload {
    pub(super) fn start(
        body: Replayable,
        stream: SendStream<Bytes>,
        tasks: &TaskTracker,
        runtime: &Handle,
    ) -> Self {
        Self(tasks.spawn_on(send(body, stream), runtime).abort_handle())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends frames as there are some and as there is window for them. Ends early if
/// the stream does: the response then says why.
async fn send(mut body: Replayable, mut stream: SendStream<Bytes>) {
    loop {
        let frame = poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut body).poll_frame(cx).map(Some)
        });
        let Some(frame) = frame.await else {
            return;
        };
        match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                let last = body.is_end_stream();
                if send_data(&mut stream, data, last).await.is_none() || last {
                    return;
                }
            }
            // gRPC requests have no trailers.
            Some(Ok(Err(_))) => {}
            Some(Err(_)) => return stream.send_reset(Reason::CANCEL),
            None => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        }
    }
}

/// `None` if the stream has ended.
async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Option<()> {
    while !data.is_empty() {
        // Only once there is something to send: capacity is taken from the other
        // streams of the connection.
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| match stream.capacity() {
            0 => stream.poll_capacity(cx),
            room => Poll::Ready(Some(Ok(room))),
        });
        let room = room.await?.ok()?;
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, last && data.is_empty()).ok()?;
        if data.is_empty() {
            return Some(());
        }
    }
    // An empty frame needs no window.
    stream.send_data(data, last).ok()
}
