//! What a client that behaves is sent.

use super::*;

#[tokio::test]
async fn a_client_is_sent_the_list_and_then_what_changes() {
    let balancer = Balancer::serving(&[(1, 5.0), (2, 3.0), (3, 1.0)]);
    let mut client = balancer.follow("Greeter.test.:443").await;
    assert_eq!(counts(&client.list().await), [(1, 5), (2, 3), (3, 1)]);
    balancer.set(GREETER, &[(1, 1.0), (2, 3.0)]);
    assert_eq!(counts(&client.list().await), [(1, 1), (2, 3)]);
}
