//! A file that would take away what a service has is not believed at once.

use super::*;

#[tokio::test]
async fn a_truncated_file_takes_no_backend_away() {
    let mut running = Running::usual();
    running.weight(3).await;
    let text = file(3);
    for text in ["", &text[..text.find("backends").unwrap()]] {
        running.replace(text);
        running.refused().await;
        running.unmoved();
        running.replace(&file(3));
        running.accepted().await;
    }
    running.end().await;
}

/// Services of one backend each.
fn services(names: &[&str]) -> String {
    let service = |name: &&str| {
        format!("[[service]]\nname = \"{name}\"\nbackends = [{{ address = \"10.0.0.1:80\" }}]\n")
    };
    names.iter().map(service).collect()
}

#[tokio::test]
async fn a_file_that_lacks_most_services_is_applied_if_it_still_does_later() {
    let text = services(&["a", "b", "c"]);
    let make = |path: &Path| fs::write(path, &text).unwrap();
    let running = Running::start_with("lookaside.toml", HOLD, make);
    let lines = Lines::default();
    let log = lines.capture();
    running.replace(&services(&["a"]));
    running.reloads("held", 1).await;
    running.services(&["a", "b", "c"]).await;
    running.refused().await;
    // It is applied by itself: nobody touches the file again.
    running.services(&["a"]).await;
    running.accepted().await;
    running.reloads("held", 1).await;
    drop(log);
    let text = lines.text();
    for part in [
        "configuration held back",
        "2 of 3 services are gone (`b`, `c`)",
        "--allow-empty",
        "has lacked most services for",
        "configuration applied",
        "removed b, c",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_that_gets_its_services_back_in_time_has_changed_nothing() {
    let text = services(&["a", "b", "c"]);
    let running = Running::start("lookaside.toml", |path| fs::write(path, &text).unwrap());
    let lines = Lines::default();
    let log = lines.capture();
    running.replace(&services(&["a"]));
    running.reloads("held", 1).await;
    // Asked again it says the same, and the time is not over.
    running.hangup.send(()).unwrap();
    running.reloads("held", 2).await;
    running.replace(&text);
    running.reloads("unchanged", 1).await;
    running.accepted().await;
    drop(log);
    assert!(
        lines.text().contains("configuration valid again"),
        "{}",
        lines.text()
    );
    assert!(!running.config.has_changed().unwrap());
    running.services(&["a", "b", "c"]).await;
    running.end().await;
}

#[tokio::test]
async fn a_file_entry_of_a_registered_backend_may_go_again() {
    let open =
        format!("[[service]]\nname = \"{GREETER}\"\nregister = {{ cidrs = [\"10.0.0.0/8\"] }}\n");
    let pinned = format!("{open}backends = [{{ address = \"10.0.0.1:80\", weight = 2 }}]\n");
    let running = Running::start("lookaside.toml", |path| fs::write(path, &pinned).unwrap());
    let name = ServiceName::parse(GREETER).unwrap();
    let register = |hosts: &[u8]| {
        let members = hosts.iter().map(|host| {
            let addr = format!("10.0.0.{host}:80").parse().unwrap();
            (addr, MemberFields::default())
        });
        let contribution: Contribution = members.collect();
        running
            .catalogue
            .contribute(&name, SourceKind::Registration, contribution);
    };
    // Nobody has registered yet, so the service would be empty.
    running.replace(&open);
    running.reloads("refused", 1).await;
    // Then somebody does, and the file is looked at again by itself.
    register(&[1]);
    running.reloads("applied", 1).await;
    running.accepted().await;
    // Nor may a file take the registered ones away.
    running.replace(&format!("[[service]]\nname = \"{GREETER}\"\n"));
    running.reloads("refused", 2).await;
    running.replace(&pinned);
    running.reloads("applied", 2).await;
    running.end().await;
}
