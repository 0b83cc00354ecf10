//! The file: what it says is what was said, and nothing else is believed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use prometheus_client::registry::Registry;
use rustix::fs::{CWD, mkfifoat};

use super::*;
use crate::catalogue::CatalogueMetrics;
use lookaside_core::model::ServiceName;
use lookaside_core::plan::{PlanState, SavedPlan};

const HOUR: Duration = Duration::from_secs(3600);

fn at(hours: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 400_000 + HOUR * hours
}

fn learned() -> SavedPlan {
    PlanState::default().save(Duration::from_secs(5))
}

fn services(age: Duration) -> BTreeMap<ServiceName, Remembered> {
    let names = ["greeter.test", "teller.test"];
    let named = names.map(|name| {
        let name = ServiceName::parse(name).unwrap();
        (name, Remembered::new(learned(), age))
    });
    named.into()
}

fn unusable(text: &[u8]) -> Unusable {
    decode(text, at(0)).unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_what_was_written_and_its_age() {
    let text = encode(&services(HOUR), at(0)).unwrap();
    let decoded = decode(&text, at(2)).unwrap();
    assert_eq!(decoded.age, 2 * HOUR);
    assert!(decoded.unreadable.is_empty());
    assert_eq!(decoded.services.len(), 2);
    let (name, remembered) = &decoded.services[0];
    assert_eq!(name.as_str(), "greeter.test");
    assert_eq!(remembered.age(), 3 * HOUR);
    assert_eq!(remembered.plan, learned());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_makes_it_new_or_too_old_and_nothing_else() {
    let text = encode(&services(Duration::ZERO), at(48)).unwrap();
    for before in [at(0), at(47), SystemTime::UNIX_EPOCH] {
        let decoded = decode(&text, before).unwrap();
        assert_eq!(decoded.age, Duration::ZERO);
        assert_eq!(decoded.services[0].1.age(), Duration::ZERO);
    }
    let age = decode(&text, at(71)).unwrap().age;
    assert_eq!(age, 23 * HOUR);
    let error = decode(&text, at(73)).unwrap_err();
    assert_eq!(error, Unusable::TooOld(25 * HOUR));
    assert!(error.to_string().contains("25 hours ago"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_short_or_changed_anywhere_is_not_believed() {
    let text = encode(&services(HOUR), at(0)).unwrap();
    for end in 0..text.len() {
        let error = unusable(&text[..end]);
        let damaged = matches!(
            error,
            Unusable::Foreign | Unusable::Damaged(_) | Unusable::Version(_)
        );
        assert!(damaged, "cut at {end}: {error}");
    }
    for byte in 0..text.len() {
        let mut text = text.clone();
        text[byte] ^= 1;
        unusable(&text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_version_wrote_is_told_apart_from_what_is_no_state() {
    let text = encode(&services(HOUR), at(0)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let newer = text.replacen("state 1 ", "state 27 ", 1);
    assert_eq!(
        unusable(newer.as_bytes()),
        Unusable::Version("27".to_owned())
    );
    assert_eq!(unusable(b"[balancer]\n"), Unusable::Foreign);
    assert_eq!(unusable(b""), Unusable::Foreign);
}

#[tokio::test(start_paused = true)]
async fn one_service_that_cannot_be_read_leaves_the_others() {
    let text = encode(&services(HOUR), at(0)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (_, body) = text.split_once('\n').unwrap();
    let body = body.replacen("\"weights\"", "\"heights\"", 1);
    let sum = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    let text = format!("lookaside-state 1 {sum:016x}\n{body}");
    let decoded = decode(text.as_bytes(), at(0)).unwrap();
    assert_eq!(decoded.unreadable.len(), 1);
    assert_eq!(decoded.unreadable[0].0, "greeter.test");
    assert_eq!(decoded.services.len(), 1);
}

#[test]
fn the_file_is_replaced_whole_and_never_what_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    assert_eq!(trouble_with(&path), None);
    assert!(disk::read(&path).unwrap().is_none());
    // As a balancer leaves it that is killed while it writes.
    fs::write(folder.path().join("state.new"), "lookaside-st").unwrap();
    for text in ["lookaside-state 1\nlonger", "lookaside-state 1\n"] {
        disk::write(&path, text.as_bytes()).unwrap();
        assert_eq!(disk::read(&path).unwrap().unwrap(), text.as_bytes());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "[balancer]").unwrap();
    assert!(disk::write(&theirs, b"lookaside-state 1\n").is_err());
    assert_eq!(fs::read(&theirs).unwrap(), b"[balancer]");
    for (path, wanted) in [
        (theirs, "no state of a balancer"),
        (folder.path().to_owned(), "is a folder"),
        (folder.path().join("missing/state"), "make it"),
        (path.join("state"), "is no folder"),
    ] {
        let trouble = trouble_with(&path).unwrap();
        assert!(trouble.contains(wanted), "{trouble}");
        assert!(disk::write(&path, b"lookaside-state 1\n").is_err());
    }
}

#[test]
fn a_state_behind_links_follows_them() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("state");
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink("second", &link).unwrap();
    symlink("elsewhere/kept", folder.path().join("second")).unwrap();
    // The first time there is nothing behind them yet.
    assert_eq!(trouble_with(&link), None);
    for text in ["lookaside-state 1\nlonger", "lookaside-state 1\n"] {
        disk::write(&link, text.as_bytes()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(elsewhere.join("kept")).unwrap(), text.as_bytes());
        assert_eq!(disk::read(&link).unwrap().unwrap(), text.as_bytes());
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);

    let around = folder.path().join("around");
    symlink("around", &around).unwrap();
    assert!(trouble_with(&around).unwrap().contains("leads to itself"));
    assert!(disk::write(&around, b"lookaside-state 1\n").is_err());
    assert!(fs::symlink_metadata(&around).unwrap().is_symlink());
}

#[test]
fn a_state_that_blocks_is_neither_read_nor_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("state");
    mkfifoat(CWD, &pipe, 0o600.into()).unwrap();
    assert!(trouble_with(&pipe).unwrap().contains("not a regular file"));
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    assert!(StateFile::load(pipe.clone(), &catalogue).loaded.is_none());
    assert!(disk::write(&pipe, b"lookaside-state 1\n").is_err());
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
}

#[test]
fn what_keeps_it_from_being_saved_is_told_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/state");
    let error = disk::write(&path, b"lookaside-state 1\n").unwrap_err();
    assert!(unsaved(&error).contains("make its folder"), "{error}");
    let error = io::Error::from(io::ErrorKind::PermissionDenied);
    assert!(unsaved(&error).contains("let this user write"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn it_is_saved_at_the_end_and_failures_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("folder/state");
    let mut registry = Registry::default();
    let metrics = StateMetrics::register(&mut registry);
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    let greeter = ServiceName::parse("greeter.test").unwrap();
    catalogue.remember(greeter.clone(), Remembered::new(learned(), HOUR));
    let state = StateFile::load(path.clone(), &catalogue);
    let (draining, end) = (CancellationToken::new(), CancellationToken::new());
    let keeping = tokio::spawn(state.keep(
        Arc::clone(&catalogue),
        metrics,
        draining.clone(),
        end.clone(),
    ));
    let shown = |line: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().any(|found| found == line)
    };
    while !shown("state_last_save_successful 0") {
        tokio::time::advance(LEAST).await;
        tokio::task::yield_now().await;
    }
    fs::create_dir(path.parent().unwrap()).unwrap();
    draining.cancel();
    end.cancel();
    keeping.await.unwrap();
    assert!(shown("state_last_save_successful 1"));
    assert!(shown("state_services 1"));

    // Another one begins with it.
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    let state = StateFile::load(path, &catalogue);
    assert!(state.loaded.is_some());
    let remembered = catalogue.recollect().await;
    assert_eq!(remembered[&greeter].plan, learned());
    assert!(remembered[&greeter].age() >= HOUR);
}
