//! Balancers that move, and several of them.

use futures_util::StreamExt as _;
use lookaside_client::resolve::Resolution;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::harness::{Balancer, Incoming, Log, World, balancer, entry, hello, hellos, share};

#[tokio::test(start_paused = true)]
async fn a_new_balancer_is_not_called_while_the_stream_to_the_old_one_lasts() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    let other = world.net.address();
    let mut second = Balancer::in_memory(&world.net, other);
    world.names.balancers(&[other], &[]);
    world.pass(60.0).await;
    assert_eq!(second.connections(), 0);
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    // When it ends, the new one is next.
    drop(stream);
    let stream = second.greet().await;
    stream.list([entry(a.addr, "")]);
    world.pass(60.0).await;
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn the_same_balancer_again_keeps_its_connection_and_its_stream() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let addr = world.balancer.addr;
    let more = world.net.address();
    for balancers in [vec![addr], vec![addr, more], vec![more, addr], vec![addr]] {
        world.names.balancers(&balancers, &[]);
        world.pass(10.0).await;
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }
    assert!(!world.balancer.is_wanted());
    assert_eq!(world.balancer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_balancer_by_another_name_keeps_its_stream() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    assert_eq!(stream.authority, "lb.test");
    stream.list([entry(a.addr, "")]);
    let addr = world.balancer.addr;
    let renamed = Resolution::default().with_balancers(vec![balancer(addr, "other.test")]);
    world.names.answer(Ok(renamed));
    world.pass(60.0).await;
    assert!(!world.balancer.is_wanted());
    assert_eq!(hello(&channel).await.unwrap(), "a");
    // The next stream goes by the new name.
    drop(stream);
    assert_eq!(world.balancer.accept().await.authority, "other.test");
}

#[tokio::test(start_paused = true)]
async fn the_last_list_serves_while_another_balancer_is_looked_for() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    world.balancer.kill();
    world.pass(10.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    assert!(world.names.wishes() > 0);
    let other = world.net.address();
    let mut second = Balancer::in_memory(&world.net, other);
    world.names.balancers(&[other], &[]);
    let found = world.now();
    let stream = second.greet().await;
    // No backoff of the old one holds up the new one.
    assert!(world.now() - found < 0.01, "{}", world.now() - found);
    stream.list([entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_did_not_change_do_not_cut_a_backoff_short() {
    let mut world = World::new();
    world.balancer.kill();
    let addr = world.balancer.addr;
    let _channel = world.follow(&[]);
    world.pass(20.0).await;
    let before = world.dials(addr).len();
    for _ in 0..100 {
        world.names.balancers(&[addr], &[]);
        world.settle().await;
    }
    assert!(world.dials(addr).len() <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_balancer_that_can_be_reached_is_followed_by_its_own_name() {
    let mut world = World::new();
    let a = world.backend("a");
    let (dead, silent) = (world.net.address(), world.net.address());
    world.net.silence(silent);
    let balancers = vec![
        balancer(dead, "dead.test"),
        balancer(silent, "silent.test."),
        balancer(world.balancer.addr, "alive.test."),
    ];
    let channel = world.channel_with(|builder| builder);
    let resolution = Resolution::default().with_balancers(balancers);
    world.names.answer(Ok(resolution));
    let stream = world.balancer.greet().await;
    assert_eq!(stream.authority, "alive.test");
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_next_balancer_takes_over_from_one_that_dies() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let other = world.net.address();
    let mut second = Balancer::in_memory(&world.net, other);
    let channel = world.channel_with(|builder| builder);
    world.names.balancers(&[world.balancer.addr, other], &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.pass(10.0).await;
    assert_eq!(second.connections(), 0);
    world.balancer.kill();
    let lost = world.now();
    let stream = second.greet().await;
    assert!(world.now() - lost < 1.3, "{}", world.now() - lost);
    stream.list([entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
}

#[tokio::test(start_paused = true)]
async fn each_loss_of_a_balancer_is_logged_and_so_is_its_return() {
    let mut world = World::new();
    let [a] = world.backends(["a"]);
    let _channel = world.follow(&[]);
    let log = Log::start();
    let mut stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    for losses in 1..=3 {
        world.pass(30.0).await;
        world.balancer.kill();
        world.pass(20.0).await;
        assert_eq!(log.warnings("no stream to the balancer").len(), losses);
        world.restart_balancer();
        stream = world.balancer.greet().await;
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        assert_eq!(log.lines("the balancer is back").len(), losses);
    }
}

/// How long a server that says nothing waits for a ping on its next connection, which it
/// then ends for that.
async fn until_ping(incoming: &mut Incoming) -> u64 {
    let mut socket = incoming.next().await.unwrap().unwrap();
    let began = Instant::now();
    socket
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut seen = vec![];
    // PING: eight bytes, of type 6, for the connection.
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    while !seen.windows(9).any(|frame| frame == ping) {
        assert!(socket.read_buf(&mut seen).await.unwrap() > 0);
    }
    let mut goaway = vec![0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    goaway.extend(b"too_many_pings");
    socket.write_all(&goaway).await.unwrap();
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_gets_too_many_pings_gets_fewer() {
    let mut world = World::new();
    world.balancer.kill();
    let (mut incoming, _place) = world.net.listen(world.balancer.addr);
    let _channel = world.follow(&[]);
    for wanted in [20, 40, 80] {
        assert_eq!(until_ping(&mut incoming).await, wanted);
    }
}
