//! Which address is tried when, and to whom RPCs go.

use std::collections::HashMap;

use tokio::time::timeout;

use super::*;
use crate::policy::tests::{A, B, C, Channel, Fate, V6, channel, closed, endpoints};

impl Channel<PickFirst> {
    fn connected_to(&self) -> String {
        match &self.policy.stage {
            Stage::Connected(subchannel, _) => subchannel.address().to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn list(attempts: &[(&str, u128)]) -> Vec<(String, u128)> {
    let attempts = attempts.iter();
    attempts.map(|(to, at)| ((*to).to_owned(), *at)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_address_that_answers_at_once_is_the_only_one_called() {
    let mut channel = channel(PickFirst::new(), &[(A, Fate::Answers), (B, Fate::Answers)]);
    channel.update(&[A, B]);
    channel.until(ConnectivityState::Ready).await;
    channel.run_for(Duration::from_secs(60)).await;
    assert_eq!(channel.attempts(), list(&[(A, 0)]));
    assert_eq!(channel.connected_to(), A);
}

#[tokio::test(start_paused = true)]
async fn a_silent_first_address_costs_250_milliseconds() {
    let mut channel = channel(PickFirst::new(), &[(A, Fate::Silent), (B, Fate::Answers)]);
    channel.update(&[A, B]);
    assert_eq!(channel.policy.output().state, ConnectivityState::Connecting);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.attempts(), list(&[(A, 0), (B, 250)]));
    assert_eq!(channel.elapsed(), 250);
    assert_eq!(channel.connected_to(), B);
}

#[tokio::test(start_paused = true)]
async fn attempts_start_one_delay_apart_and_alternate_between_families() {
    let silent = [A, B, C, V6].map(|address| (address, Fate::Silent));
    for (delay, wanted) in [
        (None, 250),
        (Some(400), 400),
        (Some(1), 100),
        (Some(9999), 2000),
    ] {
        let mut policy = PickFirst::new();
        if let Some(delay) = delay {
            policy = policy.attempt_delay(Duration::from_millis(delay));
        }
        let mut channel = channel(policy, &silent);
        channel.update(&[A, B, A, C, V6]);
        channel.run_for(Duration::from_secs(15)).await;
        let starts = [(A, 0), (V6, wanted), (B, 2 * wanted), (C, 3 * wanted)];
        assert_eq!(channel.attempts(), list(&starts));
        assert_eq!(channel.policy.next_due(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_starts_the_next_attempt_at_once() {
    let fates = [(A, Fate::Refuses), (B, Fate::Refuses), (C, Fate::Answers)];
    let mut channel = channel(PickFirst::new(), &fates);
    channel.update(&[A, B, C]);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.attempts(), list(&[(A, 0), (B, 0), (C, 0)]));
}

#[tokio::test(start_paused = true)]
async fn the_first_to_be_ready_wins_and_the_others_are_given_up() {
    let slow = Fate::AnswersAfter(Duration::from_millis(600));
    let fates = [(A, slow), (B, Fate::Silent), (C, Fate::Answers)];
    let mut channel = channel(PickFirst::new(), &fates);
    channel.update(&[A, B, C]);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.elapsed(), 500);
    assert_eq!(channel.connected_to(), C);
    // The attempt to A would have come through by now.
    channel.run_for(Duration::from_secs(2)).await;
    assert_eq!(channel.network.0.lock().unwrap().accepted.len(), 1);
    assert_eq!(channel.connected_to(), C);
    channel.network.accepted(C);
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_got_through_is_closed() {
    let slow = Fate::AnswersAfter(Duration::from_millis(300));
    let quick = Fate::AnswersAfter(Duration::from_millis(50));
    let mut channel = channel(PickFirst::new(), &[(A, slow), (B, quick)]);
    channel.update(&[A, B]);
    // Both get through at the same time.
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.elapsed(), 300);
    channel.run_for(Duration::from_millis(1)).await;
    let mut open = std::mem::take(&mut channel.network.0.lock().unwrap().accepted);
    let winner = channel.connected_to();
    open.retain(|(address, _)| address.to_string() != winner);
    assert_eq!(open.len(), 1);
    for (_, loser) in open {
        closed(loser).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_pass_fails_rpcs_until_one_address_answers() {
    let mut channel = channel(PickFirst::new(), &[(A, Fate::Refuses), (B, Fate::Refuses)]);
    channel.update(&[A, B]);
    channel.until(ConnectivityState::TransientFailure).await;
    assert_eq!(channel.elapsed(), 0);
    let reason = channel.policy.output().picker.failure().unwrap().to_owned();
    assert!(reason.contains(B) && reason.contains("refused"), "{reason}");

    // Both are tried again, each after its backoff; RPCs fail all the while.
    channel.attempts();
    let forever = async {
        loop {
            channel.step().await;
            let state = channel.policy.output().state;
            assert_eq!(state, ConnectivityState::TransientFailure);
        }
    };
    let _: Result<(), _> = timeout(Duration::from_secs(5), forever).await;
    let attempts = channel.attempts();
    for address in [A, B] {
        let retries = attempts.iter().filter(|(to, _)| to == address);
        let first = retries.clone().next().unwrap().1;
        assert!((800..=1200).contains(&first), "{attempts:?}");
        assert!((2..=3).contains(&retries.count()), "{attempts:?}");
    }

    channel.network.set(A, Fate::Answers);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.connected_to(), A);
}

#[tokio::test(start_paused = true)]
async fn a_new_list_does_not_make_failing_rpcs_wait() {
    let fates = [(A, Fate::Refuses), (B, Fate::Silent), (C, Fate::Answers)];
    let mut channel = channel(PickFirst::new(), &fates);
    channel.update(&[A]);
    channel.until(ConnectivityState::TransientFailure).await;
    channel.update(&[B, C]);
    assert_eq!(
        channel.policy.output().state,
        ConnectivityState::TransientFailure
    );
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.connected_to(), C);
}

#[tokio::test(start_paused = true)]
async fn a_connected_address_that_is_still_listed_keeps_its_connection() {
    let fates = [A, B, C].map(|address| (address, Fate::Answers));
    let mut channel = channel(PickFirst::new(), &fates);
    channel.update(&[A, B]);
    channel.until(ConnectivityState::Ready).await;
    let (connection, _) = channel.pick();
    for listed in [&[B, A][..], &[C, B, A, A], &[A]] {
        channel.update(listed);
        assert_eq!(channel.policy.output().state, ConnectivityState::Ready);
        assert_eq!(channel.pick().0, connection);
    }
    channel.run_for(Duration::from_secs(60)).await;
    assert_eq!(channel.attempts(), list(&[(A, 0)]));

    // No longer listed, it is left.
    channel.update(&[C, B]);
    assert_eq!(channel.policy.output().state, ConnectivityState::Connecting);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.connected_to(), C);
    channel.update(&[]);
    assert_eq!(
        channel.policy.output().state,
        ConnectivityState::TransientFailure
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_token_is_sent_on_the_same_connection() {
    let mut channel = channel(PickFirst::new(), &[(A, Fate::Answers)]);
    let token = |text: &'static str| Some(HeaderValue::from_static(text));
    let mut listed = endpoints(&[A, A]);
    listed[0].lb_token = token("one");
    listed[1].lb_token = token("two");
    channel.policy.update(listed.clone(), &mut channel.pool);
    channel.until(ConnectivityState::Ready).await;
    let (connection, first) = channel.pick();
    assert_eq!(first, token("one"));
    listed.swap(0, 1);
    channel.policy.update(listed.clone(), &mut channel.pool);
    assert_eq!(channel.pick(), (connection.clone(), token("two")));
    listed[0].lb_token = None;
    channel.policy.update(listed, &mut channel.pool);
    assert_eq!(channel.pick(), (connection, None));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_starts_a_new_pass_from_the_first_address() {
    let mut channel = channel(PickFirst::new(), &[(A, Fate::Refuses), (B, Fate::Answers)]);
    channel.update(&[A, B]);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.connected_to(), B);
    channel.run_for(Duration::from_secs(30)).await;
    channel.network.set(A, Fate::Answers);
    drop(channel.network.accepted(B));
    channel.step().await;
    assert_eq!(channel.policy.output().state, ConnectivityState::Connecting);
    channel.until(ConnectivityState::Ready).await;
    assert_eq!(channel.connected_to(), A);
}

#[tokio::test(start_paused = true)]
async fn shuffling_spreads_clients_over_first_addresses() {
    let config = PickFirstConfig {
        shuffle_address_list: true,
    };
    let fates = [A, B, C].map(|address| (address, Fate::Answers));
    let mut connected = HashMap::<String, u32>::new();
    for seed in 0..30 {
        let policy = PickFirst::with_config(config, fastrand::Rng::with_seed(seed));
        let mut channel = channel(policy, &fates);
        channel.update(&[A, B, C]);
        channel.until(ConnectivityState::Ready).await;
        assert_eq!(channel.attempts().len(), 1);
        *connected.entry(channel.connected_to()).or_default() += 1;
    }
    assert_eq!(connected.len(), 3, "{connected:?}");
}
