//! Edits that change what they should and nothing else.

use proptest::prelude::*;

use super::*;
use crate::config::{BackendConfig, parse};

const LAYOUTS: [&str; 6] = [
    // As the example has it.
    r#"# The greeters.
[[service]]
name = "greeter.example.com" # the one
aliases = ["greeter"]
backends = [
  { address = "10.0.1.1:50051", weight = 3, zone = "a" },   # old iron
  { address = "10.0.1.2:50051" },                # weight 1
  { address = "10.0.1.3:50051", drain = true },
]
"#,
    // A table each, indented, and no newline at the end.
    "[[service]]\nname = 'Greeter'\n\n  [[service.backends]]\n  # first\n  weight = 3.0 # three\n  \
     address = \"10.0.1.1:50051\"\n\n\t[[service.backends]]\n\taddress = \"10.0.1.3:50051\"\n\t\
     drain = true # broken disk\n\n  [[service.backends]]\n  address = \"10.0.1.2:50051\"",
    // Windows.
    "[[service]]\r\nname = \"greeter\"\r\n[[service.backends]]\r\naddress = \"10.0.1.2:50051\"\r\n\
     zone = \"a\"\r\n[[service.backends]]\r\naddress = \"10.0.1.1:50051\"\r\n\
     [[service.backends]]\r\ndrain = true\r\naddress = \"10.0.1.3:50051\"\r\n",
    // All in one.
    "service = [{ name = \"greeter\", backends = [{address=\"10.0.1.1:50051\",weight=3},\
     {address=\"10.0.1.2:50051\"},{drain=true,address=\"10.0.1.3:50051\"}]}]",
    // Several lines in an inline table, and an address that is written otherwise.
    "[[service]]\nname = \"greeter\"\nbackends = [ {\n  address = \"[::ffff:10.0.1.1]:50051\", # here\n  \
     weight = 3,\n}, { address = \"10.0.1.3:50051\", # there\n  drain = true,\n},\n\
     { zone = \"a\", address = '10.0.1.2:50051' } ]\n",
    // Behind a mark of byte order, and among characters of several bytes.
    "\u{feff}# größe\n[[service]]\nname = \"a\"\n[[service]]\naliases = [\"x\", \"Greeter.\"]\n\
     backends = [{ zone = \"zürich\", address = \"10.0.1.1:50051\" }, \
     { address = \"10.0.1.2:50051\", drain = false },\
     { address = \"10.0.1.3:50051\", drain = true, zone = \"ö\" }]\nname = \"y\"\n",
];

fn greeter() -> ServiceName {
    ServiceName::parse("greeter").unwrap()
}

fn backend(n: usize) -> BackendAddr {
    format!("10.0.1.{n}:50051").parse().unwrap()
}

fn backends(text: &str) -> Vec<BackendConfig> {
    let config = parse(text, "test").unwrap();
    let services = config.services.into_iter();
    let greeter = services
        .filter(|s| s.name == greeter() || s.aliases.contains(&greeter()))
        .map(|s| s.backends);
    let mut backends: Vec<_> = greeter.flatten().collect();
    backends.sort_by_key(|backend| backend.address);
    backends
}

#[test]
fn a_weight_is_replaced_or_added_and_nothing_else_changes() {
    let text = LAYOUTS[0];
    let weight = |w| Weight::new(w).unwrap();
    let edited = set_weight(text, &greeter(), backend(1), weight(5.5)).unwrap();
    assert_eq!(edited, text.replace("weight = 3", "weight = 5.5"));
    let edited = set_weight(text, &greeter(), backend(2), weight(2.0)).unwrap();
    let two = "\"10.0.1.2:50051\"";
    assert_eq!(edited, text.replace(two, &format!("{two}, weight = 2")));

    let text = LAYOUTS[1];
    let edited = set_weight(text, &greeter(), backend(2), weight(2.0)).unwrap();
    assert_eq!(edited, format!("{text}\n  weight = 2"));
    let edited = set_weight(text, &greeter(), backend(1), weight(3.0)).unwrap();
    assert_eq!(edited, text, "a weight that is the same stays as written");
}

#[test]
fn an_undrain_takes_no_comment_with_it() {
    let text = LAYOUTS[1];
    let edited = set_drain(text, &greeter(), backend(3), false).unwrap();
    assert_eq!(edited, text.replace("drain = true", "drain = false"));
    let text = LAYOUTS[4];
    let edited = set_drain(text, &greeter(), backend(3), false).unwrap();
    assert_eq!(edited, text.replace("drain = true", "drain = false"));
    let text = LAYOUTS[3];
    let edited = set_drain(text, &greeter(), backend(3), false).unwrap();
    assert_eq!(edited, text.replace("drain=true,", ""));
}

