//! What goes wrong, and what is said of it.

use super::*;

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_found_out_again_stays_what_it_was() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(SRV, srv(&["lb.test"]));
    fake.set("A lb.test.", ips(&[9]));
    fake.set(TXT, Reply::Txt(ROUND_ROBIN));
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(true), reresolve.clone());
    assert_eq!(settled(&mut stream).await, found(&[1], &[9], true));
    for question in ["A a.test", TXT] {
        fake.set(question, Reply::Fails("no luck"));
    }
    fake.set("A lb.test.", ips(&[8]));
    reresolve.request();
    assert_eq!(settled(&mut stream).await, found(&[1], &[8], true));
    // Nor does a name that is gone take away where RPCs can go.
    for question in ["A a.test", SRV, TXT] {
        fake.set(question, Reply::Ips(vec![]));
    }
    let error = settled(&mut stream).await.unwrap_err();
    assert!(error.contains("no addresses"), "{error}");
    fake.set(SRV, srv(&["lb.test"]));
    fake.set("A a.test", late(5.0, ips(&[2])));
    let early = next(&mut stream).await.unwrap();
    assert_eq!((early.endpoints, early.pending), (vec![1], true));
}

#[tokio::test(start_paused = true)]
async fn no_answer_about_balancers_is_not_the_answer_that_there_are_none() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(SRV, Reply::Fails("no luck"));
    let mut stream = run(fake.clone().looks(false), Reresolve::default());
    let seen = settled(&mut stream).await.unwrap();
    assert_eq!((seen.endpoints, seen.balancers), (vec![1], None));
    // It is asked again without a wish.
    fake.set(SRV, Reply::Srv(vec![]));
    assert_eq!(settled(&mut stream).await, found(&[1], &[], false));
}

#[tokio::test(start_paused = true)]
async fn without_any_answer_both_reasons_are_told() {
    let fake = Fake::default();
    fake.set("A a.test", Reply::Fails("server failure"));
    fake.set(SRV, Reply::Fails("refused"));
    let mut stream = run(fake.looks(false), Reresolve::default());
    let error = next(&mut stream).await.unwrap_err();
    assert!(
        error.contains("server failure") && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_srv_target_stands_for_itself() {
    let fake = Fake::default();
    let hosts = ["gone.test", "bad.test", "lb.test", "slow.test", "lb2.test"];
    fake.set(SRV, srv(&hosts));
    fake.set("A bad.test.", Reply::Fails("no luck"));
    fake.set("A lb.test.", ips(&[8]));
    fake.set("A slow.test.", late(10.0, ips(&[7])));
    fake.set("A lb2.test.", late(0.4, ips(&[9])));
    let start = Instant::now();
    let mut stream = run(fake.looks(false), Reresolve::default());
    let some = next(&mut stream).await.unwrap();
    assert_eq!(some.balancers, Some(vec![8, 9]));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(settled(&mut stream).await, found(&[], &[8, 7, 9], false));
}

#[tokio::test(start_paused = true)]
async fn of_hundreds_of_srv_records_some_are_looked_into() {
    let fake = Fake::default();
    let names: Vec<_> = (0..500).map(|i| format!("lb{i}.test")).collect();
    let hosts: Vec<_> = names.iter().map(|name| &**name).collect();
    fake.set(SRV, srv(&hosts));
    for name in &names {
        fake.set(&format!("A {name}."), ips(&[9]));
    }
    let mut stream = run(fake.clone().looks(false), Reresolve::default());
    let seen = settled(&mut stream).await.unwrap();
    assert_eq!(seen.balancers.map(|all| all.len()), Some(32));
    assert_eq!(fake.0.lock().unwrap().asked.len(), 2 + 32);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_when_it_changes_and_not_with_every_look() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(SRV, Reply::Fails("no luck"));
    fake.set(TXT, Reply::Txt("grpc_config=nonsense"));
    let mut stream = run(fake.clone().looks(true), Reresolve::default());
    let hour = Duration::from_secs(3600);
    settled(&mut stream).await.unwrap();
    assert!(timeout(hour, next(&mut stream)).await.is_err());
    let logged = std::mem::take(&mut *warnings.0.lock().unwrap());
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged[0].contains("no luck"), "{logged:?}");
    assert!(logged[1].contains("no JSON"), "{logged:?}");
    fake.set(SRV, Reply::Fails("other luck"));
    assert!(timeout(hour, next(&mut stream)).await.is_err());
    let logged = std::mem::take(&mut *warnings.0.lock().unwrap());
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].contains("other luck"), "{logged:?}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_service_config_changes_nothing_until_it_is_mended() {
    let fake = Fake::default();
    fake.set("A a.test", ips(&[1]));
    fake.set(TXT, Reply::Txt(ROUND_ROBIN));
    let reresolve = Reresolve::default();
    let mut stream = run(fake.clone().looks(true), reresolve.clone());
    assert_eq!(settled(&mut stream).await, found(&[1], &[], true));
    fake.set("A a.test", ips(&[2]));
    fake.set(TXT, Reply::Txt("grpc_config=[{}]"));
    reresolve.request();
    assert_eq!(settled(&mut stream).await, found(&[2], &[], true));
    // One that is gone is an answer.
    fake.set(TXT, Reply::Txt("v=spf1 -all"));
    reresolve.request();
    assert_eq!(settled(&mut stream).await, found(&[2], &[], false));
}
