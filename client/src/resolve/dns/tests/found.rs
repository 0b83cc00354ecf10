//! What is found, and when it is passed on.

use super::*;

#[tokio::test(start_paused = true)]
async fn addresses_balancers_and_service_config_are_found_in_every_combination() {
    for addresses in [false, true] {
        for balancers in [false, true] {
            for config in [false, true] {
                let fake = Fake::default();
                if addresses {
                    fake.set("A a.test", ips(&[1, 2]));
                }
                if balancers {
                    fake.set(SRV, srv(&["lb.test", "lb2.test"]));
                    fake.set("A lb.test.", ips(&[8, 7]));
                    fake.set("A lb2.test.", ips(&[9]));
                }
                if config {
                    fake.set(TXT, Reply::Txt(ROUND_ROBIN));
                }
                let mut stream = run(fake.looks(true), Reresolve::default());
                let result = settled(&mut stream).await;
                let endpoints: &[u8] = if addresses { &[1, 2] } else { &[] };
                let known: &[u8] = if balancers { &[8, 7, 9] } else { &[] };
                if addresses || balancers {
                    assert_eq!(result, found(endpoints, known, config));
                } else {
                    let error = result.unwrap_err();
                    assert!(error.contains("a.test has no addresses"), "{error}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_query_holds_up_another() {
    let (a, b, c) = (ips(&[1]), srv(&["lb.test"]), Reply::Txt(ROUND_ROBIN));
    for slowest in 0..3 {
        let fake = Fake::default();
        let slow = |i, reply| {
            if i == slowest {
                late(20.0, reply)
            } else {
                reply
            }
        };
        fake.set("A a.test", slow(0, a.clone()));
        fake.set(SRV, slow(1, b.clone()));
        fake.set("A lb.test.", ips(&[9]));
        fake.set(TXT, slow(2, c.clone()));
        let start = Instant::now();
        let mut stream = run(fake.looks(true), Reresolve::default());
        let mut last = next(&mut stream).await.unwrap();
        assert!(last.pending);
        while start.elapsed() < Duration::from_secs(20) {
            // All that is not slow was there at once.
            let wanted = Seen {
                endpoints: if slowest == 0 { vec![] } else { vec![1] },
                balancers: (slowest != 1).then(|| vec![9]),
                round_robin: slowest != 2,
                pending: true,
            };
            let next = next(&mut stream).await.unwrap();
            if start.elapsed() >= Duration::from_secs(20) {
                assert_eq!(last, wanted);
            }
            last = next;
        }
        assert_eq!(Ok(last), found(&[1], &[9], true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_a_balancer_is_not_called_past_it() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(SRV, late(0.3, srv(&["lb.test"])));
    fake.set("A lb.test.", late(8.0, ips(&[9])));
    let mut stream = run(fake.looks(false), Reresolve::default());
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(Ok(seen(&first)), found(&[1], &[9], false));
}

#[tokio::test(start_paused = true)]
async fn addresses_do_not_wait_for_balancers_for_ever() {
    // Half a second for whether there is one, ten for where it is.
    for (srv_after, ip_after, wanted) in [(20.0, 0.0, 0.5), (0.3, 20.0, 10.0)] {
        let fake = Fake::default();
        fake.set("A a.test", ips(&[1]));
        fake.set(SRV, late(srv_after, srv(&["lb.test"])));
        fake.set("A lb.test.", late(ip_after, ips(&[9])));
        let start = Instant::now();
        let mut stream = run(fake.looks(false), Reresolve::default());
        let first = next(&mut stream).await.unwrap();
        assert_eq!((first.endpoints, first.balancers), (vec![1], None));
        let waited = start.elapsed().as_secs_f64();
        assert!((waited - wanted).abs() < 0.01, "{waited}");
        assert_eq!(settled(&mut stream).await, found(&[1], &[9], false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_config_is_looked_for_only_if_asked() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(TXT, Reply::Txt(ROUND_ROBIN));
    let start = Instant::now();
    let mut stream = run(fake.clone().looks(false), Reresolve::default());
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
    assert!(fake.asked(TXT, start).is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_that_say_the_same_count_once() {
    let fake = Fake::default();
    fake.set(SRV, srv(&["lb.test", "lb.test", "lb.test"]));
    fake.set("A lb.test.", ips(&[8, 9, 8]));
    let start = Instant::now();
    let mut stream = run(fake.clone().looks(false), Reresolve::default());
    assert_eq!(settled(&mut stream).await, found(&[], &[8, 9], false));
    assert_eq!(fake.asked("A lb.test.", start).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_ip_literal_is_not_looked_up() {
    // Nobody listens there.
    let dns = Dns::at("127.0.0.1:1".parse().unwrap()).unwrap();
    let reresolve = Reresolve::default();
    for (host, wanted) in [("10.0.0.1", "10.0.0.1:80"), ("::1", "[::1]:80")] {
        let mut resolver = DnsResolver::new(dns.clone(), host, Some(80)).txt_service_config(true);
        let mut stream = resolver.resolve(reresolve.clone());
        let only = Resolution::from(vec![Endpoint::new(wanted.parse::<SocketAddr>().unwrap())]);
        assert_eq!(stream.next().await, Some(Ok(only)));
        reresolve.request();
        assert!(
            timeout(Duration::from_secs(3600), stream.next())
                .await
                .is_err()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_by_percentage_stays_the_same_from_look_to_look() {
    const HALF: &str = r#"grpc_config=[{"percentage":50,"serviceConfig":{"loadBalancingConfig":[{"round_robin":{}}]}}]"#;
    let mut chosen = 0;
    for seed in 0..40 {
        let fake = Fake::default();
        fake.set(TXT, Reply::Txt(HALF));
        let mut looks = fake.clone().looks(true);
        looks.txt.as_mut().unwrap().seed = seed;
        let reresolve = Reresolve::default();
        let mut stream = run(looks, reresolve.clone());
        let mut choices = vec![];
        for address in 1..4 {
            fake.set("A a.test", ips(&[address]));
            reresolve.request();
            choices.push(settled(&mut stream).await.unwrap().round_robin);
        }
        assert!(choices.iter().all(|choice| *choice == choices[0]));
        chosen += usize::from(choices[0]);
    }
    assert!((10..=30).contains(&chosen), "{chosen}");
}
