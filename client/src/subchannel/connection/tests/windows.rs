//! How far a server gets with responses that nobody reads.

use h2::SendStream;

use super::*;

/// As many streams as asked for, each answered with as much as there is window for.
struct Unread {
    world: World,
    _responses: Vec<Response<ResponseBody>>,
    /// How much was sent of each.
    sent: Vec<usize>,
}

/// Sends as much as there is window for, and says how much that was.
fn fill(stream: &mut SendStream<Bytes>) -> usize {
    stream.reserve_capacity(1 << 30);
    let room = stream.capacity();
    stream.send_data(Bytes::from(vec![0; room]), false).unwrap();
    room
}

async fn unread(count: usize, options: ConnectOptions) -> Unread {
    let mut server = server::Builder::new();
    // So that only the client's windows hold it back.
    server.max_send_buffer_size(1 << 30);
    let mut world = World::new(&server, options).await;
    let mut responses = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..count {
        let call = world.connection.send(unary().await);
        let answer = async {
            let (_, mut respond) = world.server.accept().await.unwrap().unwrap();
            let stream = respond.send_response(Response::new(()), false).unwrap();
            streams.push(stream);
            world.server.accept().await;
        };
        tokio::select! {
            response = call => responses.push(response.unwrap()),
            () = answer => unreachable!(),
        }
    }
    let sent = streams.iter_mut().map(fill).collect();
    Unread {
        world,
        _responses: responses,
        sent,
    }
}

#[tokio::test]
async fn responses_that_are_not_read_do_not_stop_the_others() {
    let window = 2 << 20;
    let unread = unread(21, ConnectOptions::default()).await;
    // Each gets its own window, whatever the others have.
    assert_eq!(unread.sent, [window; 21]);
}

#[tokio::test]
async fn windows_are_as_set() {
    let options = ConnectOptions {
        stream_window: 1 << 18,
        connection_window: 1 << 19,
        ..ConnectOptions::default()
    };
    let unread = unread(3, options).await;
    assert_eq!(unread.sent, [1 << 18, 1 << 18, 0]);
    drop(unread.world);
}

#[tokio::test]
async fn windows_that_http2_does_not_have_are_the_nearest() {
    let options = ConnectOptions {
        stream_window: 0,
        connection_window: u32::MAX,
        max_header_list_size: 0,
        ..ConnectOptions::default()
    };
    let unread = unread(1, options).await;
    assert_eq!(unread.sent, [(1 << 16) - 1]);
}
