//! Connections beside the first.

use h2::server::{Builder, SendResponse};
use tokio::sync::mpsc::UnboundedReceiver;

use super::ending::{connection, request};
use super::*;

/// What a server that allows one stream a connection hears.
enum Heard {
    Stream(SendResponse<bytes::Bytes>),
    /// A connection has ended.
    End,
}

fn serve_one_each(memory: &Memory) -> UnboundedReceiver<Heard> {
    let (sender, heard) = mpsc::unbounded_channel();
    let (servers, mut sockets) = mpsc::unbounded_channel();
    memory.world().servers = Some(servers);
    tokio::spawn(async move {
        while let Some(socket) = sockets.recv().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let handshake = Builder::new().max_concurrent_streams(1).handshake(socket);
                let mut connection = handshake.await.unwrap();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    // The test may be over.
                    let _ = sender.send(Heard::Stream(respond));
                }
                let _ = sender.send(Heard::End);
            });
        }
    });
    heard
}

async fn stream(heard: &mut UnboundedReceiver<Heard>) -> SendResponse<bytes::Bytes> {
    match heard.recv().await {
        Some(Heard::Stream(respond)) => respond,
        _ => panic!("a connection ended"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_further_connection_closes_when_it_is_not_needed_any_more() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions {
        max_connections: 2,
        ..ConnectOptions::default()
    });
    let mut heard = serve_one_each(&memory);
    let subchannel = pool.acquire(&addresses(1)[0]);
    let first = connection(&mut pool, &subchannel).await;
    // Each time it is needed it comes, and then goes.
    for _ in 0..2 {
        let mut calls = JoinSet::new();
        let mut streams = vec![];
        for _ in 0..2 {
            let connection = first.clone();
            calls.spawn(async move { connection.send(request()).await });
            streams.push(stream(&mut heard).await);
        }
        // While both are used, both stay.
        time::sleep(10 * more::UNUSED).await;
        assert!(first.is_full());
        assert!(heard.try_recv().is_err());
        for mut respond in streams {
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        }
        while calls.join_next().await.is_some() {}
        let ended = time::timeout(3 * more::UNUSED, heard.recv()).await;
        assert!(matches!(ended, Ok(Some(Heard::End))));
        // The first stays.
        assert!(
            time::timeout(10 * more::UNUSED, heard.recv())
                .await
                .is_err()
        );
        assert!(matches!(pool.state(&subchannel), SubchannelState::Ready(_)));
    }
}
