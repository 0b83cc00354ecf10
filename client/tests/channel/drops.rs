//! RPCs that the balancer wants dropped.

use tonic::Code;

use crate::harness::{Backend, Balancer, drop_entry, entry, follow, hello, patient_hello, until};

#[tokio::test]
async fn one_entry_of_four_drops_a_quarter() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([
        entry(a.addr, ""),
        drop_entry("rate"),
        entry(b.addr, ""),
        entry(a.addr, ""),
    ]);
    let mut dropped = 0;
    for _ in 0..400 {
        match hello(&channel).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(status.message().contains("dropped"), "{status}");
                dropped += 1;
            }
        }
    }
    assert_eq!(dropped, 100);
}

#[tokio::test]
async fn a_backend_that_dies_does_not_change_the_share_of_drops() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let mut b = Backend::start("b").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), drop_entry("rate")]);
    // Counted from a drop to a drop, so that rounds are whole.
    until("a drop", async || hello(&channel).await.is_err()).await;
    b.kill();
    let mut dropped = 0;
    let mut answers = vec![];
    for _ in 0..300 {
        match hello(&channel).await {
            Ok(name) => answers.push(name),
            Err(status) if status.message().contains("dropped") => dropped += 1,
            // The RPC that "b" took with it.
            Err(_) => {}
        }
    }
    assert_eq!(dropped, 100);
    assert!(answers.ends_with(&["a".to_owned(), "a".to_owned()]));
}

#[tokio::test]
async fn a_list_of_drops_alone_drops_all_even_what_waits_for_ready() {
    let mut balancer = Balancer::start().await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([drop_entry("maintenance")]);
    for _ in 0..3 {
        let status = patient_hello(&channel).await.unwrap_err();
        assert!(status.message().contains("dropped"), "{status}");
    }
}
