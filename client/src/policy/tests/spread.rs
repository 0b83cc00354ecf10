//! Policies that use all addresses.

use std::collections::BTreeMap;

use super::*;
use crate::policy::{Random, RoundRobin, Spread, Weighted};

/// Entries that say by their token which address they are.
fn entries(listed: &[(&str, f64, bool)]) -> Vec<Endpoint> {
    let listed = listed.iter().map(|(address, weight, draining)| {
        let mut endpoint = Endpoint::new(at(address));
        endpoint.weight = *weight;
        endpoint.draining = *draining;
        endpoint.lb_token = Some(address.parse().unwrap());
        endpoint
    });
    listed.collect()
}

impl<P: Policy> Channel<P> {
    fn list(&mut self, listed: &[(&str, f64, bool)]) {
        self.policy.update(entries(listed), &mut self.pool);
    }

    /// How many of `count` picks go where.
    fn picks(&self, count: u32) -> BTreeMap<String, u32> {
        let mut picks = BTreeMap::new();
        for _ in 0..count {
            let (_, token) = self.pick();
            let address = token.unwrap().to_str().unwrap().to_owned();
            *picks.entry(address).or_default() += 1;
        }
        picks
    }

    /// Runs until these are all that RPCs go to.
    async fn until_picked(&mut self, wanted: &[&str]) {
        self.until(ConnectivityState::Ready).await;
        while !self.picks(200).keys().eq(wanted) {
            self.step().await;
        }
    }
}

fn counts(wanted: &[(&str, u32)]) -> BTreeMap<String, u32> {
    let wanted = wanted.iter();
    wanted.map(|(a, n)| ((*a).to_owned(), *n)).collect()
}

fn round_robin() -> RoundRobin {
    RoundRobin::new(fastrand::Rng::with_seed(3))
}

fn weighted() -> Weighted {
    Weighted::new(fastrand::Rng::with_seed(3))
}

#[tokio::test(start_paused = true)]
async fn random_counts_repetitions_and_not_weights() {
    fastrand::seed(11);
    let mut channel = channel(Random::new(), &[(A, Fate::Answers), (B, Fate::Answers)]);
    channel.list(&[(A, 1.0, false), (B, 100.0, false), (A, 1.0, false)]);
    channel.until_picked(&[A, B]).await;
    let picks = channel.picks(30_000);
    assert!((19_500..20_500).contains(&picks[A]), "{picks:?}");
    // Not in turn.
    let (_, mut last) = channel.pick();
    let mut repeated = 0;
    for _ in 0..1000 {
        let (_, next) = channel.pick();
        repeated += u32::from(next == last);
        last = next;
    }
    assert!((450..650).contains(&repeated), "{repeated}");
}

#[tokio::test(start_paused = true)]
async fn weighted_shares_are_exact_among_those_that_are_ready() {
    let fates = [A, B, C].map(|address| (address, Fate::Answers));
    let mut channel = channel(weighted(), &fates);
    let listed = [(A, 3.0, false), (B, 1.0, false), (C, 6.0, false)];
    channel.list(&listed);
    channel.until_picked(&[A, B, C]).await;
    assert_eq!(channel.picks(1000), counts(&[(A, 300), (B, 100), (C, 600)]));

    channel.network.set(C, Fate::Refuses);
    drop(channel.network.accepted(C));
    channel.until_picked(&[A, B]).await;
    assert_eq!(channel.picks(1000), counts(&[(A, 750), (B, 250)]));

    channel.network.set(C, Fate::Answers);
    channel.until_picked(&[A, B, C]).await;
    channel.list(&[
        (A, 1.0, false),
        (B, 0.0, false),
        (C, 1.0, false),
        (A, 2.0, false),
    ]);
    assert_eq!(channel.picks(1000), counts(&[(A, 750), (C, 250)]));
}

/// Draining endpoints get RPCs only if all that are ready drain.
async fn leaves_out_what_drains<P: Policy>(policy: P) {
    let mut channel = channel(policy, &[(A, Fate::Answers), (B, Fate::Answers)]);
    channel.list(&[(A, 1.0, false), (B, 1.0, false)]);
    channel.until_picked(&[A, B]).await;
    channel.list(&[(A, 1.0, true), (B, 1.0, false)]);
    assert_eq!(channel.picks(100), counts(&[(B, 100)]));
    channel.network.set(B, Fate::Refuses);
    drop(channel.network.accepted(B));
    channel.until_picked(&[A]).await;
    channel.network.set(B, Fate::Answers);
    channel.until_picked(&[B]).await;
    channel.list(&[(A, 1.0, true), (B, 1.0, true)]);
    channel.until_picked(&[A, B]).await;
}

#[tokio::test(start_paused = true)]
async fn what_drains_gets_no_calls_while_anything_else_is_ready() {
    leaves_out_what_drains(round_robin()).await;
    leaves_out_what_drains(Random::new()).await;
    leaves_out_what_drains(weighted()).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_is_a_picker_over_what_is_ready() {
    #[derive(Debug)]
    struct ByMethod(Vec<crate::policy::Ready>);

    impl crate::policy::Picker for ByMethod {
        fn pick(&self, args: &PickArgs<'_>) -> Pick<'_> {
            let sticky = args.headers().contains_key("sticky") || args.path() == "/s.S/Sticky";
            Pick::Complete(self.0[usize::from(!sticky)].picked())
        }
    }

    let mut channel = channel(
        Spread::with(ByMethod),
        &[(A, Fate::Answers), (B, Fate::Answers)],
    );
    channel.list(&[(A, 1.0, false), (B, 1.0, false)]);
    // Both in one batch: they answer at the same time.
    channel.until(ConnectivityState::Ready).await;
    while channel.network.0.lock().unwrap().accepted.len() < 2 {
        channel.step().await;
    }
    channel.run_for(Duration::from_millis(1)).await;
    let mut headers = HeaderMap::new();
    let picker = channel.policy.output().picker;
    let token = |path: &'static str, headers: &HeaderMap| {
        let uri = Uri::from_static(path);
        match picker.pick(&PickArgs::new(&uri, headers)) {
            Pick::Complete(picked) => picked.lb_token.unwrap().to_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(token("/s.S/Sticky", &headers), A);
    assert_eq!(token("/s.S/Other", &headers), B);
    headers.insert("sticky", HeaderValue::from_static("yes"));
    assert_eq!(token("/s.S/Other", &headers), A);
}
