//! Any text is a configuration or faults with places. What parses can be
//! edited, and the edit says what it was asked to; and no text, whole or cut
//! short, takes a service's last backend at a reload.
//!
//! A NUL in the input separates the file that runs from the one that comes.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use lookaside_server::config::{
    Allowed, Config, Outcome, Running, parse, reload, set_drain, set_weight,
};
use lookaside_core::model::Weight;

fuzz_target!(|data: &str| {
    let (text, next) = data.split_once('\0').unwrap_or((data, ""));
    let config = match parse(text, "fuzz") {
        Ok(config) => config,
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            for error in errors.errors {
                assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
                assert!(!error.message.contains(char::is_control));
            }
            return;
        }
    };
    edits(text, &config);
    reloads(text, next, &config);
});

fn edits(text: &str, config: &Config) {
    let seven = Weight::new(7.0).expect("7 is a weight");
    for (s, service) in config.services.iter().enumerate() {
        for (b, backend) in service.backends.iter().enumerate() {
            let read = |text: &str| {
                let config = parse(text, "fuzz").expect("an edit breaks nothing");
                config.services[s].backends[b].clone()
            };
            let edited = set_weight(text, &service.name, backend.address, seven);
            let mut wanted = backend.clone();
            wanted.weight = Some(seven);
            assert_eq!(read(&edited.expect("it is there")), wanted);

            let drained = set_drain(text, &service.name, backend.address, true);
            let drained = drained.expect("it is there");
            let mut wanted = backend.clone();
            wanted.drain = Some(true);
            assert_eq!(read(&drained), wanted);
            let undrained = set_drain(&drained, &service.name, backend.address, false);
            let undrained = undrained.expect("it is there");
            let after = read(&undrained);
            assert_ne!(after.drain, Some(true));
            assert!(!after.weight.is_some_and(Weight::is_drained));
            // What was not drained is as it was.
            let was_drained = backend.weight.is_some_and(Weight::is_drained);
            assert!(was_drained || backend.drain.is_some() || undrained == text);
        }
    }
}

/// What becomes of a text if only the file lists backends.
fn reloaded(config: &Config, text: &str) -> Outcome {
    let elsewhere = &BTreeSet::new();
    reload(Running { config, elsewhere }, text, "fuzz", Allowed::Some)
}

fn reloads(text: &str, next: &str, running: &Config) {
    assert!(matches!(
        reloaded(running, text),
        Outcome::Unchanged { restart } if restart.is_empty()
    ));
    let cut = (0..text.len()).filter(|end| text.is_char_boundary(*end));
    // The cuts behind the other file's length: one per input is enough.
    let cut = cut.skip(next.len()).take(1).map(|end| &text[..end]);
    for next in cut.chain([next]) {
        let Outcome::Applied { config, .. } = reloaded(running, next) else {
            continue;
        };
        assert!(!config.services.is_empty() || running.services.is_empty());
        let names = config.services.iter();
        let names = names.flat_map(|s| std::iter::once(&s.name).chain(&s.aliases));
        let names: BTreeSet<_> = names.collect();
        let old = running.services.iter();
        let gone = old.filter(|old| !names.contains(&old.name)).count();
        assert!(gone < 2 || 2 * gone <= running.services.len());
        for service in &config.services {
            let before = running.services.iter().find(|old| old.name == service.name);
            let had_some = before.is_some_and(|old| !old.backends.is_empty());
            assert!(!had_some || !service.backends.is_empty());
        }
        let again = reloaded(&config, next);
        assert!(matches!(again, Outcome::Unchanged { .. }));
    }
}