#[test]
fn undraining_gives_a_weight_of_0_back() {
    let text = set_weight(LAYOUTS[0], &greeter(), backend(1), Weight::DRAINED).unwrap();
    let edited = set_drain(&text, &greeter(), backend(1), false).unwrap();
    assert_eq!(edited, LAYOUTS[0].replace("weight = 3", "weight = 1"));
    let both = set_drain(&text, &greeter(), backend(1), true).unwrap();
    let edited = set_drain(&both, &greeter(), backend(1), false).unwrap();
    assert_eq!(edited, LAYOUTS[0].replace("weight = 3", "weight = 1"));
}

/// Services that others may register for.
const REGISTERING: [&str; 9] = [
    "[[service]]\nname = \"greeter\" # the one\nregister = { cidrs = [\"10.0.0.0/8\"] }\n",
    "[[service]]\nname = \"greeter\"\nbackends = [{ address = \"10.0.1.1:50051\" }]\n\n\
     [service.register]\ncidrs = [\"10.0.0.0/8\"]",
    "[[service]]\nname = \"greeter\"\nbackends = [ # ours\n    { address = \"10.0.1.1:50051\" }\n]\n\
     register = { cidrs = [\"10.0.0.0/8\"] }\n[[service]]\nname = \"other\"\n",
    "[[service]]\r\nname = \"greeter\"\r\nregister = { cidrs = [\"10.0.0.0/8\"] }\r\n\
     backends = [\r\n  { address = \"10.0.1.1:50051\" }, # old\r\n]\r\n",
    "[[service]]\n  name = \"greeter\"\n  [service.register]\n  cidrs = [\"10.0.0.0/8\"]\n  \
     # one\n  [[service.backends]]\n  address = \"10.0.1.1:50051\" # here\n  \
     [service.backends.labels]\n  a = \"b\"\n\n# next\n[[service]]\nname = \"other\"\n",
    "service = [{ name = \"greeter\", register = { cidrs = [\"10.0.0.0/8\"] } }, { name = \"b\" }]\n",
    "service = [{ name = \"greeter\", register = { cidrs = [\"10.0.0.0/8\"] }, \
     backends = [{ address = \"10.0.1.1:50051\" }] }]",
    "  [[service]]\n  register = { cidrs = [\"10.0.0.0/8\"] }\n  name = \"greeter\"",
    "[[service]]\r\nname = \"greeter\"\r\nregister = { cidrs = [\"10.0.0.0/8\"] }\r\n\r\n\
     [[service.backends]]\r\naddress = \"10.0.1.1:50051\"\r\n\r\n\r\n[[zone]]\r\nname = \"a\"\r\n\
     cidrs = [\"10.0.0.0/8\"]\r\n",
];

#[test]
fn a_backend_that_registers_is_drained_by_an_entry_and_undrained_by_its_removal() {
    for text in REGISTERING {
        let before = backends(text);
        let one = set_drain(text, &greeter(), backend(8), true).unwrap();
        let two = set_drain(&one, &greeter(), backend(9), true).unwrap();
        let drained = backends(&two);
        assert_eq!(drained.len(), before.len() + 2, "{two}");
        let added = &drained[before.len()..];
        assert!(added.iter().all(|b| b.drain == Some(true)), "{two}");
        assert!(two.contains("`lookaside undrain` removes"), "{two}");
        assert_eq!(two.contains("\r\n"), text.contains("\r\n"));
        assert_eq!(set_drain(&two, &greeter(), backend(9), true).unwrap(), two);

        let back = set_drain(&two, &greeter(), backend(9), false).unwrap();
        assert_eq!(back, one);
        assert_eq!(
            set_drain(&back, &greeter(), backend(8), false).unwrap(),
            text
        );
        let other = set_drain(&two, &greeter(), backend(8), false).unwrap();
        assert_eq!(
            set_drain(&other, &greeter(), backend(9), false).unwrap(),
            text
        );
        assert_eq!(
            set_drain(text, &greeter(), backend(9), false).unwrap(),
            text
        );
    }
}

#[test]
fn the_entry_of_a_backend_that_registers_says_so() {
    let edited = set_drain(REGISTERING[0], &greeter(), backend(9), true).unwrap();
    assert_eq!(
        edited,
        "[[service]]\nname = \"greeter\" # the one\nbackends = [\n  \
         { address = \"10.0.1.9:50051\", drain = true }, \
         # registers itself; `lookaside undrain` removes this entry\n]\n\
         register = { cidrs = [\"10.0.0.0/8\"] }\n"
    );
}

