//! Backends of which something breaks.

use lookaside_proto::registration_v1::registration::Where;
use lookaside_tests::{Balancer, Checked, HealthMethods, eventually};

use super::*;
use crate::registration::{Raw, channel, said};

const ORCA: &str = "load = { kind = \"orca\", interval = \"1s\" }";

#[tokio::test]
async fn who_only_reports_its_load_leaves_when_it_dies_and_returns_when_it_listens() {
    let a = Checked::start(HealthMethods::None).await;
    let b = Checked::start(HealthMethods::None).await;
    let both = [a.addr(), b.addr()];
    let (balancer, mut follower) = with_all_listed(ORCA, &both).await;
    eventually("they are asked", || a.open() + b.open() == 2).await;
    drop(a);
    until_listed(&mut follower, &both[1..]).await;
    let _a = Checked::start_at(both[0], HealthMethods::None);
    until_listed(&mut follower, &both).await;
    until_state(&balancer, "serving", 2).await;
    balancer.stop().await;
}

#[tokio::test]
async fn who_lost_only_its_port_for_load_stays() {
    let (a, b) = (
        Checked::start(HealthMethods::None).await,
        Checked::start(HealthMethods::None).await,
    );
    let load = Checked::start(HealthMethods::None).await;
    let keys = format!(
        "load = {{ kind = \"orca\", interval = \"1s\", port = {} }}",
        load.addr().port()
    );
    let both = [a.addr(), b.addr()];
    let (balancer, mut follower) = with_all_listed(&keys, &both).await;
    eventually("it is asked", || load.open() > 0).await;
    drop(load);
    // They are looked at where their calls go.
    let looked = || a.accepted() > 0 && b.accepted() > 0;
    eventually("they are looked at", looked).await;
    until_state(&balancer, "serving", 2).await;
    balancer.edit(&named(GREETER, &keys, &[(both[0], 3.0), (both[1], 1.0)]));
    assert_eq!(follower.next_list().await.counts()[&both[0]], 3);
    balancer.stop().await;
}

#[tokio::test]
async fn a_registration_that_breaks_off_is_looked_at_by_the_health_check() {
    let backend = Checked::start(HealthMethods::Both).await;
    let other = Checked::start(HealthMethods::Both).await;
    let patient = "health = { kind = \"grpc\", interval = \"60s\" }\n\
                   register = { cidrs = [\"127.0.0.0/8\"] }";
    let tables = "[balancer]\nlisten = \"127.0.0.1:0\"\nreport_interval = \"1s\"\n\
                  shutdown = \"100ms\"\n[admin]\nlisten = \"127.0.0.1:0\"\nmetrics_interval = \"0s\"\n";
    let services = with(patient, &[backend.addr(), other.addr()]);
    let balancer = Balancer::start_with(tables, &services).await;
    let channel = channel(balancer.addr()).await;
    let port = Where::Port(backend.addr().port().into());
    let mut stream = Raw::open(&channel, said(port, "a"), "").await.unwrap();
    stream.registered().await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &[backend.addr(), other.addr()]).await;
    // The first look of a check is within a minute: none yet, or one.
    eventually("it is checked", || backend.watches() == 1).await;
    let before = backend.checks();
    drop(stream);
    eventually("it is looked at", || backend.checks() > before).await;
    until_state(&balancer, "serving", 2).await;
    balancer.stop().await;
}