#[test]
fn an_entry_that_was_given_more_than_a_drain_or_is_the_files_own_stays() {
    let drained = set_drain(REGISTERING[1], &greeter(), backend(9), true).unwrap();
    let weighted = set_weight(&drained, &greeter(), backend(9), Weight::new(5.0).unwrap());
    let back = set_drain(&weighted.unwrap(), &greeter(), backend(9), false).unwrap();
    let left = &backends(&back)[1];
    assert_eq!(
        (left.drain, left.weight.map(Weight::value)),
        (None, Some(5.0))
    );

    let own = set_drain(REGISTERING[1], &greeter(), backend(1), true).unwrap();
    let back = set_drain(&own, &greeter(), backend(1), false).unwrap();
    assert_eq!(back, REGISTERING[1]);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let text = LAYOUTS[0];
    let wrong = ServiceName::parse("greter").unwrap();
    let error = set_drain(text, &wrong, backend(1), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no service `greter`; did you mean `greeter`? \
         there are greeter.example.com, greeter"
    );
    let wrong = "10.0.1.1:50052".parse().unwrap();
    let error = set_drain(text, &greeter(), wrong, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "service `greeter.example.com` has no backend 10.0.1.1:50052; did you mean \
         10.0.1.1:50051? it has 10.0.1.1:50051, 10.0.1.2:50051, 10.0.1.3:50051"
    );
    let error = set_drain("a = 1\nb = ?", &greeter(), backend(1), true).unwrap_err();
    assert!(
        error.to_string().starts_with("line 2, column 5: "),
        "{error}"
    );
    let error = set_drain("", &greeter(), backend(1), true).unwrap_err();
    assert!(error.to_string().ends_with("the file has none"), "{error}");
}

proptest! {
    #[test]
    fn a_weight_set_is_the_weight_read(
        layout in 0..LAYOUTS.len(), n in 1usize..=3, weight in prop_oneof![
            Just(0.0), 1e-9..1e6f64, (1u32..1000).prop_map(f64::from)
        ]
    ) {
        let text = LAYOUTS[layout];
        let weight = Weight::new(weight).unwrap();
        let name = greeter();
        let edited = set_weight(text, &name, backend(n), weight).unwrap();
        let mut wanted = backends(text);
        wanted[n - 1].weight = Some(weight);
        prop_assert_eq!(backends(&edited), wanted);
        prop_assert_eq!(set_weight(&edited, &name, backend(n), weight).unwrap(), edited);
    }

    #[test]
    fn undraining_undoes_draining_to_the_byte(layout in 0..LAYOUTS.len(), n in 1usize..=2) {
        let text = LAYOUTS[layout];
        let drained = set_drain(text, &greeter(), backend(n), true).unwrap();
        let mut wanted = backends(text);
        let was = wanted[n - 1].drain;
        wanted[n - 1].drain = Some(true);
        prop_assert_eq!(backends(&drained), wanted);
        let back = set_drain(&drained, &greeter(), backend(n), false).unwrap();
        if was.is_none() {
            prop_assert_eq!(back, text);
        } else {
            prop_assert_ne!(backends(&back)[n - 1].drain, Some(true));
        }
    }

    #[test]
    fn undraining_lets_go_of_the_one_backend(layout in 0..LAYOUTS.len()) {
        let text = LAYOUTS[layout];
        let edited = set_drain(text, &greeter(), backend(3), false).unwrap();
        let (before, after) = (backends(text), backends(&edited));
        prop_assert_eq!(&before[..2], &after[..2]);
        prop_assert_ne!(after[2].drain, Some(true));
        prop_assert_eq!(after.len(), 3);
    }

    #[test]
    fn no_text_panics(text in ".{0,200}", drain: bool) {
        let _ = set_drain(&text, &greeter(), backend(1), drain);
    }

    #[test]
    fn no_cut_of_a_registering_service_panics(
        layout in 0..REGISTERING.len(), from: prop::sample::Index, to: prop::sample::Index
    ) {
        let text = set_drain(REGISTERING[layout], &greeter(), backend(9), true).unwrap();
        let chars: Vec<char> = text.chars().collect();
        let (a, b) = (from.index(chars.len()), to.index(chars.len()));
        let text: String = chars[a.min(b)..a.max(b)].iter().collect();
        let _ = set_drain(&text, &greeter(), backend(9), false);
        let _ = set_drain(&text, &greeter(), backend(8), true);
    }

    #[test]
    fn no_cut_panics(layout in 0..LAYOUTS.len(), from: prop::sample::Index, to: prop::sample::Index) {
        let chars: Vec<char> = LAYOUTS[layout].chars().collect();
        let (a, b) = (from.index(chars.len()), to.index(chars.len()));
        let text: String = chars[a.min(b)..a.max(b)].iter().collect();
        let _ = set_drain(&text, &greeter(), backend(3), false);
        let _ = set_weight(&text, &greeter(), backend(1), Weight::ONE);
    }
}
